"""Python imports this at its start when the folder is on its path: a job's script goes to `__main__.py`'s process."""

import os
import sys


def hand_over(script: str, address: str) -> None:
    """Have the script run there and end as it ends; without anyone there, return and run it here."""
    import json
    import socket

    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(address)
    except OSError:
        return
    job = {"arguments": [script], "directory": os.getcwd(), "environment": dict(os.environ)}
    socket.send_fds(connection, [json.dumps(job).encode()], [0, 1, 2])
    os._exit((connection.recv(1) or b"\1")[0])


if "OVERTRAIN_WARM" in os.environ and "/.snakemake/scripts/" in sys.orig_argv[-1]:
    hand_over(sys.orig_argv[-1], os.environ["OVERTRAIN_WARM"])

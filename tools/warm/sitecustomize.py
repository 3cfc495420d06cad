"""Imported by every Python that starts with this folder on its path, hiding others of its name.

The script of a job goes to the process of `__main__.py`, if that is the same environment's.
"""

import os
import sys


def hand_over(script: str, address: str) -> None:
    """Have the script run there, and end as it ends; if nobody is there, run it here."""
    import json
    import socket

    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(address)
    except OSError:
        return
    job = {"script": script, "directory": os.getcwd(), "environment": dict(os.environ)}
    try:
        socket.send_fds(connection, [json.dumps(job).encode()], [0, 1, 2])
    except OSError:  # an environment too long for a packet
        return
    try:
        status = connection.recv(1)
    except KeyboardInterrupt:
        os._exit(130)
    os._exit((status or b"\1")[0])


if "OVERTRAIN_WARM" in os.environ and "/.snakemake/scripts/" in sys.orig_argv[-1]:
    prefix, address = os.environ["OVERTRAIN_WARM"].split(os.pathsep)
    if prefix == sys.prefix:
        hand_over(sys.orig_argv[-1], address)

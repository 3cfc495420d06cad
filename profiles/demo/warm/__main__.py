"""Run a command whose jobs start without imports: `python profiles/demo/warm snakemake ...`.

The demo has hundreds of jobs of seconds, and importing torch or seaborn takes two to three of them.
This process imports them once, listens, and forks for each script that Snakemake starts
(`sitecustomize.py` beside this file sends it here instead of running it). Every fork starts from
the same state, and each random draw of a job is seeded by what it is for, so a job's results are
those that it has on its own.

Snakemake's benchmark files then tell a job's time but not its memory, which is in the job's log.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

HERE = Path(__file__).parent
PRELOADED = ["snakemake.script", "torch", "torch.func", "pyarrow.parquet", "seaborn"]
PRELOADED += [
    "statsmodels.stats.multitest",
    "overtrain.sweep",
    "overtrain.finetune",
    "overtrain.plots",
]
KIND = (socket.AF_UNIX, socket.SOCK_SEQPACKET)  # a message is one packet


def serve(command: list[str]) -> int:
    """Run `command` to its end, and for it the scripts that arrive; its exit status."""
    sys.path.insert(0, str(HERE.parents[2] / "scripts"))
    for module in PRELOADED:
        importlib.import_module(module)
    gc.freeze()  # no fork looks through all of this for garbage, or copies its pages for that
    with tempfile.TemporaryDirectory() as folder, socket.socket(*KIND) as listening:
        address = f"{folder}/socket"
        listening.bind(address)
        listening.listen()
        listening.settimeout(0.5)
        path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
        running = subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": path, "OVERTRAIN_WARM": address}
        )
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Snakemake's to act on
        jobs: set[int] = set()
        while running.poll() is None:
            jobs = {job for job in jobs if os.waitpid(job, os.WNOHANG)[0] == 0}
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            with connection:
                job = os.fork()
                if job == 0:
                    listening.close()
                    run(connection)
                jobs.add(job)
        return running.returncode


def run(connection: socket.socket) -> None:
    """In the fork: become the job that the connection describes, report its status, and end."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    connection.settimeout(None)
    request, files, *_ = socket.recv_fds(connection, 2**20, 3)
    job = json.loads(request)
    for target, file in enumerate(files):
        os.dup2(file, target)
    os.chdir(job["directory"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.argv = [job["script"]]
    # Whoever stops a job stops the process that waits for it.
    threading.Thread(target=lambda: connection.recv(1) or os._exit(1), daemon=True).start()
    status = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    connection.send(bytes([status & 255]))
    os._exit(status)


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1:]))

"""Run a command whose jobs start without imports: `python tools/warm snakemake ...`.

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
    "overtrain.configuration",
    "overtrain.measuring.directions",
    "overtrain.measuring.sharpness",
    "overtrain.training.finetune",
    "overtrain.figures.plots",
    "overtrain.measuring.held_out",
    "lm_eval.evaluator",
    "lm_eval.models.huggingface",
    "transformers.models.olmo.modeling_olmo",
    "overtrain.training.instruct",
    "overtrain.training.visual",
    "overtrain.measuring.generate",
    "overtrain.measuring.vision",
    "rouge_score.rouge_scorer",
]
KIND = (socket.AF_UNIX, socket.SOCK_SEQPACKET)  # a message is one packet


def serve(command: list[str]) -> int:
    """Run `command` to its end, and for it the scripts that arrive; its exit status."""
    environment = dict(os.environ)
    # Libraries read these when they are loaded. Snakemake sets them to a job's threads.
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    sys.path.insert(0, str(HERE.parents[1] / "scripts"))
    for module in PRELOADED:
        importlib.import_module(module)
    gc.freeze()  # no fork looks through all of this for garbage, or copies its pages for that
    with tempfile.TemporaryDirectory() as folder:
        address = f"{folder}/socket"
        try:
            listening = socket.socket(*KIND)
            listening.bind(address)
        except OSError as error:
            print(f"jobs import for themselves: no socket at {address} ({error})", file=sys.stderr)
            return subprocess.call(command, env=environment)
        listening.listen()
        listening.settimeout(0.5)
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, (str(HERE), environment.get("PYTHONPATH")))
        )
        environment["OVERTRAIN_WARM"] = os.pathsep.join((sys.prefix, address))
        running = subprocess.Popen(command, env=environment)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: running.send_signal(number))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all
        jobs: set[int] = set()
        while running.poll() is None:
            jobs = {job for job in jobs if os.waitpid(job, os.WNOHANG)[0] == 0}
            try:
                connection, _ = listening.accept()
                job = os.fork()
            except OSError:  # nobody came; or no process to be had, and the job fails
                continue
            if job == 0:
                try:
                    listening.close()
                    run(connection)
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(1)
            connection.close()
            jobs.add(job)
        return running.returncode


def run(connection: socket.socket) -> None:
    """In the fork: become the job that the connection describes, report its status, and end."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    connection.settimeout(None)
    request, files, *_ = socket.recv_fds(connection, 2**20, 3)
    if not request:  # too long to send, and it runs itself; or stopped before it was sent
        return
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

"""One process at a time on a job's files, on all nodes that share the file system.

A lock is an `flock`. The kernel releases it when the process that holds it dies, however it dies;
when a node dies, the file server does, once the node's lease has ended. On a shared file system it
holds between nodes where the system carries flock over: NFS from version 4 on (or with lockd),
Lustre mounted with `flock` (not `localflock`), GPFS, CephFS, BeeGFS with global locks.
docs/cluster.md has a command that tries it on two nodes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from overtrain import PipelineError

POLL = 1.0  # seconds between two looks at a lock that another process holds


def owner() -> str:
    """This process, for whoever waits for it: how to find it and, of a Slurm job, how to end it."""
    where = f"process {os.getpid()} on {socket.gethostname()}"
    job = os.environ.get("SLURM_JOB_ID")
    return f"{where} (Slurm job {job}; `scancel {job}` ends it)" if job else where


@contextmanager
def exclusive(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path`, and remove it at the end.

    While another process holds it, wait and say for whom, or without `wait` raise `HeldError`.
    PipelineError where the file system has no flock.
    """
    from filelock import FileLock, Timeout  # each start reads this module, few hold a lock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, fallback_to_soft=False, on_acquired=sign, poll_interval=POLL)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout as held:
            who = read_owner(path)
            if not wait:
                raise HeldError(who) from held
            print(f"waiting for {who}, which works on the same files", flush=True)
            lock.acquire()
            print("it has ended", flush=True)
    except OSError as error:
        if isinstance(error, Timeout):
            raise
        raise PipelineError(
            f"{path}: no lock to be had ({error.strerror}); results/ must lie on a file system "
            "with flock (docs/cluster.md)"
        ) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # who waits for it notices, and makes it anew
        lock.release()


class HeldError(Exception):
    """Another process holds a lock; str() says which."""


def sign(file: int) -> None:
    """Write the owner into the lock file, for others to read."""
    os.ftruncate(file, 0)
    os.pwrite(file, owner().encode(), 0)


def read_owner(path: Path) -> str:
    try:
        return path.read_text() or "another process"
    except OSError:
        return "another process"

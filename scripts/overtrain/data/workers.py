"""Process pools whose workers end with their parent, however it ends, and share its threads."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies (Linux; elsewhere it stays)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start(threads: int | None) -> None:
    die_with_parent()
    if threads:  # of tokenizers (rayon) and Arrow, which would take all cores; they read it once
        os.environ["TOKENIZERS_PARALLELISM"] = "true"
        os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(threads)


def pool(workers: int, threads: int | None = None) -> ProcessPoolExecutor:
    """threads: of each worker, if its libraries have threads."""
    return ProcessPoolExecutor(workers, initializer=start, initargs=(threads,))

"""How a rule's script runs: its log, its provenance, and one clear line when something is wrong."""

from __future__ import annotations

import errno
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from overtrain import PipelineError
from overtrain.records.provenance import provenance


@contextmanager
def logged(log: str) -> Iterator[None]:
    """Send all output to `log`; a PipelineError or a full disk ends the job with one line there.

    Works on file descriptors, so that what libraries and child processes print is there too. The
    log of a job that succeeds ends with the seconds it worked, start-up and imports left out, and
    the most memory that its process held.
    """
    with open(log, "w") as file:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)
    started = time.perf_counter()
    try:
        yield
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # of KiB
        print(f"work: {time.perf_counter() - started:.1f} s, at most {most} MB")
    except PipelineError as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        if not any(is_full_disk(part) for part in chain(error)):
            raise
        sys.exit(f"error: no space left on the disk that holds {Path.cwd()}; free some, run again")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those it was raised from or in the handling of."""
    while error:
        yield error
        error = error.__cause__ or error.__context__


def is_full_disk(error: BaseException) -> bool:
    """safetensors, Arrow and torch's archives each report one in a way of their own."""
    return os.strerror(errno.ENOSPC) in str(error) or "inline_container" in str(error)


def origin(snakemake: object, data: dict[str, str], device: str = "cpu") -> dict:
    """Provenance of a rule's result: its config slice and wildcards, and its inputs' hashes."""
    return provenance(
        json.loads(snakemake.params.config),
        data,
        device,
        rule=snakemake.rule,
        **dict(snakemake.wildcards.items()),
    )

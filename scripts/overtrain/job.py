"""How a rule's script runs: its log, its provenance, and one clear line when something is wrong."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from overtrain import PipelineError
from overtrain.provenance import provenance


@contextmanager
def logged(log: str) -> Iterator[None]:
    """Send all output to `log`; a PipelineError or a full disk ends the job with one line there.

    Works on file descriptors, so that what libraries and child processes print is in the log too.
    """
    with open(log, "w") as file:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)
    try:
        yield
    except PipelineError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            place = error.filename or os.getcwd()
            sys.exit(
                f"error: no space left on the disk that holds {place}; free some and run again"
            )
        raise


def origin(snakemake: object, data: dict[str, str], device: str = "cpu") -> dict:
    """Provenance of a rule's result: its config slice and wildcards, and the hashes of its inputs."""
    import json

    return provenance(
        json.loads(snakemake.params.config),
        data,
        device,
        rule=snakemake.rule,
        **dict(snakemake.wildcards.items()),
    )

"""What jobs took, from the benchmark file that Snakemake writes for each."""

from __future__ import annotations

import csv
from pathlib import Path

from overtrain import PipelineError


def seconds_of(path: Path) -> float:
    """Seconds that a job ran, of its last attempt alone: a mean, where it was repeated."""
    try:
        with path.open(newline="") as file:
            seconds = [float(row["s"]) for row in csv.DictReader(file, delimiter="\t")]
        return sum(seconds) / len(seconds)
    except (OSError, KeyError, ValueError, ZeroDivisionError) as error:
        raise PipelineError(f"{path}: not a benchmark file of Snakemake ({error!r})") from error

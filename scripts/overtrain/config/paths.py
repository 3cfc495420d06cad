"""Where measurements, aggregates and what is drawn of them stand."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from overtrain.config.models import Checkpoint

MEASUREMENTS = "results/measurements"


def of_checkpoint(checkpoint: Checkpoint, evaluation: str) -> str:
    """Measurements of a checkpoint as it was pre-trained, or under noise."""
    return f"{MEASUREMENTS}/{checkpoint.model}/{checkpoint.name}/{evaluation}.parquet"


def of_sweep(checkpoint: Checkpoint, task: str, recipe: str, evaluation: str) -> str:
    """Measurements of every run of a recipe on one checkpoint and task."""
    return of_checkpoint(checkpoint, f"{task}/{recipe}/{evaluation}")


def of_sweeps(model: str, task: str, recipe: str, evaluation: str) -> str:
    """Measurements of the sweeps of all of a model's checkpoints."""
    return f"{MEASUREMENTS}/{model}/{task}/{recipe}/{evaluation}.parquet"


def of_run(checkpoint: Checkpoint, task: str, recipe: str, run: str, evaluation: str) -> str:
    """Measurements of one run of instruction tuning."""
    return of_sweep(checkpoint, task, recipe, f"{run}/{evaluation}")


def of_theory(experiment: str) -> str:
    """Measurements of simulated linear networks."""
    return f"{MEASUREMENTS}/theory/{experiment}.parquet"


def of_released_numbers(source: str) -> str:
    """Numbers that the authors of a paper released, as measurements."""
    return f"{MEASUREMENTS}/released_numbers/{source}.parquet"


def of_hours(study: str, counted: str) -> str:
    """What a study's runs take; counted: expected, or spent, which has both."""
    return f"{MEASUREMENTS}/hours/{study}/{counted}.parquet"


def aggregate(paper: str, target: str) -> str:
    """The rows of one figure or table."""
    return f"results/aggregates/{paper}/{target}.parquet"

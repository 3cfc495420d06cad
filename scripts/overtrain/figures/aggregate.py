"""Measurements of many runs to the table of one figure: exactly the rows it needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from overtrain.records import measurements
from overtrain.records.provenance import sha256

if TYPE_CHECKING:
    import pandas as pd

# Metrics and selections that each kind of plot, or content of a table, reads; the loss is what the
# cut on learning rates is on.
SCORES = {"accuracy", "rouge_l"}
TUNED_SCORES = {"accuracy", "accuracy_norm", "win_rate", "length_controlled_win_rate", "perplexity"}
READS = {
    "noise_by_tokens": ({"loss", "perplexity"}, {"base", "noise"}),
    "learning_rates_by_tokens": ({"loss", "perplexity"}, {"base", "best"}),
    "tuned_by_tokens": ({"loss", "perplexity"}, {"base", "best"}),
    "optimal_rate_by_tokens": ({"perplexity"}, {"best"}),
    "distance_by_learning_rate": ({"l2_distance"}, {"best"}),
    "sharpness_by_tokens": ({"half_curvature", "loss_change"}, {"noise"}),
    "loss_along_direction": ({"loss", "slope", "half_curvature"}, {"interpolated"}),
    "tuned_scores_by_tokens": (TUNED_SCORES, {"base", "last"}),
    "rate_scores_by_tokens": (TUNED_SCORES, {"base", "last"}),
    "theory_features": (
        {"singular_value", "loss", "time"}
        | {f"distance_{of}" for of in ("of_product", "as_printed", "up_to_rotation")},
        {"simulated", "closed_form"},
    ),
    "theory_noise": ({"loss", "inflection"}, {"simulated", "closed_form"}),
    "theory_sensitivity": ({"loss_change"}, {"simulated", "closed_form"}),
    "theory_tradeoff": ({"loss", "inflection", "progress"}, {"simulated", "closed_form"}),
    "base_by_checkpoint": (SCORES, {"base"}),
    "scores_by_checkpoint": (SCORES, {"base", "last"}),
    "gains_by_checkpoint": (SCORES, {"base", "last"}),
    "changes_by_evaluation": (SCORES, {"base", "last"}),
    # tables
    "mean_gains": (SCORES, {"base", "last"}),
    "transfer": (SCORES, {"base", "last"}),
    "transfer_cells": (SCORES, {"base", "last"}),
}


def aggregate(
    files: list[Path], plot: str, only: dict[str, list], output: Path, origin: dict
) -> pa.Table:
    """Write the rows that `plot` reads from `files`, with all their provenance.

    only: the values that columns may have.
    """
    metrics, selections = READS[plot]
    tables, sources = [], {}
    for path in files:
        table = measurements.read(path)
        keep = pc.and_(
            pc.is_in(table["metric"], pa.array(sorted(metrics))),
            pc.is_in(table["selection"], pa.array(sorted(selections))),
        )
        for column, values in only.items():
            keep = pc.and_(keep, pc.is_in(table[column], pa.array(values, table[column].type)))
        tables.append(table.filter(keep).replace_schema_metadata(None))
        sources[str(path)] = {
            "sha256": sha256(path),
            "provenance": measurements.read_provenance(path),
        }
    table = pa.concat_tables(tables)
    measurements.write(table.to_pylist(), output, origin | {"sources": sources})
    return table


def read_optional(aggregates: list[str]) -> tuple[pd.DataFrame | None, dict, dict]:
    """(data, hash, sources) of a target's aggregate, the last two for its provenance.

    aggregates: one path, or none for a schematic or a table of settings.
    """
    if not aggregates:
        return None, {}, {}
    path = Path(*aggregates)
    sources = measurements.read_provenance(path)["sources"]
    return measurements.read(path).to_pandas(), {"aggregate": sha256(path)}, {"sources": sources}

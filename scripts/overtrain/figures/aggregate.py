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


def aggregate(files: list[Path], rows: dict[str, list], output: Path, origin: dict) -> pa.Table:
    """Write those `rows` of `files`, with all their provenance.

    rows: by column, the values that are read.
    """
    tables, sources = [], {}
    for path in files:
        table = measurements.read(path)
        for column, values in rows.items():
            table = table.filter(pc.is_in(table[column], pa.array(values, table[column].type)))
        tables.append(table.replace_schema_metadata(None))
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

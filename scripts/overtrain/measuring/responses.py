"""Files of what runs answered to prompts: light to import, for rules that need no model."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from overtrain import PipelineError
from overtrain.records.measurements import write_table

SCHEMA = pa.schema({"instruction": pa.string(), "output": pa.string()})


def write(prompts: list[str], outputs: list[str] | None, path: Path, origin: dict) -> None:
    """Write the answers of a run; null answers for a run that diverged (`outputs` None)."""
    texts = [None] * len(prompts) if outputs is None else outputs
    write_table(pa.table([prompts, texts], SCHEMA), path, origin)


def read(path: Path, prompts: list[str]) -> list[str] | None:
    """A run's answers to exactly these `prompts`; None if the run diverged."""
    try:
        table = pq.read_table(path, columns=SCHEMA.names)
    except (OSError, pa.ArrowInvalid) as error:
        raise PipelineError(f"{path}: not a readable file of responses ({error})") from error
    if table["instruction"].to_pylist() != prompts:
        raise PipelineError(f"{path}: its answers are to other prompts; delete it and run again")
    outputs = table["output"].to_pylist()
    return None if None in outputs else outputs

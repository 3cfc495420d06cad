"""The prompts that instruction-tuned models are compared on.

AlpacaEval's own (805; the paper's B.3 says 20k, which is no set of AlpacaEval's), read as the plain
file of its hub data set, whose loading script is never run. Or, without a network, the questions of
a task's test conversations, whose answers are known.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from overtrain import PipelineError
from overtrain.data.tasks import read_split
from overtrain.hub import client
from overtrain.records.provenance import sha256, whole_file, write_json

SCHEMA = pa.schema(
    {
        "instruction": pa.string(),
        "dataset": pa.string(),  # the part of the set that it comes from
        "answer": pa.string(),  # null where none is known
    }
)


def prepare(name: str, settings: dict, tasks: Path, path: Path, origin: dict) -> None:
    """Write `settings["count"]` prompts to `path`, and beside it (.json) where they come from.

    tasks: the folder of the prepared tasks, for a source that is one of them.
    """
    source, count = settings["source"], settings["count"]
    try:
        if "dataset" in source:
            rows, revision = from_hub(source), source["revision"]
        else:
            rows, revision = from_task(tasks / source["task"])
        if len(rows) < count:
            raise PipelineError(f"the source has {len(rows)} prompts; count is {count}")
    except PipelineError as error:
        raise PipelineError(f"prompts.{name}: {error}") from error
    # Spread over the file, which is ordered by data set; all of it where the count is the file's.
    rows = [rows[place * len(rows) // count] for place in range(count)]
    with whole_file(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), temporary)
    manifest = {"count": count, "provenance": origin, "revision": revision, "source": source}
    write_json(path.with_suffix(".json"), manifest | {"sha256": sha256(path)})


def read(path: Path) -> list[dict]:
    """The prompts of a file, in their order; PipelineError if it is damaged."""
    try:
        return pq.read_table(path, columns=SCHEMA.names).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise PipelineError(f"{path}: not a readable file of prompts ({error})") from error


def from_hub(source: dict) -> list[dict]:
    """Rows of a JSON file of a hub data set (or of a local folder)."""
    repository, revision, file = source["dataset"], source["revision"], source["file"]
    what = f"{repository} at {revision}, {file}"
    with client.one_line(what):
        path = client.file_of(repository, file, revision, "dataset")
        rows = json.loads(path.read_text("utf-8"))
    for row in rows:
        if not isinstance(row, dict) or not {"instruction", "dataset"} <= set(row):
            has = sorted(row) if isinstance(row, dict) else type(row).__name__
            raise PipelineError(f"{what}: a prompt needs instruction and dataset; one has {has}")
        if not isinstance(row["instruction"], str) or not row["instruction"].strip():
            raise PipelineError(f"{what}: an instruction is {row['instruction']!r}, not a text")
    return [{key: row[key] for key in ("instruction", "dataset")} for row in rows]


def from_task(folder: Path) -> tuple[list[dict], str]:
    """Questions of a task's test conversations, with the assistant's answers, and the file's hash.

    Those of one question and one answer; a longer one is no single instruction.
    """
    rows = [row["messages"] for row in read_split(folder, "test", "chat")]
    prompts = [
        {"instruction": messages[0]["content"], "answer": messages[1]["content"]}
        | {"dataset": folder.name}
        for messages in rows
        if len(messages) == 2
    ]
    return prompts, sha256(folder / "test.parquet")

"""Questions of vision-language benchmarks as a suite's folder has them: light to import.

The folder holds the questions of each benchmark as parquet (SCHEMA), the images of all in one
archive (`data.images`), and a manifest with hashes, counts, and the commit of each data set.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from overtrain import PipelineError
from overtrain.records.provenance import sha256

MANIFEST, IMAGES = "manifest.json", "images"
SCHEMA = pa.schema(
    {
        "id": pa.string(),  # the data set's; MME's pairs share one
        "question": pa.string(),  # as it is asked
        "answers": pa.list_(pa.string()),  # the known ones: TextVQA has ten, others one
        "image": pa.string(),  # its name in the archive
        "category": pa.string(),  # MME's sub-task, POPE's way to choose what is not there
        "half": pa.string(),  # even or odd
    }
)


def group(row: dict) -> tuple:
    """Of questions that are scored together."""
    return row["category"], row["id"], row["image"]


def with_suffix(question: str, settings: dict) -> str:
    return "\n".join(filter(None, (question, settings.get("suffix"))))


def read_suite(folder: Path, asked: dict) -> dict[str, list[dict]]:
    """The questions of each benchmark of `asked` (a suite's `asked_slice`), at most its limit.

    PipelineError if a file is not the one that was prepared.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        found = {}
        for name in asked["benchmarks"]:
            path = folder / f"{name}.parquet"
            if sha256(path) != manifest["files"][path.name]:
                raise PipelineError(f"{path}: not the file that was prepared; delete {folder}")
            rows = pq.read_table(path, columns=SCHEMA.names).to_pylist()
            found[name] = limited(rows, asked["limit"])
    except (OSError, pa.ArrowInvalid, json.JSONDecodeError, KeyError) as error:
        raise PipelineError(f"{folder}: not a whole suite of benchmarks ({error})") from error
    return found


def limited(rows: list[dict], limit: int | None) -> list[dict]:
    """The first rows, at most `limit`, and no pair cut."""
    end = min(limit or len(rows), len(rows))
    while 0 < end < len(rows) and group(rows[end]) == group(rows[end - 1]):
        end -= 1
    return rows[:end]

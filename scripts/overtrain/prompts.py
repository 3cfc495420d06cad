"""The prompts that instruction-tuned models are compared on.

AlpacaEval's own (805; the paper's B.3 says 20k, which is no set of AlpacaEval's), read as the plain
file of its hub data set, whose loading script is never run. Or, without a network, questions about
functions and classes of the installed packages; their answers are known: the first sentence of the
docstring.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from overtrain import PipelineError, docstrings, hub
from overtrain.provenance import sha256, whole_file, write_json

SCHEMA = pa.schema(
    {
        "instruction": pa.string(),
        "dataset": pa.string(),  # the part of the set that it comes from
        "answer": pa.string(),  # null where none is known
    }
)


NAME = re.compile(r"^\s*(?:async\s+def|def|class)\s+(\w+)", re.M)


def prepare(name: str, settings: dict, path: Path, origin: dict) -> None:
    """Write `settings["count"]` prompts to `path`, and beside it (.json) where they come from."""
    source, count = settings["source"], settings["count"]
    try:
        rows, revision = from_hub(source) if "dataset" in source else from_packages(source)
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


def from_hub(source: dict) -> tuple[list[dict], str]:
    """Rows of a JSON file of a hub data set (or of a local folder), and its commit."""
    repository, file = source["dataset"], source["file"]
    commit = hub.resolve(repository, source["revision"], "dataset")
    what = f"{repository} at {source['revision']}, {file}"
    with hub.one_line(what):
        if Path(repository).is_dir():
            path = Path(repository, file)
        else:
            from huggingface_hub import hf_hub_download

            path = Path(hf_hub_download(repository, file, revision=commit, repo_type="dataset"))
        rows = json.loads(path.read_text("utf-8"))
    for row in rows:
        if not isinstance(row, dict) or not {"instruction", "dataset"} <= set(row):
            has = sorted(row) if isinstance(row, dict) else type(row).__name__
            raise PipelineError(f"{what}: a prompt needs instruction and dataset; one has {has}")
    return [{key: row[key] for key in ("instruction", "dataset")} for row in rows], commit


def from_packages(source: dict) -> tuple[list[dict], str]:
    """Questions about functions and classes of installed packages, in a shuffled order.

    Names that the packages `without` define are left out: models may be tuned on these.
    """
    files = docstrings.files_of(source["without"])[0]
    texts = (path.read_text("utf-8", "replace") for path in files)
    taken = {name.lower() for text in texts for name in NAME.findall(text)}
    found = docstrings.questions(source["packages"], source["question"], source["answer"])
    rows = [
        {"instruction": q.question, "dataset": q.package, "answer": q.answer}
        for q in found
        if q.name.lower() not in taken
    ]
    return rows, "installed packages"

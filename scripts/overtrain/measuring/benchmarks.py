"""Suites of benchmarks, fetched where there is internet and written down whole.

A suite's folder holds each task's data as parquet by split, lm-eval's request cache (the prompts,
the same for every model as long as they need no chat template) and a manifest with hashes, the
commit of each data set and what a task measures. Evaluations read it, and the task files.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from overtrain import PipelineError
from overtrain.data import cloze, docstrings
from overtrain.hub import client
from overtrain.measuring import harness
from overtrain.records.provenance import sha256, whole_folder, write_json

MANIFEST = "manifest.json"
REQUESTS = "requests"
SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")  # of a YAML file
SHOTS = 16  # made questions to choose the examples in a prompt from

# --- preparation: with internet -------------------------------------------------------------------


def prepare(name: str, suite: dict, folder: Path, origin: dict) -> dict:
    """Fill `folder` with what the tasks of a suite need. Returns the manifest.

    Every task is run once on answers by chance, which makes the request cache and shows here,
    not on a cluster, that its data set has the columns that it reads.
    """
    with whole_folder(folder) as temporary:
        requests = None if suite["chat_template"] else temporary / REQUESTS
        own, tasks = folder_of(suite), {}
        for task, settings in suite["tasks"].items():
            try:
                path = harness.task_file(settings.get("task", task), own)
                described = harness.read_task(harness.root_of(own) / path)
                source = write_data(task, settings, described, temporary / task, suite)
                files = {split: temporary / task / f"{split}.parquet" for split in source["splits"]}
                measured = try_out(task, described, files, suite["shots"], requests)
            except PipelineError as error:
                raise PipelineError(f"benchmark_suites.{name}.tasks.{task}: {error}") from error
            version = (described.get("metadata") or {}).get("version")
            tasks[task] = source | {"questions": measured, "version": version, "file": str(path)}
            print(f"{task}: {measured}")
        whole = sorted(path for path in temporary.rglob("*") if path.is_file())
        hashes = {str(path.relative_to(temporary)): sha256(path) for path in whole}
        manifest = {
            "files": hashes,
            "lm_eval": metadata.version("lm_eval"),
            "provenance": origin,
            "sha256": hashlib.sha256(json.dumps(hashes).encode()).hexdigest(),
            "shots": suite["shots"],
            "tasks": tasks,
        }
        write_json(temporary / MANIFEST, manifest)
    return manifest


def folder_of(suite: dict) -> Path | None:
    return Path(suite["folder"]) if suite["folder"] else None


def write_data(task: str, settings: dict, described: dict, folder: Path, suite: dict) -> dict:
    """Write the splits that a task names as parquet; returns where they are from, and counts."""
    if made := settings.get("data"):
        source = {"made": made, "packages": suite["packages"]}
        tables = made_tables(task, made, tuple(suite["packages"]), described)
    else:
        source, tables = fetched_tables(settings.get("dataset", {}), described)
    folder.mkdir()
    for split, table in tables.items():
        pq.write_table(table, folder / f"{split}.parquet")
    return source | {"splits": {split: table.num_rows for split, table in tables.items()}}


@cache
def documents(packages: tuple[str, ...]) -> list[docstrings.Document]:
    return docstrings.extract(list(packages))


def made_tables(
    task: str, made: dict, packages: tuple[str, ...], described: dict
) -> dict[str, pa.Table]:
    """Questions from docstrings, the first SHOTS for the prompts and the rest as the test."""
    settings = made | {"count": made["questions"] + SHOTS}
    rows = cloze.questions(documents(packages), task, settings)
    if len(rows) <= SHOTS:
        raise PipelineError(f"{len(rows)} questions in {packages}; more than {SHOTS} are needed")
    if len(rows) < settings["count"]:
        print(f"{task}: {len(rows)} questions, fewer than {settings['count']}")
    splits = (described["training_split"], described["test_split"])
    return dict(zip(splits, map(pa.Table.from_pylist, (rows[:SHOTS], rows[SHOTS:])), strict=True))


def fetched_tables(instead: dict, described: dict) -> tuple[dict, dict[str, pa.Table]]:
    """The splits of a data set that a YAML file names; `instead` names a mirror of it."""
    from datasets import load_dataset

    path = instead.get("path") or described["dataset_path"]
    name = instead.get("name", described.get("dataset_name"))
    revision = instead.get("revision", "main")
    on_hub = "/" in path and not Path(path).is_dir()
    commit = None
    if on_hub:
        with client.one_line(f"{path} at {revision}"):
            commit = client.api().dataset_info(path, revision=revision).sha
    splits = sorted({described[key] for key in SPLITS if described.get(key)})
    options = dict(described.get("dataset_kwargs") or {})
    options.pop("trust_remote_code", None)  # never
    if on_hub:
        options["revision"] = commit
    tables = {}
    for split in splits:
        what = f"{path} at {revision}, {name or 'default'}, split {split}"
        try:
            with client.one_line(what):
                data = load_dataset(path, name, split=split, **options)
        except RuntimeError as error:  # what `datasets` says of a loading script
            raise PipelineError(
                f"{what}: {' '.join(str(error).split())[:150]}; name a copy of it in parquet: "
                "dataset: {path: ..., name: ..., revision: ...}"
            ) from error
        tables[split] = data.with_format("arrow")[:]
    return {"dataset": path, "name": name, "revision": revision, "commit": commit}, tables


def try_out(
    task: str, described: dict, files: dict[str, Path], shots: int, requests: Path | None
) -> dict[str, int]:
    """Make a task's prompts and answer them at random: questions by metric."""
    from lm_eval.models.dummy import DummyLM

    try:
        built = harness.build_task(task, described, files, shots)
        found = harness.score(DummyLM(), {task: built}, requests)
    except OSError:  # a full disk
        raise
    except Exception as error:  # of a template or a function that misses a column
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise PipelineError(f"its prompts cannot be made ({reason})") from error
    return {metric: questions for (_, metric), (_, _, questions) in found.items()}


# --- evaluation: without --------------------------------------------------------------------------


def read_manifest(folder: Path) -> dict:
    """A suite's manifest, its files verified against it and lm-eval's version the same."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        for name, expected in manifest["files"].items():
            if sha256(folder / name) != expected:
                raise PipelineError(
                    f"{folder / name}: not the file that was prepared; delete {folder}"
                )
    except (OSError, json.JSONDecodeError, KeyError) as error:
        raise PipelineError(f"{folder}: not a whole suite of benchmarks ({error})") from error
    if (found := metadata.version("lm_eval")) != manifest["lm_eval"]:
        raise PipelineError(
            f"{folder}: prepared by lm-eval {manifest['lm_eval']}, this is {found}; delete it"
        )
    return manifest


def evaluate(
    checkpoint: Path, folder: Path, manifest: dict, suite: dict, device: str, gpus: int
) -> dict:
    """(task, metric) -> (value, stderr, questions) of a checkpoint directory.

    folder, manifest: the suite's.
    """
    root, tasks = harness.root_of(folder_of(suite)), {}
    for task in suite["tasks"]:
        prepared = manifest["tasks"][task]
        files = {split: folder / task / f"{split}.parquet" for split in prepared["splits"]}
        described = harness.read_task(root / prepared["file"])
        tasks[task] = harness.build_task(task, described, files, suite["shots"])
    model = harness.language_model(checkpoint, suite, device, gpus)
    lengths = harness.watch_lengths(model, str(checkpoint))
    requests = None if suite["chat_template"] else folder / REQUESTS
    found = harness.score(model, tasks, requests, suite["limit"])
    cut, asked = lengths()
    print(f"{asked} requests; {cut} longer than the context of {model.max_length}, their start cut")
    return found


def diverged(manifest: dict, suite: dict) -> dict:
    """The same of a run without weights: NaN for everything that the suite measures."""
    nan = float("nan")
    return {
        (task, metric): (nan, nan, min(n, suite["limit"] or n))
        for task in suite["tasks"]
        for metric, n in manifest["tasks"][task]["questions"].items()
    }

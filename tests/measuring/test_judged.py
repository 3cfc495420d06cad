"""A judge's model from the hub to the win rates: rules download_judge and evaluate_alpaca.

The job that judges sees no hub: it has what was downloaded, or serves it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from local_hub import on_hub, serve
from test_generate import chat_model

from overtrain.config.files import load
from overtrain.configuration import catalogue_of
from overtrain.data import prompts
from overtrain.measuring import responses
from overtrain.records import measurements

MAIN, MOVED = "a" * 40, "b" * 40
MODEL, TUNED = "OLMo-10K-hub", "which_field/instruct"
ALPACA = f"results/measurements/{MODEL}/{TUNED}/alpaca.parquet"
LATER = {"3.37M": None, "6.75M": None}  # checkpoints that are judged another day
FAKE = """#!/bin/sh
echo "$@" >> {noted}
exec {python} {server} $6
"""


@pytest.fixture
def answered(repository: Path, tmp_path: Path) -> Path:
    """A copy of the repository in which all runs of a model on one task have answered."""
    copy = Path(shutil.copytree(repository, tmp_path / "copy", symlinks=True))
    layers = load(copy, yaml.safe_load((copy / "profiles/demo/overlay.yaml").read_text()))
    catalogue = catalogue_of(layers.config, layers.paper_task_sets)
    texts = [f"Say {n}." for n in range(6)]
    rows = [{"instruction": text, "dataset": "test", "answer": None} for text in texts]
    path = copy / "results/prompts/held_out_pieces.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, prompts.SCHEMA), path)
    for place, name in enumerate(catalogue.judged_responses(MODEL, *TUNED.split("/"))):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        responses.write(texts, [text * (1 + place) for text in texts], copy / name, {})
    return copy


@pytest.mark.slow
def test_a_judge_is_downloaded_at_its_commit_and_then_loaded_or_served(
    answered: Path, tmp_path: Path
) -> None:
    root = tmp_path / "hub"
    for seed, commit in enumerate((MAIN, MOVED)):
        chat_model(root / "models/owner/judge" / commit, 4096, seed=seed)
    noted, server = tmp_path / "noted", Path(__file__).parents[1] / "judge_server.py"
    (tmp_path / "vllm").write_text(FAKE.format(noted=noted, python=sys.executable, server=server))
    (tmp_path / "vllm").chmod(0o755)

    def run(judge: str, without: dict, *arguments: str, **environment: str) -> str:
        own: dict = {
            "models": {MODEL: {"hub": {"checkpoints": without}}},
            "judges": {judge: {"model": "owner/judge"}},
            "evaluations": {"alpaca": {"judge": judge}},
            "resources": {"judge": {"gpu": 0}},
        }
        (answered / "own.yaml").write_text(json.dumps(own))
        line = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile"]
        line += ["profiles/demo/overlay.yaml", "own.yaml", *arguments]
        done = subprocess.run(line, cwd=answered, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def results() -> tuple[list[dict], dict]:
        rows = measurements.read(answered / ALPACA).to_pylist()
        return rows, measurements.read_provenance(answered / ALPACA)

    def kept() -> dict[str, list[str]]:
        """Verdicts that a later job finds, by checkpoint."""
        folder = answered / "results/state/verdicts" / MODEL
        return {
            path.relative_to(folder).parts[0]: list(filter(None, path.read_text().splitlines()))
            for path in folder.rglob("*.jsonl")
        }

    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    for judge in ("local", "llama3_70b"):
        with serve(root, {"main": MAIN if judge == "local" else MOVED}) as hub:
            online = on_hub(hub, tmp_path / "h")
            run(judge, {}, "--", f"results/judges/{judge}", **online)
        manifest = json.loads((answered / f"results/judges/{judge}/manifest.json").read_text())
        assert manifest["commit"] == MAIN  # pinned by the first, although main has moved
        only = ["--allowed-rules", "evaluate_alpaca", "--", ALPACA]
        offline = online | {"HF_HUB_OFFLINE": "1", "PATH": path, "USE_TORCH": "1"}
        run(judge, LATER, *only, **offline)
        first, asked = results()[0], kept()
        run(judge, {}, *only, **offline)
        rows, origin = results()
        assert {row["checkpoint"] for row in first} == {"0.84M", "13.5M"}
        assert {row["checkpoint"] for row in rows} == {"0.84M", "13.5M", *LATER}
        earlier = [row for row in rows if row["checkpoint"] not in LATER]
        assert str(earlier) == str(first)  # NaN, too
        for checkpoint in ("0.84M", "13.5M"):
            assert kept()[checkpoint] == asked[checkpoint]  # nothing is asked again
        assert origin["data"]["judge"] == manifest["sha256"]
        assert origin["config"]["judge"]["model"] == "owner/judge"
        assert not any(row["diverged"] for row in rows)
        wins = {r["learning_rate"]: r["value"] for r in rows if r["metric"] == "win_rate"}
        assert len(wins) == 3
    served = noted.read_text().splitlines()
    assert len(served) == 2  # once for two sweeps, once more for the two that came later
    arguments = served[0].split()
    assert arguments[:2] == ["serve", "results/judges/llama3_70b"]
    assert arguments[arguments.index("--served-model-name") + 1] == "owner/judge"
    keys = [json.loads(line)[0] for line in kept()["0.84M"]]
    # Six runs, six prompts, two orders: neither judge took the other's verdicts.
    assert len(keys) == len(set(keys)) == 2 * 72

"""What check_sources says of the hub, against a local server: what exists, the nearest, pins."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from configuration import PAPERS, catalogue_of, targets_of
from local_hub import Handler, on_hub, run_on_hub, serve

from overtrain.data import tokenizer
from overtrain.hub import client, sources

ROOT = Path(__file__).parents[2]
CONFIG = PAPERS
MAIN, OTHER, NEWER = "a" * 40, "b" * 40, "c" * 40
SECRET = "hf_" + "hidden" * 5

CHECK = """
import json, os, sys
from pathlib import Path
os.environ["HF_TOKEN"] = sys.argv[3]
from overtrain import PipelineError
from overtrain.hub import sources

try:
    found = sources.check(json.loads(sys.argv[1]), Path(sys.argv[2]))
    print(json.dumps(found))
except PipelineError as error:
    print(json.dumps(str(error)))
"""


def source(repository: str, revision: str = "main", files: object = None, kind: str = "model"):
    change = {"repository": "models.M.hub.repository", "revision": "models.M.revision"}
    own = {"kind": kind, "repository": repository, "revision": revision}
    return own | {"files": files, "change": change}


def write(folder: Path, sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * size)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    amber = root / "models/LLM360/Amber"
    model = {"config.json": 10, "tokenizer.json": 20, "model.safetensors": 3000}
    write(amber / MAIN, model | {"pytorch_model.bin": 3000, "README.md": 999, "x/y.bin": 999})
    write(amber / OTHER, {"config.json": 10, "README.md": 5})
    c4 = {f"en/c4-train.{i:05d}.gz": 100 + i for i in range(3)}
    write(root / "datasets/allenai/c4" / MAIN, c4 | {"other/big": 9999})
    write(root / "datasets/openai/gsm8k" / MAIN, {"main/train.parquet": 70, "README.md": 7})
    write(root / "models/meta/Judge" / MAIN, {"config.json": 1})
    return root


REFS = {"main": MAIN, "ckpt_000": MAIN, "ckpt_357": MAIN, "ckpt_358": MAIN, "bare": OTHER}
ASKED = {
    "good": source("LLM360/Amber", "ckpt_358", "checkpoint"),
    "beyond": source("LLM360/Amber", "ckpt_410", "checkpoint"),
    "bare": source("LLM360/Amber", "bare", "checkpoint"),
    "tokenizer": source("LLM360/Amber", "main", {"names": ["tokenizer.json"]}),
    "misspelt": source("LLM360/Ambre", "main", "checkpoint"),
    "web": source(
        "allenai/c4", files={"template": "en/c4-train.{:05d}.gz", "count": 3}, kind="dataset"
    ),
    "less": source(
        "allenai/c4", files={"template": "en/c4-train.{:05d}.gz", "count": 5}, kind="dataset"
    ),
    "folder": source("allenai/c4", files={"folder": "en"}, kind="dataset"),
    "no_folder": source("allenai/c4", files={"folder": "python"}, kind="dataset"),
    "whole": source("openai/gsm8k", kind="dataset"),
    "commit": source("openai/gsm8k", MAIN, kind="dataset"),
}


class Gated(Handler):
    """meta/Judge tells all what there is, and lets in those with the token."""

    def respond(self) -> None:
        allowed = self.headers.get("Authorization") == f"Bearer {SECRET}"
        if "meta/Judge" in self.path and self.path.endswith("auth-check") and not allowed:
            self.refuse(403, "GatedRepo", "Access is restricted")
        else:
            super().respond()

    def information(self, name: str, commit: str, folder: Path) -> dict:
        return super().information(name, commit, folder) | {"gated": "manual"}


class Down(Handler):
    def respond(self) -> None:
        self.refuse(503, "Down", "Service Unavailable")


def ask(root: Path, asked: dict, refs=REFS, handler=Handler, token=SECRET):
    """(answers or the line of the error, requests, what the process said)."""
    pins = root.parent / "pins.json"
    with serve(root, refs, handler) as server:
        done = run_on_hub(server, root.parent / "h", CHECK, json.dumps(asked), str(pins), token)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), server.requests, done.stdout + done.stderr


@pytest.fixture
def found(root: Path) -> tuple[dict, list[str]]:
    return ask(root, ASKED)[:2]


def test_what_exists_is_found_with_the_bytes_that_are_needed(found: tuple, root: Path) -> None:
    answers, requests = found
    good = {key for key, answer in answers.items() if not answer["problem"]}
    assert good == {"good", "tokenizer", "web", "folder", "whole", "commit"}
    sizes = {key: answers[key]["bytes"] for key in good}
    assert sizes == {
        "good": 10 + 20 + 3000,  # neither the pickled copy nor what is no checkpoint
        "tokenizer": 20,
        "web": 100 + 101 + 102,
        "folder": 100 + 101 + 102,
        "whole": 77,
        "commit": 77,
    }
    assert all(answers[key]["exists"] and answers[key]["commit"] == MAIN for key in good)
    assert not any("/resolve/" in request for request in requests)  # nothing is downloaded
    assert sum("/refs" in request for request in requests) <= 3  # once a repository
    pins = json.loads((root.parent / "pins.json").read_text())
    assert pins["models/LLM360/Amber@ckpt_358"] == MAIN
    assert not any("ckpt_410" in pin or "Ambre" in pin for pin in pins)


def test_what_does_not_exist_comes_with_the_nearest_and_the_key(found: tuple) -> None:
    answers = found[0]
    assert answers["beyond"]["problem"] == (
        "LLM360/Amber at ckpt_410: no such revision; nearest ckpt_358, ckpt_357, ckpt_000 (of 5); "
        "change models.M.revision"
    )
    assert answers["beyond"]["nearest"] == ["ckpt_358", "ckpt_357", "ckpt_000"]
    assert not answers["beyond"]["exists"] and answers["beyond"]["commit"] is None
    assert answers["misspelt"]["problem"] == (
        f"LLM360/Ambre: {client.NO_REPOSITORY}; nearest LLM360/Amber; "
        f"change models.M.hub.repository, or {sources.AGAIN} once it is there"
    )
    assert "needs config.json, tokenizer.json or " in answers["bare"]["problem"]
    assert "it has no file en/c4-train.00003.gz (2 missing)" in answers["less"]["problem"]
    assert "it has no folder python" in answers["no_folder"]["problem"]
    assert not any("\n" in (answer["problem"] or "") for answer in answers.values())


def test_the_table_has_totals_and_what_cannot_be_used_first(found: tuple, tmp_path: Path) -> None:
    text = sources.table(found[0], tmp_path)
    lines = text.splitlines()
    assert lines[2].startswith("- LLM360/Amber at ckpt_410")
    assert "| good | LLM360/Amber | ckpt_358 | aaaaaaaaaaaa | 0.00 GB |  |" in lines
    assert sum(line.endswith("| not usable |") for line in lines) == 5
    big = {"bytes": 4 * 10**9, "problem": None, "notes": [], "gated": False}
    same = {"kind": "model", "repository": "a/b", "revision": "main", "commit": MAIN} | big
    text = sources.table({"x": same, "y": same, "z": same | {"commit": OTHER}}, tmp_path)
    assert "All models: 8.00 GB." in text  # one commit counts once
    assert "Free on the disk of results: " in text


def test_identical_weights_under_two_revisions_are_said(root: Path, tmp_path: Path) -> None:
    folder = root / "models/LLM360/Amber"
    for commit, content in ((OTHER, b"x" * 3000), (NEWER, b"y" * 3000)):
        shutil.copytree(folder / MAIN, folder / commit, dirs_exist_ok=True)
        (folder / commit / "model.safetensors").write_bytes(content)
        (folder / commit / "config.json").write_text(commit)  # another commit all the same
    refs = {"ckpt_100": MAIN, "ckpt_101": OTHER, "ckpt_102": NEWER}
    asked = {ref: source("LLM360/Amber", ref, "checkpoint") for ref in refs}
    asked["again"] = asked["ckpt_102"]  # a revision that two entries name is no fault
    answers, *_ = ask(root, asked, refs)
    (note,) = answers["ckpt_100"]["notes"]
    assert note.startswith("ckpt_100 and ckpt_101 have the same weights")
    assert answers["ckpt_101"]["notes"] == [note]
    assert not answers["ckpt_102"]["notes"] + answers["again"]["notes"]
    assert not any(answer["problem"] for answer in answers.values())
    lines = sources.table(answers, tmp_path).splitlines()
    assert [line for line in lines if "same weights" in line] == [f"- LLM360/Amber: {note}"]


def test_a_pinned_commit_stays_when_its_branch_moves(root: Path) -> None:
    asked = {"whole": ASKED["whole"]}
    ask(root, asked)
    write(root / "datasets/openai/gsm8k" / NEWER, {"main/train.parquet": 71})
    answers, *_ = ask(root, asked, {"main": NEWER})
    assert answers["whole"]["commit"] == MAIN and answers["whole"]["problem"] is None
    (note,) = answers["whole"]["notes"]
    assert note.startswith("main has moved from its pinned commit aaaaaaaaaaaa")
    assert "cccccccccccc" in note and "pins.json" in note
    pins = json.loads((root.parent / "pins.json").read_text())
    assert pins == {"datasets/openai/gsm8k@main": MAIN}


def test_a_pinned_commit_that_vanished_is_said(root: Path) -> None:
    asked = {"whole": ASKED["whole"]}
    ask(root, asked)
    folder = root / "datasets/openai/gsm8k"
    (folder / MAIN).rename(folder / NEWER)
    problem = ask(root, asked, {"main": NEWER})[0]["whole"]["problem"]
    assert f"its pinned commit {MAIN} is gone, and main is {NEWER}; remove its line" in problem


@pytest.mark.parametrize("token", ["", SECRET])
def test_a_gated_repository_needs_a_token_that_is_told_nowhere(root: Path, token: str) -> None:
    answers, requests, said = ask(root, {"j": source("meta/Judge")}, handler=Gated, token=token)
    expected = None if token else f"meta/Judge: {client.GATED}; then {sources.AGAIN}"
    assert answers["j"]["problem"] == expected
    assert answers["j"]["exists"] and answers["j"]["gated"]
    assert SECRET not in said + "".join(requests) + (root.parent / "pins.json").read_text()


def test_a_hub_that_is_down_is_one_line(root: Path) -> None:
    line = ask(root, {"whole": ASKED["whole"]}, handler=Down)[0]
    assert line.startswith("openai/gsm8k: HfHubHTTPError: ") and "\n" not in line
    assert not (root.parent / "pins.json").exists()


OFFLINE = """
import os, subprocess, sys
import datasets, huggingface_hub
from overtrain.hub import client

assert client.revisions(client.api(), "openai/gsm8k", "dataset")
client.stay_offline()
for ask in (
    lambda: client.revisions(client.api(), "openai/gsm8k", "dataset"),
    lambda: datasets.load_dataset("openai/gsm8k", "main"),
):
    try:
        ask()
        print("asked")
    except (huggingface_hub.errors.OfflineModeIsEnabled, ConnectionError) as error:
        print("offline")
child = "import huggingface_hub.constants as c; print(c.HF_HUB_OFFLINE)"
subprocess.run([sys.executable, "-c", child], check=True)
"""


def test_a_job_that_stays_offline_asks_nobody(root: Path, tmp_path: Path) -> None:
    with serve(root, REFS) as server:
        done = run_on_hub(server, tmp_path / "h", OFFLINE)
    assert sorted(done.stdout.split()) == ["True", "offline", "offline"], done.stderr
    assert len(server.requests) == 1  # the one before


PIN = """
import json, sys
from pathlib import Path
from overtrain import PipelineError
from overtrain.configuration import catalogue_of
from overtrain.hub import sources

config = json.loads(Path(sys.argv[1]).read_text())
for section, name in json.loads(sys.argv[2]):
    settings = config[section][name]
    try:
        print(json.dumps(sources.pin(catalogue_of(config), section, name, settings)))
    except PipelineError as error:
        print(json.dumps(str(error)))
"""


def test_rules_take_the_commit_or_stop(root: Path, tmp_path: Path) -> None:
    config = json.loads(json.dumps(CONFIG))
    config["sources"]["pins"] = str(tmp_path / "state/pins.json")
    tasks, corpora = config["tasks"], config["corpora"]
    gsm8k, chat, missing, here = (tasks[n] for n in ("gsm8k", "tulu", "trec", "sympy_docs"))
    for task in (gsm8k, chat, missing):
        task["source"] |= {"dataset": "openai/gsm8k", "revision": "main"}
    missing["source"]["revision"] = "mian"
    chat["tokenizer"] |= {"repository": "LLM360/Amber", "revision": "ckpt_358"}
    corpora["c4"]["source"] |= {"files": "en/c4-train.{:05d}.gz", "file_count": 3}
    corpora["c4"]["train_tokens"] = 10**6
    corpora["c4"]["tokenizer"]["hub"] |= chat["tokenizer"]
    names = [("tasks", name) for name in ("gsm8k", "tulu", "trec", "sympy_docs")]
    names.append(("corpora", "c4"))
    with serve(root, REFS) as server:
        file = tmp_path / "config.json"  # longer than an argument may be
        file.write_text(json.dumps(config))
        done = run_on_hub(server, tmp_path / "h", PIN, str(file), json.dumps(names))
    assert done.returncode == 0, done.stderr
    first, pinned, wrong, same, corpus = map(json.loads, done.stdout.splitlines())
    assert first == gsm8k | {"source": gsm8k["source"] | {"revision": MAIN}}
    assert pinned["tokenizer"]["revision"] == pinned["source"]["revision"] == MAIN
    assert wrong == (
        "openai/gsm8k at mian: no such revision; nearest main (of 4); "
        "change tasks.trec.source.revision"
    )
    assert same == here
    assert corpus["source"]["revision"] == corpus["tokenizer"]["hub"]["revision"] == MAIN
    assert len(json.loads((tmp_path / "state/pins.json").read_text())) == 3


# --- what is asked --------------------------------------------------------------------------------


def test_the_configuration_asks_for_all_that_its_figures_name() -> None:
    targets = targets_of(CONFIG)
    asked = targets.sources
    for model in ("OLMo-1B", "OLMo-2-7B", "LLM360-Amber"):
        for name, point in CONFIG["models"][model]["hub"]["checkpoints"].items():
            found = asked[f"models.{model}.hub.checkpoints.{name}"]
            assert (found["revision"], found["files"]) == (point["revision"], "checkpoint")
    assert asked["corpora.c4.source"]["files"]["count"] == 880
    assert asked["corpora.c4_amber.tokenizer.hub"]["repository"] == "LLM360/Amber"
    assert asked["tasks.starcoder_python.source"]["files"] == {"folder": "python"}
    assert asked["tasks.tulu.tokenizer"]["files"] == {"names": ["tokenizer.json"]}
    assert asked["prompts.alpaca_eval.source"]["files"] == {"names": ["alpaca_eval.json"]}
    piqa = asked["benchmark_suites.generalist.tasks.piqa.dataset"]
    assert (piqa["repository"], piqa["revision"]) == ("baber/piqa", "main")
    judge = CONFIG["judges"]["llama3_70b"]
    assert asked["judges.llama3_70b"]["repository"] == judge["model"]
    assert asked["judges.llama3_70b"]["files"] == "checkpoint"
    assert not any("OLMo-10K" in key or "sympy" in key for key in asked)
    for source in asked.values():  # every key that a line tells to change is there
        for what, where in source["change"].items():
            level, parts = CONFIG, where.split(".")
            while parts:  # names may have points (0.04T)
                size = next(i for i in range(1, len(parts) + 1) if ".".join(parts[:i]) in level)
                level, parts = level[".".join(parts[:size])], parts[size:]
            assert level == source[what]
    assert targets.check_first() == ["results/sources.json"]


def test_stand_ins_are_trained_here_and_not_asked_for() -> None:
    config = json.loads(json.dumps(CONFIG))
    sets = ("released", "released_1b", "released_7b", "released_amber", "perturbed")
    for name in (*sets, "habit", "habit_by_tokens"):
        config["model_sets"][name] = ["OLMo-10K-hub"]
    config["amuro_char"]["ours"]["model"] = "OLMo-10K-steps"
    for name in ("amuro_char", "generalist"):
        config["benchmark_suites"][name]["backend"] = "hf"
    catalogue = catalogue_of(config)
    assert not any(key.startswith("models.") for key in targets_of(config).sources)
    assert catalogue.sources_of("models", "OLMo-10K-hub") == {}
    trained = "results/checkpoints/OLMo-10K/0.84M"
    assert catalogue.stands_in("OLMo-10K-hub", "0.84M") == [trained]
    assert catalogue.stands_in("OLMo-1B", "3.1T") == []


def test_a_figure_more_changes_the_slice_and_little_of_it_is_printed() -> None:
    config = json.loads(json.dumps(CONFIG))
    before = targets_of(config).sources_slice()
    config["task_sets"]["hh"] = ["alpaca"]
    assert targets_of(config).sources_slice() != before
    assert len(before) < 200


# --- the rules ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_rules_refuse_what_is_missing_and_go_on_with_what_is_there(
    repository: Path, root: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(repository, tmp_path / "copy", symlinks=True))
    amber = root / "models/LLM360/Amber"
    (amber / MAIN / "config.json").write_text(json.dumps({"model_type": "llama"}))
    tokenizer.characters().save(amber / MAIN)
    refs = {"main": MAIN} | {f"ckpt_{i:03d}": MAIN for i in range(359)}
    good, bad = (f"results/checkpoints/LLM360-Amber/{name}" for name in ("1.1T", "1.3T"))

    def run(server, *arguments: str) -> str:
        line = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
        environment = on_hub(server, tmp_path / "h") | {"HF_TOKEN": SECRET}
        done = subprocess.run(line, cwd=copy, env=environment, capture_output=True, text=True)
        return done.stdout + done.stderr

    with serve(root, refs) as server:
        said = run(server, "--", "check_sources")
        line = "LLM360/Amber at ckpt_410: no such revision; nearest ckpt_358, ckpt_357, ckpt_356"
        change = "change models.LLM360-Amber.hub.checkpoints.1.3T.revision"
        assert said.count(f"{line} (of 360); {change}") == 1  # for a person, on the terminal
        said = run(server, "-k", "--", good, bad, "results/tasks/trec/manifest.json")
        assert f"error: {line} (of 360); {change}" in said
        assert f"error: SetFit/TREC-QC: {client.NO_REPOSITORY}" in said
        assert (copy / good / "model.safetensors").exists() and not (copy / bad).exists()
        assert json.loads((copy / good / "manifest.json").read_text())["commit"] == MAIN
        # Another revision is asked for: the check is made again, and only that one fetched.
        name = {"hub": {"checkpoints": {"1.3T": {"revision": "ckpt_300"}}}}
        other = ["--config", f"models={json.dumps({'LLM360-Amber': name})}"]
        planned = run(server, "-n", *other, "--", "results/sources.json", good, bad)
        jobs = dict(re.findall(r"^(\w+) +(\d+)$", planned, re.MULTILINE))
        assert jobs == {"check_sources": "1", "download_checkpoint": "1", "total": "2"}, planned
        run(server, *other, "--", bad)
        assert json.loads((copy / bad / "manifest.json").read_text())["revision"] == "ckpt_300"
    for path in copy.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    text = (copy / "results/sources.md").read_text()
    assert "| models.LLM360-Amber.hub.checkpoints.1.3T | LLM360/Amber | ckpt_410 |" in text

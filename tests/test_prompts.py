"""Prompts: AlpacaEval's file of a hub data set, and questions about installed packages."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hub import run_on_hub, serve

from overtrain import PipelineError, docstrings, prompts
from overtrain.provenance import sha256

COMMIT = "a" * 40
SOURCE = {"dataset": "tatsu-lab/alpaca_eval", "revision": "main", "file": "alpaca_eval.json"}
QUESTIONS = {"kind": "questions", "packages": ["fsspec"], "without": [], "question": 30}
QUESTIONS |= {"answer": 40}
CONFIG = yaml.safe_load((Path(__file__).parents[1] / "config.yaml").read_text())["prompts"]
PREPARE = """
import json, sys
from pathlib import Path
from overtrain import PipelineError, prompts
try:
    prompts.prepare("alpaca_eval", json.loads(sys.argv[1]), Path(sys.argv[2]), {"seed": 1})
except PipelineError as error:
    sys.exit(f"error: {error}")
"""


def error_line(action: Callable) -> str:
    with pytest.raises(PipelineError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


def rows(count: int) -> list[dict]:
    """As in AlpacaEval's file: ordered by data set, with the answers of its own baseline."""
    return [
        {"instruction": f"Say {n}.", "output": "No.", "generator": "g", "dataset": f"part {n // 9}"}
        for n in range(count)
    ]


def hub_folder(root: Path, content: object) -> Path:
    folder = root / "datasets" / SOURCE["dataset"] / COMMIT
    folder.mkdir(parents=True)
    (folder / SOURCE["file"]).write_text(json.dumps(content))
    (folder / "alpaca_eval.py").write_text("raise SystemExit('a script was run')")
    return root


def test_the_file_of_the_hub_at_one_commit(tmp_path):
    settings, path = {"source": SOURCE, "count": 36}, tmp_path / "prompts.parquet"
    with serve(hub_folder(tmp_path / "hub", rows(36)), {"main": COMMIT}) as hub:
        done = run_on_hub(hub, tmp_path, PREPARE, json.dumps(settings), str(path))
        assert done.returncode == 0, done.stderr
        assert not any("alpaca_eval.py" in request for request in hub.requests)
        assert any(f"resolve/{COMMIT}/alpaca_eval.json" in request for request in hub.requests)
    assert prompts.read(path) == [
        {"instruction": f"Say {n}.", "dataset": f"part {n // 9}", "answer": None} for n in range(36)
    ]
    manifest = json.loads(path.with_suffix(".json").read_text())
    assert manifest["revision"] == COMMIT and manifest["sha256"] == sha256(path)
    assert (manifest["count"], manifest["provenance"]) == (36, {"seed": 1})


def test_a_part_of_the_prompts_is_of_all_their_data_sets(tmp_path):
    (tmp_path / "alpaca_eval.json").write_text(json.dumps(rows(36)))
    settings = {"source": SOURCE | {"dataset": str(tmp_path)}, "count": 8}
    prompts.prepare("few", settings, tmp_path / "few.parquet", {})
    read = prompts.read(tmp_path / "few.parquet")
    assert [row["dataset"] for row in read] == [f"part {n // 2}" for n in range(8)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (rows(35), "the source has 35 prompts; count is 36"),
        (
            [{"prompt": "Why?", "dataset": "x"}],
            "needs instruction and dataset; one has ['dataset', 'prompt']",
        ),
        ({"rows": 1}, "one has str"),
    ],
)
def test_a_source_that_changed_is_one_line(content, reason, tmp_path):
    (tmp_path / "alpaca_eval.json").write_text(json.dumps(content))
    settings = {"source": SOURCE | {"dataset": str(tmp_path)}, "count": 36}
    path = tmp_path / "out" / "p.parquet"
    line = error_line(lambda: prompts.prepare("own", settings, path, {}))
    assert line.startswith("prompts.own: ") and reason in line
    assert not path.parent.exists()


@pytest.mark.parametrize("missing", ["file", "revision"])
def test_a_file_or_revision_that_is_not_there_is_one_line(missing, tmp_path):
    settings = {"source": SOURCE | {missing: "none.json"}, "count": 1}
    with serve(hub_folder(tmp_path / "hub", rows(1)), {"main": COMMIT}) as hub:
        path = tmp_path / "p.parquet"
        done = run_on_hub(hub, tmp_path, PREPARE, json.dumps(settings), str(path))
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "none.json" in done.stderr and not path.exists()


def test_questions_ask_about_documented_names_and_know_the_answer():
    found, revision = prompts.from_packages(QUESTIONS)
    assert revision == "installed packages" and len(found) > 100
    assert found == prompts.from_packages(QUESTIONS)[0]
    texts = " ".join(d.text for d in docstrings.extract(["fsspec"]))
    known = " ".join(texts.split())
    asked = {row["instruction"] for row in found}
    assert len(asked) == len(found)
    assert all(len(row["instruction"]) <= 30 and len(row["answer"]) <= 40 for row in found)
    assert sum(row["answer"] in known for row in found) > 40  # of docstrings of 200 characters
    assert not any("_" in row["instruction"][8:9] for row in found)


def test_questions_that_training_could_have_are_left_out():
    found, _ = prompts.from_packages(QUESTIONS)
    parted, _ = prompts.from_packages(QUESTIONS | {"without": ["fsspec.implementations"]})
    taken, _ = prompts.from_packages(QUESTIONS | {"packages": ["fsspec.implementations"]})
    assert 0 < len(parted) < len(found)
    asked, trained = ({row["instruction"] for row in part} for part in (parted, taken))
    assert not asked & trained
    assert asked < {row["instruction"] for row in found}


def test_the_demos_prompts_are_there():
    own = CONFIG["held_out_questions"]
    found, _ = prompts.from_packages(own["source"])
    assert len(found) > own["count"]


def test_a_package_that_is_not_there_is_one_line(tmp_path):
    settings = {"source": QUESTIONS | {"packages": ["no_such"]}, "count": 1}
    line = error_line(lambda: prompts.prepare("own", settings, tmp_path / "p.parquet", {}))
    assert "no Python files under no_such/" in line


def test_a_damaged_file_is_one_line(tmp_path):
    (tmp_path / "p.parquet").write_bytes(b"PAR1")
    assert "p.parquet" in error_line(lambda: prompts.read(tmp_path / "p.parquet"))

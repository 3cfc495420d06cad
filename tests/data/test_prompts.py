"""Prompts: AlpacaEval's file of a hub data set, and a task's held-out questions."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from configuration import PAPERS
from local_hub import run_on_hub, serve
from stories import write_task

from overtrain import PipelineError
from overtrain.data import prompts
from overtrain.records.provenance import sha256

COMMIT = "a" * 40
SOURCE = {"dataset": "tatsu-lab/alpaca_eval", "revision": "main", "file": "alpaca_eval.json"}
PINNED = SOURCE | {"revision": COMMIT}
CONFIG = PAPERS
PREPARE = """
import json, sys
from pathlib import Path
from overtrain import PipelineError
from overtrain.data import prompts
try:
    settings, path = json.loads(sys.argv[1]), Path(sys.argv[2])
    prompts.prepare("alpaca_eval", settings, Path("tasks"), path, {"seed": 1})
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
    settings, path = {"source": PINNED, "count": 36}, tmp_path / "prompts.parquet"
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
    prompts.prepare("few", settings, tmp_path, tmp_path / "few.parquet", {})
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
    line = error_line(lambda: prompts.prepare("own", settings, tmp_path, path, {}))
    assert line.startswith("prompts.own: ") and reason in line
    assert not path.parent.exists()


@pytest.mark.parametrize("missing", ["file", "revision"])
def test_a_file_or_revision_that_is_not_there_is_one_line(missing, tmp_path):
    settings = {"source": PINNED | {missing: "none.json"}, "count": 1}
    with serve(hub_folder(tmp_path / "hub", rows(1)), {"main": COMMIT}) as hub:
        path = tmp_path / "p.parquet"
        done = run_on_hub(hub, tmp_path, PREPARE, json.dumps(settings), str(path))
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "none.json" in done.stderr and not path.exists()


def test_questions_of_a_task_are_its_test_conversations_of_one_answer(tmp_path):
    def talk(*contents: str) -> dict:
        roles = ("user", "assistant") * (len(contents) // 2)
        turns = zip(roles, contents, strict=True)
        return {"messages": [{"role": role, "content": content} for role, content in turns]}

    rows = [talk("Why?", "So."), talk("Who?", "I.", "Really?", "Yes."), talk("When?", "Now.")]
    write_task(tmp_path / "talk", "chat", {"test": rows})
    settings, path = {"source": {"task": "talk"}, "count": 2}, tmp_path / "p.parquet"
    prompts.prepare("own", settings, tmp_path, path, {})
    assert prompts.read(path) == [
        {"instruction": "Why?", "dataset": "talk", "answer": "So."},
        {"instruction": "When?", "dataset": "talk", "answer": "Now."},
    ]
    manifest = json.loads(path.with_suffix(".json").read_text())
    assert manifest["revision"] == sha256(tmp_path / "talk/test.parquet")
    line = error_line(lambda: prompts.prepare("own", settings | {"count": 3}, tmp_path, path, {}))
    assert line == "prompts.own: the source has 2 prompts; count is 3"


def test_a_task_that_is_not_there_is_one_line(tmp_path):
    settings = {"source": {"task": "talk"}, "count": 1}
    line = error_line(lambda: prompts.prepare("own", settings, tmp_path, tmp_path / "p", {}))
    assert line.startswith("prompts.own: ") and "talk/test.parquet" in line


def test_the_demos_prompts_are_there():
    own = CONFIG["prompts"]["held_out_pieces"]
    assert CONFIG["tasks"][own["source"]["task"]]["examples"]["test"] >= own["count"]

"""Conversations: every format by hand, what is left out and why, splits disjoint by prompt."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from overtrain import PipelineError
from overtrain.data import conversations, docstrings, tasks
from overtrain.data.conversations import conversation, disjoint, exchange, prompt_key, summary


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict:
    return {"role": "assistant", "content": text}


HH = (
    "\n\nHuman: Hi, what is\n\nthis: a cat?\n\nAssistant: A dog.\n\nHuman: Sure?\n\nAssistant: Yes."
)


@pytest.mark.parametrize(
    ("kind", "row", "expected"),
    [
        (
            "hh",
            {"chosen": HH, "rejected": "..."},
            [
                user("Hi, what is\n\nthis: a cat?"),
                assistant("A dog."),
                user("Sure?"),
                assistant("Yes."),
            ],
        ),
        (
            "messages",
            {
                "messages": [
                    {"role": "system", "content": "Be kind."},
                    user(" a "),
                    assistant("b\n"),
                ]
            },
            [{"role": "system", "content": "Be kind."}, user("a"), assistant("b")],
        ),
        (
            "alpaca",
            {"instruction": "Add.", "input": "1, 2", "output": "3"},
            [user("Add.\n\n1, 2"), assistant("3")],
        ),
        (
            "alpaca",
            {"instruction": "Sing.", "input": "", "output": "La", "text": "..."},
            [user("Sing."), assistant("La")],
        ),
    ],
)
def test_formats_by_hand(kind, row, expected):
    assert conversation(row, kind) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Hello\n\nHuman: a\n\nAssistant: b", "text before the first turn"),
        ("\n\nHuman: a\n\nAssistant: b\n\nHuman: c", "does not end in an assistant turn"),
        ("", "does not end in an assistant turn"),
        ("\n\nHuman: a\n\nHuman: b\n\nAssistant: c", "user and assistant do not take turns"),
        ("\n\nAssistant: b", "user and assistant do not take turns"),
        ("\n\nHuman: a\n\nAssistant: ", "an empty turn"),
        (None, "a column without a value"),
    ],
)
def test_what_is_no_conversation_is_left_out_and_counted(text, reason):
    good = {"chosen": HH}
    found, left_out = conversations.read([good, {"chosen": text}, good, {"chosen": text}], "hh")
    assert [e["messages"] for e in found] == [conversation(good, "hh")]
    assert left_out == {reason: 2, "a repetition": 1}


@pytest.mark.parametrize(
    ("kind", "row", "line"),
    [
        (
            "hh",
            {"prompt": "a", "good": "b"},
            "no column 'chosen', which format hh reads; the source has ['good', 'prompt']",
        ),
        (
            "alpaca",
            {"instruction": "a", "response": "b"},
            "no column 'input', which format alpaca reads; the source has "
            "['instruction', 'response']",
        ),
        (
            "messages",
            {"messages": [{"from": "human", "value": "a"}]},
            "a message of column 'messages' has no 'role'; it has ['from', 'value']",
        ),
    ],
)
def test_changed_columns_are_one_clear_line(kind, row, line):
    with pytest.raises(PipelineError) as error:
        conversations.read([row], kind)
    assert str(error.value) == line


def examples(*prompts: str) -> list[dict]:
    return [
        {"messages": exchange(p, f"answer {i}"), "dataset": None} for i, p in enumerate(prompts)
    ]


def test_splits_are_disjoint_by_prompt():
    given = {
        "train": examples("a", "b", "A ", "c", "d", "d", "e", "f", "f  g"),
        "test": examples("c", "C", "x"),
    }
    found = disjoint(given, {"train": 4, "validation": 2, "test": 5})
    prompts = {s: [prompt_key(e["messages"]) for e in own] for s, own in found.items()}
    # Test: each prompt once. Validation, from the training rows: "a" once. Training keeps the
    # other conversations of a prompt ("d"), but none of another split's ("A ", "c").
    assert prompts == {
        "test": ["c", "x"],
        "validation": ["a", "b"],
        "train": ["d", "d", "e", "f"],
    }


def test_summary_by_hand():
    own = [
        {"messages": [user("ab"), assistant("cde"), user("f"), assistant("g")], "dataset": "x"},
        {"messages": exchange("h", "ij"), "dataset": "y"},
        {"messages": exchange("h", "ij"), "dataset": "y"},
    ]
    found = summary(own, lambda texts: [10 * len(t) for t in texts])
    assert found["turns"]["mean"] == pytest.approx(8 / 3)
    assert found["characters"]["prompt"]["mean"] == pytest.approx(5 / 3)
    assert found["characters"]["response"]["largest"] == 4
    assert found["tokens"]["response"]["quantiles"]["0.5"] == 20
    assert found["datasets"] == {"y": 2, "x": 1}
    assert set(summary(own[:1], None)) == {"turns", "characters", "datasets"}


# --- a task ---------------------------------------------------------------------------------------

TASK = {"kind": "chat", "format": "messages", "tokenizer": None, "title": "T",
        "examples": {"train": 12, "validation": 3, "test": 4}}  # fmt: skip


def source(folder: Path, rows: list[dict]) -> dict:
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")
    return {"dataset": str(folder), "revision": "main", "splits": {"train": "train"}}


def test_a_task_of_a_local_folder(tmp_path):
    rows = [
        {"dataset": "ab"[i % 2], "messages": exchange(f"Q {i % 30}", f"a{i}")} for i in range(60)
    ]
    rows.append({"dataset": "a", "messages": [user("and then nothing")]})
    task = TASK | {"source": source(tmp_path / "source", rows)}
    tasks.prepare("t", task, tmp_path / "t", {"made": "here"})
    splits = {s: tasks.read_split(tmp_path / "t", s, "chat") for s in tasks.SPLITS}
    assert {s: len(own) for s, own in splits.items()} == TASK["examples"]
    keys = {s: {prompt_key(r["messages"]) for r in own} for s, own in splits.items()}
    assert (
        not keys["train"] & (keys["test"] | keys["validation"]) | keys["test"] & keys["validation"]
    )
    assert [r["messages"][0] for r in splits["train"]] != [r["messages"][0] for r in rows[:12]]
    manifest = json.loads((tmp_path / "t/manifest.json").read_text())
    assert manifest["left_out"] == {"train": {"does not end in an assistant turn": 1}}
    counts = manifest["splits"]["train"]["datasets"]
    assert set(counts) == {"a", "b"} and sum(counts.values()) == 12
    first = {p.name: p.read_bytes() for p in (tmp_path / "t").iterdir()}
    tasks.prepare("t", task, tmp_path / "t", {"made": "here"})
    assert {p.name: p.read_bytes() for p in (tmp_path / "t").iterdir()} == first


def test_a_task_without_conversations_is_one_clear_line(tmp_path):
    rows = [{"messages": [user("only a question")]}] * 4
    task = TASK | {"source": source(tmp_path / "source", rows)}
    with pytest.raises(PipelineError, match=r"^tasks\.t: the test split is empty$"):
        tasks.prepare("t", task, tmp_path / "t", {})
    assert not (tmp_path / "t").exists()


def test_origins_ask_for_the_packages_of_pieces_in_turns():
    packages = ["fsspec.implementations", "jinja2"]
    source = {"kind": "origins", "packages": packages, "answers": ["files", "marks"]}
    rows = tasks.rows_from_packages(source | {"characters": 30})
    documents = [[d.text for d in docstrings.extract([package])] for package in packages]
    assert len(rows) == 2 * min(map(len, documents)) > 10
    for place, row in enumerate(rows):
        package = place % 2
        question, answer = (m["content"] for m in row["messages"])
        assert answer == source["answers"][package] and row["dataset"] == packages[package]
        assert 8 < len(question) <= 30
        assert question in " ".join(documents[package][place // 2].split())

"""Tasks: every source of config.yaml as three disjoint splits, and these as tokens with loss."""

import ast
import hashlib
import json
import re
import string
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from configuration import PAPERS
from hypothesis import given
from hypothesis import strategies as st
from local_hub import run_on_hub, serve

from overtrain import PipelineError
from overtrain.data import docstrings, programs, tasks
from overtrain.data.docstrings import extract
from overtrain.data.tokenizer import SYMBOLS, characters
from overtrain.model.architecture import IGNORE
from overtrain.model.examples import encode_choices, encode_texts, right_answers
from overtrain.records.provenance import sha256

# Those with images have a test of their own.
CONFIG = {n: task for n, task in PAPERS["tasks"].items() if task["kind"] != "image_chat"}
HUB_TASKS = [name for name, task in CONFIG.items() if "dataset" in task["source"]]
STAND_INS = [name for name, task in CONFIG.items() if "kind" in task["source"]]
SIZES = {"train": 20, "validation": 6, "test": 8}
COMMIT = "c" * 40


def error_line(action: Callable) -> str:
    """The message of the PipelineError that `action` ends in: one line."""
    with pytest.raises(PipelineError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


def read(folder: Path, name: str) -> dict[str, list[dict]]:
    kind = CONFIG[name]["kind"]
    return {split: tasks.read_split(folder, split, kind) for split in tasks.SPLITS}


def check_splits(folder: Path, splits: dict[str, list[dict]], sizes: dict[str, int]) -> None:
    """The sizes asked for, no example twice anywhere, and a manifest that says the same."""
    assert {split: len(rows) for split, rows in splits.items()} == sizes
    keys = [json.dumps(row) for rows in splits.values() for row in rows]
    assert len(set(keys)) == len(keys)
    manifest = json.loads((folder / "manifest.json").read_text())
    for split in tasks.SPLITS:
        own = {"examples": sizes[split], "sha256": sha256(folder / f"{split}.parquet")}
        assert own.items() <= manifest["splits"][split].items()


# --- the hub --------------------------------------------------------------------------------------

# What a row of each repository holds; `t` tells rows apart, `i` counts them.
ROWS = {
    "gsm8k": lambda t, i: {"question": f"How many {t}?", "answer": f"{i} of them.\n#### {i}"},
    "starcoder_python": lambda t, i: {
        "max_stars_repo_path": f"{t}.py",
        "max_stars_repo_name": "a/b",
        "max_stars_count": i,
        "id": str(i),
        "content": f"def {t}():\n    return {{{i}}}\n",
    },
    "siqa": lambda t, i: {
        "context": f"Kai met {t}.",
        "question": "Why?",
        "answerA": f"a{i}",
        "answerB": f"b{i}",
        "answerC": f"c{i}",
        "label": "123"[i % 3],
    },
    "mr": lambda t, i: {"text": f"a film of {t}", "label": i % 2},
    "rte": lambda t, i: {
        "sentence1": f"{t} fell.",
        "sentence2": "It fell.",
        "label": i % 2,
        "idx": i,
    },
    "trec": lambda t, i: {
        "text": f"Who is {t} ?",
        "label": i,
        "label_text": "individual",
        "label_original": "HUM:ind",
        "label_coarse": i % 6,
        "label_coarse_text": "human beings",
        "label_coarse_original": ["DESC", "ENTY", "ABBR", "HUM", "NUM", "LOC"][i % 6],
    },
    "subj": lambda t, i: {
        "text": t,
        "label": i % 2,
        "label_text": ["objective", "subjective"][i % 2],
    },
    "boolq": lambda t, i: {
        "question": f"is it {t}",
        "answer": i % 2 == 1,
        "passage": f"It is {i}.",
    },
    "cr": lambda t, i: {"text": t, "label": i % 2, "label_text": ["negative", "positive"][i % 2]},
    "tweet_sentiment": lambda t, i: {
        "id": f"x{i}",
        "text": t,
        "label": i % 3,
        "label_text": ["negative", "neutral", "positive"][i % 3],
    },
    "ag_news": lambda t, i: {"text": t, "label": i % 4},
    "anthropic_hh": lambda t, i: {
        "chosen": f"\n\nHuman: What is {t}?\n\nAssistant: It is {i}.",
        "rejected": f"\n\nHuman: What is {t}?\n\nAssistant: No.",
    },
    "tulu": lambda t, i: {
        "dataset": ["flan_v2", "cot"][i % 2],
        "id": f"{t}-{i}",
        "messages": [
            {"role": "user", "content": f"What is {t}?"},
            {"role": "assistant", "content": f"It is {i}."},
        ],
    },
    "alpaca": lambda t, i: {
        "instruction": "What is it?",
        "input": t,
        "output": f"It is {i}.",
        "text": "Below is an instruction",
    },
    "xsum": lambda t, i: {"document": f"News of {t}.", "summary": f"It is {i}.", "id": t},
    "xlsum": lambda t, i: {
        "id": t,
        "url": "",
        "title": "",
        "summary": f"It is {i}.",
        "text": f"News of {t}.",
    },
    "cnn": lambda t, i: {"article": f"News of {t}.", "highlights": f"It is {i}.", "id": t},
    "sciq_questions": lambda t, i: {
        "question": f"What is {i}?",
        "distractor1": "no",
        "distractor2": "no",
        "distractor3": "no",
        "correct_answer": f"c{i}",
        "support": f"On {t}.",
    },
    "tweetqa": lambda t, i: {
        "Question": f"What is {i}?",
        "Answer": [f"c{i}", "no"],
        "Tweet": f"On {t}.",
        "qid": t,
    },
    "mnli": lambda t, i: {
        "premise": f"{t} fell.",
        "hypothesis": "It fell.",
        "label": i % 3,
        "idx": i,
    },
    "gpt3nli": lambda t, i: {"text_a": f"{t} fell.", "text_b": "It fell.", "label": i % 3},
    "paws": lambda t, i: {"id": i, "sentence1": t, "sentence2": "It fell.", "label": i % 2},
    "qqp": lambda t, i: {"question1": t, "question2": "It fell.", "label": i % 2, "idx": i},
    "stsb": lambda t, i: {"sentence1": t, "sentence2": "It fell.", "label": i % 6 * 1.0, "idx": i},
    "tinygsm": lambda t, i: {
        "question": f"What is {t}?",
        "code": f'def it():\n    """{t}"""\n    return {i}\n',
    },
}
ROWS |= {"socialiqa": ROWS["siqa"], "mnli_mismatched": ROWS["mnli"], "rte_entailment": ROWS["rte"]}
ROWS |= {"tulu_v2": ROWS["tulu"], "tinygsm_bare": ROWS["tinygsm"]}
# What is answered to question i of the prompted tasks: words, or one of the choices.
ANSWERS: dict[str, Callable[[int], str]] = {
    **dict.fromkeys(("xsum", "xlsum", "cnn"), lambda i: f" It is {i}."),
    **dict.fromkeys(("sciq_questions", "tweetqa"), lambda i: f" What is {i}?"),
    "socialiqa": lambda i: " Why?",
    **dict.fromkeys(
        ("mnli", "mnli_mismatched", "gpt3nli"),
        lambda i: (" entailment", " neutral", " contradiction")[i % 3],
    ),
    "rte_entailment": lambda i: (" entailment", " neutral")[i % 2],
    **dict.fromkeys(("paws", "qqp"), lambda i: (" no", " yes")[i % 2]),
    "stsb": lambda i: " yes" if i % 6 > 3.5 else " no",
}
# Files of each repository and the splits they hold; "other" is what none of the tasks asks for.
FILES = {
    "gsm8k": {
        "main/{}-00000-of-00001.parquet": ("train", "test"),
        "socratic/{}-0.parquet": "other",
    },
    "starcoder_python": {"python/{}-00000-of-00059.parquet": ("train",), "c/{}-0.parquet": "other"},
    "siqa": {"data/{}-00000-of-00001.parquet": ("train", "validation")},
    "mr": {"{}.parquet": ("train", "validation", "test")},
    "rte": {
        "rte/{}-00000-of-00001.parquet": ("train", "validation"),
        "cola/{}-0.parquet": "other",
    },
    "trec": {"{}.jsonl": ("train", "test")},
    "subj": {"{}.jsonl": ("train", "test")},
    "boolq": {"data/{}-00000-of-00001.parquet": ("train", "validation")},
    "cr": {"{}.jsonl": ("train", "test")},
    "tweet_sentiment": {"{}.jsonl": ("train", "test")},
    "ag_news": {"data/{}-00000-of-00001.parquet": ("train", "test")},
    "anthropic_hh": {"harmless-base/{}.jsonl": ("train", "test")},
    "tulu": {"data/{}-00000-of-00001.parquet": ("train",)},
    "alpaca": {"data/{}-00000-of-00001-a09b74b3ef9c3b56.parquet": ("train",)},
    "xsum": {"data/{}-00000-of-00001.parquet": ("train", "validation", "test")},
    "xlsum": {
        "english/{}/0000.parquet": ("train", "validation", "test"),
        "french/{}/0000.parquet": "other",
    },
    "cnn": {
        "3.0.0/{}-00000-of-00001.parquet": ("train", "validation", "test"),
        "1.0.0/{}-0.parquet": "other",
    },
    "sciq_questions": {"data/{}-00000-of-00001.parquet": ("train", "validation", "test")},
    "tweetqa": {"data/{}-00000-of-00001.parquet": ("train", "validation")},
    "mnli": {
        "mnli/{}-00000-of-00001.parquet": ("train", "validation_matched", "validation_mismatched")
    },
    "gpt3nli": {"data/{}-00000-of-00001.parquet": ("train",)},
    "paws": {
        "labeled_final/{}-00000-of-00001.parquet": ("train", "validation", "test"),
        "unlabeled_final/{}-0.parquet": "other",
    },
    "qqp": {"qqp/{}-00000-of-00001.parquet": ("train", "validation")},
    "stsb": {"stsb/{}-00000-of-00001.parquet": ("train", "validation")},
    "tinygsm": {"{}.jsonl": ("train",)},
}
FILES |= {"socialiqa": FILES["siqa"], "mnli_mismatched": FILES["mnli"]}
FILES |= {"rte_entailment": FILES["rte"], "tulu_v2": FILES["tulu"]}
FILES |= {"tinygsm_bare": FILES["tinygsm"]}
GLUE = {name: ("train", "validation") for name in ("rte", "qqp", "stsb")} | {"cola": ("train",)}
GLUE |= {"mnli": ("train", "validation_matched", "validation_mismatched")}
CARDS = {
    "gsm8k": {"main": ("train", "test"), "socratic": ("train",)},
    "cnn": {"3.0.0": ("train", "validation", "test"), "1.0.0": ("train",)},
    "paws": {"labeled_final": ("train", "validation", "test"), "unlabeled_final": ("train",)},
    **dict.fromkeys(("rte", "rte_entailment", "mnli", "mnli_mismatched", "qqp", "stsb"), GLUE),
}
# The example that row 3 of the source of the test split must become.
THIRD = {
    "gsm8k": {"text": "How many test3?\n3 of them.\n#### 3"},
    "siqa": {"prompt": "Kai met validation3. Why?", "choices": [" a3", " b3", " c3"], "label": 0},
    "mr": {
        "prompt": "a film of test3\nSentiment:",
        "choices": [" negative", " positive"],
        "label": 1,
    },
    "rte": {
        "prompt": "validation3 fell.\nDoes it follow that It fell.\nAnswer:",
        "choices": [" yes", " no"],
        "label": 1,  # glue: 0 is entailment
    },
    "trec": {"prompt": "Who is test3 ?\nThe answer is", "label": 3},
    "subj": {"prompt": "test3\nThis is", "choices": [" objective", " subjective"], "label": 1},
    "boolq": {
        "prompt": "It is 3.\nQuestion: is it validation3?\nAnswer:",
        "choices": [" no", " yes"],
        "label": 1,
    },
    "cr": {"prompt": "test3\nSentiment:", "choices": [" negative", " positive"], "label": 1},
    "tweet_sentiment": {"prompt": "test3\nSentiment:", "label": 0},
    "ag_news": {"prompt": "test3\nTopic:", "label": 3},
}
COUNTS = {"train": 40, "validation": 9, "test": 9, "other": 9}


def write_repository(folder: Path, name: str) -> None:
    for pattern, splits in FILES[name].items():
        for split in ("train",) if splits == "other" else splits:
            path = folder / pattern.format(split)
            path.parent.mkdir(parents=True, exist_ok=True)
            label = "other" if splits == "other" else split
            trained_on = label == CONFIG[name]["source"]["splits"]["train"]
            count = COUNTS["train"] if trained_on else COUNTS.get(label, 9)
            rows = [ROWS[name](f"{label}{i}", i) for i in range(count)]
            if path.suffix == ".parquet":
                pq.write_table(pa.Table.from_pylist(rows), path)
            else:
                path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if name in CARDS:
        configs = [
            {
                "config_name": config,
                "data_files": [{"split": s, "path": f"{config}/{s}-*"} for s in splits],
            }
            for config, splits in CARDS[name].items()
        ]
        card = yaml.safe_dump({"configs": configs})
        (folder / "README.md").write_text(f"---\n{card}---\n")


PREPARE = """
import json, sys
from pathlib import Path
import datasets
from overtrain.data import tasks

datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0  # five seconds after a shuffle

settings, wrong, folder = json.loads(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3])
for name, task in settings.items():
    tasks.prepare(name, task, folder / name, {"made": "here"})
for name, task in wrong.items():
    try:
        tasks.prepare(name, task, folder / "wrong", {})
    except Exception as error:
        print(json.dumps([name, type(error).__name__, str(error)]))
"""
WRONG = {
    "revision": {"revision": "nope"},
    "dataset": {"dataset": "SetFit/nothing"},
    "split": {"splits": {"train": "train", "test": "tset"}},
    "configuration": {"name": "nope"},
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], dict]:
    """All hub tasks as configured, in small: their folder, requests, errors of wrong sources."""
    folder = tmp_path_factory.mktemp("tasks")
    settings = {}
    for name in HUB_TASKS:
        task = CONFIG[name] | {"examples": SIZES}
        if "tokenizer" in task:
            characters().save(folder)
            task["tokenizer"] = {"repository": str(folder), "revision": "main"}
        task["source"] = task["source"] | {"revision": COMMIT}
        if "take" in task["source"]:
            task["source"] |= {"take": 34}
        if "program" in task:
            task["program"] = {"begins": "answer"} | task["program"]  # as by default
        write_repository(folder / "root/datasets" / task["source"]["dataset"] / COMMIT, name)
        settings[name] = task
    subj = settings["subj"]
    wrong = {case: subj | {"source": subj["source"] | change} for case, change in WRONG.items()}
    with serve(folder / "root", {"main": COMMIT}) as hub:
        arguments = [json.dumps(settings), json.dumps(wrong), str(folder)]
        done = run_on_hub(hub, folder / "home", PREPARE, *arguments)
    assert done.returncode == 0, done.stderr
    errors = {case: tuple(rest) for case, *rest in map(json.loads, done.stdout.splitlines())}
    return folder, hub.requests, errors


def text_of(row: dict) -> str:
    own = row.get("text", row.get("prompt"))
    return row["messages"][0]["content"] if own is None else own


def test_conversations_of_the_hub(prepared: tuple) -> None:
    folder = prepared[0]
    for name in ("anthropic_hh", "tulu", "alpaca"):
        for row in read(folder / name, name)["train"]:
            question, answer = (m["content"] for m in row["messages"])
            assert [m["role"] for m in row["messages"]] == ["user", "assistant"]
            i = question.rstrip("?").rpartition("train")[2]
            start = "What is it?\n\n" if name == "alpaca" else "What is "
            assert question.startswith(start) and answer == f"It is {i}."
        manifest = json.loads((folder / name / "manifest.json").read_text())
        train = manifest["splits"]["train"]
        assert manifest["left_out"] == {split: {} for split in CONFIG[name]["source"]["splits"]}
        assert train["turns"]["mean"] == 2
        assert train["tokens"] == train["characters"]  # of a tokenizer of characters
        assert train["characters"]["response"]["largest"] == len("It is 10.")
    assert "datasets" not in train
    tulu = json.loads((folder / "tulu/manifest.json").read_text())["splits"]["train"]["datasets"]
    assert set(tulu) == {"flan_v2", "cot"} and sum(tulu.values()) == SIZES["train"]


@pytest.mark.parametrize("name", HUB_TASKS)
def test_hub_task_as_configured(prepared: tuple, name: str) -> None:
    folder = prepared[0] / name
    splits = read(folder, name)
    check_splits(folder, splits, SIZES)
    given = CONFIG[name]["source"]["splits"]
    for split, rows in splits.items():
        texts = [text_of(row) for row in rows]
        assert all(
            given.get(split, given["train"]) in text and "other" not in text for text in texts
        )
    if name in THIRD:  # most tests are of 9 rows, of which 8 are drawn
        shown = THIRD[name].get("prompt", THIRD[name].get("text"))
        found = [r for rows in splits.values() for r in rows if shown in r.values()]
        assert found and THIRD[name].items() <= found[0].items()


@pytest.mark.parametrize("name", ANSWERS)
def test_a_question_of_the_hub_has_its_answer_and_its_formats(prepared: tuple, name: str) -> None:
    formats = CONFIG[name]["formats"]
    for row in read(prepared[0] / name, name)["train"]:
        question, answer = (m["content"] for m in row["messages"])
        i = int(re.search(r"(?:train|validation)(\d+)", question)[1])
        assert answer == row["answer"] == ANSWERS[name](i)
        assert (row["choices"] is None) == ("choices" not in CONFIG[name])
        if row["choices"]:
            assert row["choices"][row["label"]] == answer
        texts = {own["format"]: own["text"] for own in row["prompts"]}
        assert texts.keys() == formats.keys() and texts["default"] == question
        for format, text in texts.items():  # what the template says around its first column
            before, after = formats[format].split("{", 1)[0], formats[format].rsplit("}", 1)[1]
            assert text.startswith(before) and text.endswith(after)


def test_a_column_that_another_one_chooses(prepared: tuple) -> None:
    """SocialIQa's answer is the one of three that its label names."""
    for row in read(prepared[0] / "socialiqa", "socialiqa")["train"]:
        i = int(re.search(r"train(\d+)", row["messages"][0]["content"])[1])
        assert f"### Answer: {'abc'[i % 3]}{i} ###" in row["messages"][0]["content"]


def llmbar_files(folder: Path) -> dict:
    rows = [
        {"input": f"Say train{i}.", "output_1": f"a{i}", "output_2": f"b{i}", "label": i % 2 + 1}
        for i in range(40)
    ]
    (folder / "dataset.json").write_text(json.dumps(rows))
    path = folder / "dataset.json"
    return {"train": {"url": path.as_uri(), "sha256": sha256(path)}}


def test_rows_of_a_pinned_file(tmp_path: Path) -> None:
    own = {"source": {"files": llmbar_files(tmp_path)}, "examples": SIZES}
    tasks.prepare("llmbar_natural", CONFIG["llmbar_natural"] | own, tmp_path / "task", {})
    splits = read(tmp_path / "task", "llmbar_natural")
    for row in splits["test"]:
        i = int(re.search(r"train(\d+)", row["prompts"][0]["text"])[1])
        assert row["choices"] == [" 1", " 2"] and row["answer"] == f" {i % 2 + 1}"
        assert row["prompts"][0]["text"].endswith(
            f"Output 1: a{i}\nOutput 2: b{i}\nThe better output is Output"
        )


def test_a_file_that_is_not_the_pinned_one_is_one_line(tmp_path: Path) -> None:
    files = llmbar_files(tmp_path)
    (tmp_path / "dataset.json").write_text("[]")
    own = {"source": {"files": files}, "examples": SIZES}
    task = CONFIG["llmbar_natural"] | own
    line = error_line(lambda: tasks.prepare("llmbar_natural", task, tmp_path / "task", {}))
    assert "source.files.train.sha256 is" in line and line.startswith("tasks.llmbar_natural: ")
    assert not (tmp_path / "task").exists()


def test_labels_are_those_of_the_source(prepared: tuple) -> None:
    kinds = {"DESC": " a description", "ENTY": " an entity", "ABBR": " an abbreviation",
             "HUM": " a human", "NUM": " a number", "LOC": " a location"}  # fmt: skip
    for row in read(prepared[0] / "trec", "trec")["train"]:
        i = int(row["prompt"].split()[2].removeprefix("train"))
        right = ROWS["trec"]("", i)["label_coarse_original"]
        assert row["choices"][row["label"]] == kinds[right]
    for row in read(prepared[0] / "boolq", "boolq")["train"]:
        right = [" no", " yes"][int(row["prompt"].split("is it train")[1].split("?")[0]) % 2]
        assert row["choices"][row["label"]] == right


def test_manifest_has_the_commit_that_was_read(prepared: tuple) -> None:
    folder, requests, _ = prepared
    for name in HUB_TASKS:
        manifest = json.loads((folder / name / "manifest.json").read_text())
        assert manifest["revision"] == COMMIT
        assert manifest["source"]["dataset"] == CONFIG[name]["source"]["dataset"]
        assert manifest["kind"] == CONFIG[name]["kind"]
        assert manifest["provenance"] == {"made": "here"}
    asked = [line for line in requests if "/nope/" not in line]  # a wrong source's revision
    assert asked and all(COMMIT in line or "/revision/" in line for line in asked)
    assert any(f"/resolve/{COMMIT}/" in line for line in requests)


@pytest.mark.parametrize(
    ("case", "named"),
    [
        ("revision", ["SetFit/subj", "nope"]),
        ("dataset", ["SetFit/nothing"]),
        ("split", ["tset"]),
        ("configuration", ["nope"]),
    ],
)
def test_wrong_source_is_one_line(prepared: tuple, case: str, named: list[str]) -> None:
    kind, message = prepared[2][case]
    assert all(name in message for name in named)
    assert kind == "PipelineError" and "\n" not in message and message.startswith(f"tasks.{case}: ")


def test_local_folder_instead_of_a_repository(tmp_path: Path) -> None:
    write_repository(tmp_path / "source", "cr")
    source = CONFIG["cr"]["source"] | {"dataset": str(tmp_path / "source")}
    task = CONFIG["cr"] | {"source": source, "examples": SIZES}
    tasks.prepare("cr", task, tmp_path / "cr", {})
    check_splits(tmp_path / "cr", read(tmp_path / "cr", "cr"), SIZES)
    first = {path.name: sha256(path) for path in (tmp_path / "cr").iterdir()}
    tasks.prepare("cr", task, tmp_path / "cr", {})
    assert {path.name: sha256(path) for path in (tmp_path / "cr").iterdir()} == first
    broken = task | {"prompt": "{sentence}"}
    line = error_line(lambda: tasks.prepare("cr", broken, tmp_path / "x", {}))
    assert line == "tasks.cr: no column 'sentence'; the source has ['label', 'label_text', 'text']"


# --- stand-ins ------------------------------------------------------------------------------------


def follows(first: str, second: str, documents: list[str]) -> bool:
    return any(first + second in text for text in documents)


def test_pieces_of_documents() -> None:
    source = {"kind": "docstrings", "packages": ["fsspec"]}
    documents = extract(["fsspec"])
    whole = tasks.rows_from_packages(source)
    assert [row["text"] for row in whole] == [document.text for document in documents]
    assert {row["package"] for row in whole} == {"fsspec"}
    assert [row["module"] for row in whole] == [document.module for document in documents]
    pieces = [row["text"] for row in tasks.rows_from_packages(source | {"characters": 65})]
    assert {len(piece) for piece in pieces} == {65}
    assert all(p in d.text for p, d in zip(pieces, documents, strict=True))
    starts = sum(d.text.startswith(p[:9]) for p, d in zip(pieces, documents, strict=True))
    assert starts < len(pieces) / 4  # from all over the documents, not their first line


def test_pairs_are_labelled_right() -> None:
    source = {"kind": "pairs", "packages": ["fsspec"], "before": 28, "after": 28}
    rows, documents = tasks.rows_from_packages(source), [d.text for d in extract(["fsspec"])]
    assert 0.4 < np.mean([row["label"] == "yes" for row in rows]) < 0.6
    for row in rows:
        assert follows(row["first"], row["second"], documents) == (row["label"] == "yes")


def test_continuations_have_one_right_answer() -> None:
    source = {"kind": "continuations", "packages": ["fsspec"], "before": 40, "after": 16}
    rows, documents = tasks.rows_from_packages(source), [d.text for d in extract(["fsspec"])]
    counts = [sum(row["label"] == name for row in rows) / len(rows) for name in "abc"]
    assert min(counts) > 0.25
    for row in rows:
        right = [follows(row["context"], row[f"answer_{name}"], documents) for name in "abc"]
        assert right == [row["label"] == name for name in "abc"]


def test_following_words_are_whole_and_follow() -> None:
    source = {"kind": "continuations", "packages": ["fsspec"], "before": 20, "after": 20}
    rows = tasks.rows_from_packages(source)
    documents = [" ".join(d.text.split()) for d in extract(["fsspec"])]
    some = [row for row in rows if row["following"]]
    assert len(some) > len(rows) / 2
    for row in some:
        text = f"{row['beginning']} {row['following']}"
        assert any(f"{text} " in document for document in documents)
        assert len(text) <= 40
    assert tasks.between_words("the fi", "rst of two wor") == {
        "beginning": "the first",
        "following": "of two",
    }
    assert tasks.between_words("the", " first\n of tw")["following"] is not None
    assert tasks.between_words("a", "bcdef g")["following"] is None  # no whole word


def test_signatures_and_first_words() -> None:
    source = {"kind": "signatures", "packages": ["fsspec"], "signature": 14, "sentence": 12}
    rows = tasks.rows_from_packages(source)
    assert len(rows) > 100
    sentences = [d.text.split("\n")[1] for d in extract(["fsspec"], "signatures")]
    for row in rows:
        assert len(row["signature"]) <= 14 and 0 < len(row["sentence"]) <= 12
        assert any(f"{s} ".startswith(f"{row['sentence']} ") for s in sentences)


@pytest.mark.parametrize(
    ("characters", "words"),
    [(3, ""), (4, "some"), (8, "some"), (9, "some text"), (20, "some text")],
)
def test_whole_words(characters: int, words: str) -> None:
    assert docstrings.whole_words("some text", characters) == words


@pytest.fixture(scope="module")
def each_file_read_once() -> Iterator[None]:
    """The stand-ins share packages, and sympy alone takes ten seconds."""
    with pytest.MonkeyPatch.context() as patch:
        for kind, read_file in docstrings.READERS.items():
            patch.setitem(docstrings.READERS, kind, cache(read_file))
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("each_file_read_once")
@pytest.mark.parametrize("name", STAND_INS)
def test_stand_in_as_configured(name: str, tmp_path: Path) -> None:
    task = CONFIG[name]
    tasks.prepare(name, task, tmp_path, {})
    splits = read(tmp_path, name)
    check_splits(tmp_path, splits, task["examples"])
    rows = [row for split in splits.values() for row in split]
    texts = [text_of(row) for row in rows]
    assert all(text and set(text) <= set(SYMBOLS) for text in texts)
    if task["kind"] == "classification":
        count = len(task["choices"])
        for split in splits.values():
            shares = np.bincount([row["label"] for row in split], minlength=count) / len(split)
            assert shares.min() > 0  # every class is in every split
        assert all(len(set(row["choices"])) == count for row in rows)
    elif task["kind"] == "chat":
        for row in rows:
            question, answer = (m["content"] for m in row["messages"])
            assert 0 < len(question) <= task["source"]["characters"]
            assert answer in task["source"]["answers"]
        for split in splits.values():  # packages come in turns, and a place is drawn from no two
            answers = [row["messages"][1]["content"] for row in split]
            shares = [answers.count(a) / len(answers) for a in task["source"]["answers"]]
            assert min(shares) > 0.2
    elif task["kind"] == "prompted":
        check_prompted(splits, name)
    else:
        assert {len(text) for text in texts} == {task["source"]["characters"]}


def check_prompted(splits: dict[str, list], name: str) -> None:
    """A question and its answer fit the context of 64; its first character tells an answer."""
    suite, task = PAPERS["task_suites"]["pydoc"], CONFIG[name]
    asked = [own["task"] for own in suite["evaluations"].values()]
    assert suite["shots"] == 0 and (name in asked or "program" in task)
    rows = [row for split in splits.values() for row in split]
    for i, _ in enumerate(rows[0]["prompts"]):
        lengths = [len(row["prompts"][i]["text"]) + len(row["answer"]) for row in rows]
        assert max(lengths) < 64, rows[0]["prompts"][i]
    longest = max(len(row["prompts"][i]["text"]) for row in rows)
    if "program" not in task:  # a body that is longer than its new tokens is cut, and read so
        assert max(len(row["answer"]) for row in rows) <= task["new_tokens"]
    assert longest + task["new_tokens"] <= 64
    if "choices" in CONFIG[name]:
        first = [choice[0] for choice in CONFIG[name]["choices"]]
        assert len(set(first)) == len(first)
        assert {row["label"] for row in splits["test"]} == set(range(len(first)))


# --- splits ---------------------------------------------------------------------------------------

LANGUAGE = {"kind": "language_modelling", "text": "{text}", "examples": SIZES}
CHOICE = {
    "kind": "classification",
    "prompt": "{text}:",
    "choices": [" no", " {word}"],
    "label": {"column": "label", "values": ["n", "y"]},
    "examples": SIZES,
}


def numbered(name: str, count: int) -> list[dict]:
    return [{"text": f"{name} {i}"} for i in range(count)]


def texts_of(splits: dict[str, list]) -> dict[str, list[str]]:
    return {split: [row["text"] for row in rows] for split, rows in splits.items()}


def test_missing_splits_come_from_training_rows() -> None:
    rows = {"train": numbered("train", 40), "test": numbered("test", 40)}
    splits = texts_of(tasks.split_rows(rows, LANGUAGE, "t"))
    assert {split: len(texts) for split, texts in splits.items()} == SIZES
    assert all(text.startswith("test") for text in splits["test"])
    assert all(text.startswith("train") for text in splits["validation"] + splits["train"])
    assert not set(splits["validation"]) & set(splits["train"])
    alone = texts_of(tasks.split_rows(numbered("train", 40), LANGUAGE, "t"))
    assert {split: len(texts) for split, texts in alone.items()} == SIZES
    assert len({text for texts in alone.values() for text in texts}) == sum(SIZES.values())


def test_equal_examples_stay_out_of_training() -> None:
    same = numbered("same", 8)
    rows = {"train": same + same + numbered("train", 40), "test": same}
    splits = texts_of(tasks.split_rows(rows, LANGUAGE, "t"))
    assert set(splits["test"]) == {row["text"] for row in same}
    assert not any(text.startswith("same") for text in splits["train"] + splits["validation"])


def test_order_is_drawn_from_the_tasks_name() -> None:
    rows = numbered("train", 40)
    first = tasks.split_rows(rows, LANGUAGE, "a")
    assert tasks.split_rows(rows, LANGUAGE, "a") == first != tasks.split_rows(rows, LANGUAGE, "b")
    assert rows == numbered("train", 40)  # the source is not shuffled itself
    in_source = [int(text.split()[1]) for text in texts_of(first)["train"]]
    assert abs(np.corrcoef(in_source, range(20))[0, 1]) < 0.7


def test_templates_fill_prompt_choices_and_label() -> None:
    row = {"text": "is {it} so", "word": "yes", "label": "y"}
    expected = {"prompt": "is {it} so:", "choices": [" no", " yes"], "label": 1}
    assert tasks.example_of(row, CHOICE) == expected
    assert tasks.columns_of(CHOICE) == {"text", "word", "label"}
    assert tasks.columns_of(LANGUAGE) == {"text"}


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ({"text": "a", "label": "n"}, "no column 'word'; the source has ['label', 'text']"),
        ({"text": "a", "word": "b"}, "no column 'label'; the source has ['text', 'word']"),
        (
            {"text": "a", "word": "b", "label": "maybe"},
            "label 'maybe' of column 'label' is not in ['n', 'y']",
        ),
    ],
)
def test_rows_that_do_not_fit_are_named(row: dict, line: str) -> None:
    assert error_line(lambda: tasks.split_rows([row] * 3, CHOICE, "t")) == line


@pytest.mark.parametrize("split", ["test", "validation", "train"])
def test_empty_split_is_named(split: str) -> None:
    rows = {"train": numbered("a", 40), "validation": numbered("b", 9), "test": numbered("c", 9)}
    rows[split] = []
    line = error_line(lambda: tasks.split_rows(rows, LANGUAGE, "t"))
    assert line == f"the {split} split is empty"


def test_unreadable_split_is_named(tmp_path: Path) -> None:
    def write(columns: dict) -> None:
        pq.write_table(pa.table(columns), path)

    path = tmp_path / "test.parquet"
    line = error_line(lambda: tasks.read_split(tmp_path, "test", "language_modelling"))
    assert line.startswith(f"{path}: not a readable parquet file")
    path.write_bytes(b"PAR1 no")
    line = error_line(lambda: tasks.read_split(tmp_path, "test", "language_modelling"))
    assert line.startswith(f"{path}: not a readable parquet file")
    write({"text": ["a"], "prompt": ["b"]})
    assert tasks.read_split(tmp_path, "test", "language_modelling") == [
        {"text": "a", "prompt": "b"}
    ]
    line = error_line(lambda: tasks.read_split(tmp_path, "test", "classification"))
    assert line == f"{path}: no column 'choices'; a classification task needs it"
    write({"text": pa.array([], pa.string())})
    line = error_line(lambda: tasks.read_split(tmp_path, "test", "language_modelling"))
    assert line == f"{path}: the split is empty"


# --- token arrays ---------------------------------------------------------------------------------

ENCODER = characters()
END = ENCODER.end_of_text
letters = st.text(st.sampled_from(string.ascii_letters), max_size=14)


def ids(text: str) -> list[int]:
    return [SYMBOLS.index(character) for character in text]


def test_texts_by_hand() -> None:
    a, b, c = ids("abc")
    examples = encode_texts([{"text": "ab"}, {"text": "abc"}, {"text": "c"}], ENCODER, 2)
    assert examples.inputs.tolist() == [[a, b], [a, b], [c, END]]
    assert examples.targets.tolist() == [[b, END], [b, c], [END, IGNORE]]
    assert examples.lengths.tolist() == [2, 2, 1]


@given(st.lists(letters, min_size=1, max_size=6), st.integers(1, 12))
def test_texts_have_loss_on_all_tokens_but_the_first(texts: list[str], context: int) -> None:
    examples = encode_texts([{"text": text} for text in texts], ENCODER, context)
    for i, text in enumerate(texts):
        whole = [*ids(text), END][: context + 1]
        n = examples.lengths[i]
        if not text:  # nothing to predict; it takes a place all the same
            assert n == 1 and (examples.targets[i] == IGNORE).all()
            continue
        assert n == len(whole) - 1 <= context
        assert examples.inputs[i, :n].tolist() == whole[:-1]
        assert examples.targets[i, :n].tolist() == whole[1:]
        assert set(examples.inputs[i, n:]) <= {END} and set(examples.targets[i, n:]) <= {IGNORE}


def test_choices_by_hand() -> None:
    a, b, c, d, x = ids("abcdx")
    rows = [
        {"prompt": "x", "choices": ["a", "bc"], "label": 1},
        {"prompt": "abcdx", "choices": ["d", "a"], "label": 0},
    ]
    choices = encode_choices(rows, ENCODER, 4)
    assert (choices.answers, choices.labels.tolist()) == (2, [1, 0])
    assert choices.examples.inputs.tolist() == [
        [END, x, END, END],
        [END, x, b, END],
        [b, c, d, x],  # the start of the prompt is gone, for both answers alike
        [b, c, d, x],
    ]
    no = IGNORE
    assert choices.examples.targets.tolist() == [
        [no, a, no, no],
        [no, b, c, no],
        [no, no, no, d],
        [no, no, no, a],
    ]
    assert choices.examples.lengths.tolist() == [2, 3, 4, 4]
    right = right_answers(choices, "answer")
    assert right.inputs.tolist() == [[END, x, b, END], [b, c, d, x]]
    assert right.targets.tolist() == [[no, b, c, no], [no, no, no, d]]
    assert right.lengths.tolist() == [3, 4]
    everything = right_answers(choices, "all")
    assert everything.inputs.tolist() == right.inputs.tolist()
    assert everything.targets.tolist() == [[x, b, c, no], [c, d, x, d]]
    assert everything.lengths.tolist() == [3, 4]


question = st.tuples(
    letters, st.lists(letters.filter(bool), min_size=3, max_size=3), st.integers(0, 2)
)


@given(st.lists(question, min_size=1, max_size=4), st.integers(3, 30))
def test_answers_stay_whole_and_alone_have_loss(questions: list[tuple], context: int) -> None:
    rows = [{"prompt": p, "choices": c, "label": y} for p, c, y in questions]
    longest = max(len(answer) for row in rows for answer in row["choices"])
    if longest >= context:
        line = error_line(lambda: encode_choices(rows, ENCODER, context))
        assert f"in a context of {context}" in line
        return
    choices = encode_choices(rows, ENCODER, context)
    examples = choices.examples
    assert len(examples) == 3 * len(rows)
    for i, answer in enumerate(answer for row in rows for answer in row["choices"]):
        row, n = rows[i // 3], examples.lengths[i]
        sequence = [*examples.inputs[i, :n].tolist(), examples.targets[i, n - 1]]
        with_loss = examples.targets[i] != IGNORE
        assert examples.targets[i][with_loss].tolist() == ids(answer)
        assert np.flatnonzero(with_loss).tolist() == list(range(n - len(answer), n))
        room = context + 1 - max(len(other) for other in row["choices"])
        kept = [END, *ids(row["prompt"])][-room:]
        assert sequence == kept + ids(answer)
        assert n <= context and len(kept) >= 2 - (not row["prompt"])
    right = right_answers(choices, "answer")
    everything = right_answers(choices, "all")
    chosen = [3 * i + row["label"] for i, row in enumerate(rows)]
    assert right.inputs.tolist() == examples.inputs[chosen].tolist()
    assert right.targets.tolist() == examples.targets[chosen].tolist()
    assert right.lengths.tolist() == examples.lengths[chosen].tolist()
    assert everything.inputs.tolist() == right.inputs.tolist()
    for i, n in enumerate(right.lengths):
        assert everything.targets[i, : n - 1].tolist() == right.inputs[i, 1:n].tolist()
        assert everything.targets[i, n - 1] == right.targets[i, n - 1]
        assert set(everything.targets[i, n:]) <= {IGNORE}


# --- prompted tasks -------------------------------------------------------------------------------


def test_a_prompted_row_has_every_format_and_its_answer_in_the_default_one() -> None:
    row = {"document": "It rained.", "summary": "Rain", "id": 1}
    found = tasks.example_of(row, CONFIG["xsum"])
    assert {p["format"]: p["text"] for p in found["prompts"]} == {
        "default": "### Input: It rained. ### Summary:",
        "input_output": "It rained.",
        "instruction": "Please read the following text: It rained. Provide a summary:",
    }
    assert [m["content"] for m in found["messages"]] == [
        "### Input: It rained. ### Summary:",
        " Rain",
    ]
    assert (found["answer"], found["choices"], found["label"]) == (" Rain", None, None)


def test_columns_take_the_names_of_templates_or_are_chosen_by_another() -> None:
    columns = CONFIG["socialiqa"]["source"]["columns"]
    row = {"label": "2", "answerA": "a", "answerB": "b", "answerC": "c"}
    assert tasks.renamed(row, columns) == row | {"answer": "b"}
    assert tasks.renamed(row | {"label": ""}, columns)["answer"] is None
    tweet = {"Tweet": "t", "Answer": ["first", "second"], "Question": "q"}
    columns = CONFIG["tweetqa"]["source"]["columns"]
    own = tweet | {"context": "t", "answer": "first", "question": "q"}
    assert tasks.renamed(tweet, columns) == own
    assert tasks.renamed(tweet | {"Answer": []}, columns)["answer"] is None
    line = error_line(lambda: tasks.renamed({"a": 1}, {"b": "c"}))
    assert line == "columns.b: no column or value 'c'; the source has ['a']"


@pytest.mark.parametrize(("score", "label"), [(0.0, 0), (3.499, 0), (3.5, 1), (5.0, 1)])
def test_a_number_on_an_edge_is_the_next_choice(score: float, label: int) -> None:
    row = {"sentence1": "a", "sentence2": "b", "label": score}
    found = tasks.example_of(row, CONFIG["stsb"])
    assert (found["label"], found["answer"]) == (label, [" no", " yes"][label])


def test_the_rows_of_a_sample_are_the_same_on_every_machine() -> None:
    """6,000 of 20,000 made-up articles, by their hash."""
    source = {"document": "{} burned.", "summary": "Fire {}"}
    rows = [{key: text.format(n) for key, text in source.items()} for n in range(20_000)]
    chosen = tasks.split_rows(rows, CONFIG["xsum"] | {"examples": SAMPLE}, "xsum")["train"]
    assert len(chosen) == SAMPLE["train"] == CONFIG["xsum"]["examples"]["train"]
    answers = "".join(row["answer"] for row in chosen)
    assert hashlib.sha256(answers.encode()).hexdigest()[:16] == "8364cb70fe4fab0c"
    again = tasks.split_rows(rows, CONFIG["xsum"] | {"examples": SAMPLE}, "xsum")["train"]
    other = tasks.split_rows(rows, CONFIG["xsum"] | {"examples": SAMPLE}, "other")["train"]
    assert again == chosen != other


SAMPLE = {"train": 6000, "validation": 500, "test": 500}


# --- programs as answers --------------------------------------------------------------------------

PROGRAMS = {
    "kind": "prompted",
    "formats": {"default": "{question}\n"},
    "answer": "{code}",
    "draw": "programs",
    "examples": SIZES,
}
KEPT, BARE = (
    PROGRAMS | {"program": {"without": what, "begins": "answer"}}
    for what in ([], ["docstrings", "comments"])
)


def written(count: int, code: str = 'def f():\n    """Adds."""\n    return {}  # one\n') -> list:
    return [{"question": f"How many {i}?", "code": code.format(i)} for i in range(count)]


def asked(splits: dict[str, list]) -> dict[str, list[str]]:
    """The questions of each split, in order."""
    return {split: [row["messages"][0]["content"] for row in own] for split, own in splits.items()}


def answers(splits: dict[str, list]) -> list[str]:
    return [row["messages"][1]["content"] for own in splits.values() for row in own]


def test_what_is_taken_out_of_a_program_is_in_none_of_its_row() -> None:
    (row,) = written(1)
    assert tasks.example_of(row, KEPT)["answer"] == row["code"].strip()
    found = tasks.example_of(row, BARE)
    assert found["answer"] == "def f():\n    return 0"
    assert [m["content"] for m in found["messages"]] == ["How many 0?\n", found["answer"]]
    one = PROGRAMS | {"program": {"without": ["docstrings"], "begins": "answer"}}
    assert tasks.example_of(row, one)["answer"] == "def f():\n    return 0  # one"
    none = tasks.example_of(row | {"code": "Some words."}, PROGRAMS)
    assert none["answer"] == "Some words."  # of a task that asks for no program


@pytest.mark.parametrize("task", [KEPT, BARE])
def test_rows_without_a_program_are_left_out_and_counted(
    task: dict, capsys: pytest.CaptureFixture
) -> None:
    other = ["Some words.", "def f(:", "", "# only a comment\n", '"""Only a docstring."""']
    rows = [{"question": f"other {i}", "code": code} for i, code in enumerate(other)]
    splits = tasks.split_rows([*rows, *written(34)], task, "t")
    assert {split: len(own) for split, own in splits.items()} == SIZES
    assert not any("other" in question for own in asked(splits).values() for question in own)
    assert "train: 5 rows whose answer is no Python are left out\n" in capsys.readouterr().out


def test_two_variants_with_one_draw_ask_the_same_questions_in_each_split() -> None:
    """Also of rows that are one program without their comments, or have no other text."""
    comments = [{"question": f"one {i % 9}", "code": f"x = 1  # {i}"} for i in range(18)]
    only = [{"question": f"only {i}", "code": f'"""A {i}."""'} for i in range(9)]
    body = [{"question": f"body {i}", "code": f'def f():\n    """{i}"""'} for i in range(9)]
    rows = {
        "train": [*comments, *only, *body, *written(9), {"question": "no", "code": "def f(:"}],
        "test": [*comments[:2], *only[:2], *written(12)],
    }
    kept, bare = (tasks.split_rows(rows, task, str(n)) for n, task in enumerate((KEPT, BARE)))
    assert asked(kept) == asked(bare)
    each = [question for own in asked(kept).values() for question in own]
    assert len(set(each)) == len(each)
    assert {"one 0\n", "body 0\n", "How many 0?\n"} <= set(each)
    assert not any(question.startswith("only") for question in each)
    assert any("#" in answer for answer in answers(kept))
    assert any('"""' in answer for answer in answers(kept))
    assert not any("#" in answer or '"""' in answer for answer in answers(bare))
    other = tasks.split_rows(rows, KEPT | {"draw": "other"}, "0")
    assert asked(other) != asked(kept)
    without_draw = {name: value for name, value in KEPT.items() if name != "draw"}
    first, second = (asked(tasks.split_rows(rows, without_draw, name)) for name in ("0", "1"))
    assert first != second


def test_a_program_may_begin_with_its_question() -> None:
    begins = {"formats": {"default": "{question}"}}
    kept, bare = (
        task | begins | {"program": task["program"] | {"begins": "question"}}
        for task in (KEPT, BARE)
    )
    row = {"question": "def f(a):\n    ", "code": '"""Adds."""\n    return a  # one'}
    assert tasks.example_of(row, kept)["answer"] == row["code"]
    found = tasks.example_of(row, bare)
    assert [m["content"] for m in found["messages"]] == ["def f(a):\n    ", "return a"]
    # An answer alone is none, nor is one whose question loses something of its own.
    assert tasks.example_of(row, KEPT | begins) is None
    long = {"code": f"return a  # {'one ' * 9}\n    {'x = a; ' * 9}"}
    own = long | {"question": "def f(a):  # of the question\n    "}
    assert tasks.example_of(own, bare) is None
    assert tasks.example_of(own, kept)["answer"] == long["code"].strip()
    empty = row | {"code": "# nothing"}
    assert tasks.example_of(empty, kept) is None and tasks.example_of(empty, bare) is None


LIMITS = {"kind": "documented_functions", "packages": ["fsspec"], "signature": 40, "body": 80}


def test_documented_functions_are_signatures_and_bodies_that_parse_together() -> None:
    rows = tasks.rows_from_packages(LIMITS)
    assert len(rows) > 100
    parsed = 0
    for row in rows:
        signature, body = row["signature"], row["body"]
        assert len(signature) <= 40 and len(body) <= 80
        assert signature.startswith("def ") and signature.endswith("):")
        docstring, _, rest = body.partition('."""\n    ')
        assert docstring.startswith('"""') and 0 < len(docstring) - 3 <= 18 and rest
        if tree := programs.parse(signature + docstrings.BODY + body):
            (function,) = tree.body
            assert isinstance(function, ast.FunctionDef) and len(function.body) > 1
            assert ast.get_docstring(function) == f"{docstring[3:]}."
            parsed += 1
    assert parsed > 0.5 * len(rows)  # others are cut within a statement
    short = tasks.rows_from_packages(LIMITS | {"signature": 20, "body": 50})
    assert 0 < len(short) < len(rows)
    assert max(len(row["signature"]) for row in short) <= 20
    assert max(len(row["body"]) for row in short) <= 50


def test_documented_functions_as_a_task_of_two_variants(tmp_path: Path) -> None:
    made = {
        "source": LIMITS,
        "formats": {"default": "{signature}\n    "},
        "answer": "{body}",
    }
    found = []
    for name, task in (("kept", KEPT), ("bare", BARE)):
        own = task | made | {"program": task["program"] | {"begins": "question"}}
        tasks.prepare(name, own, tmp_path / name, {})
        splits = {s: tasks.read_split(tmp_path / name, s, "prompted") for s in tasks.SPLITS}
        assert {split: len(rows) for split, rows in splits.items()} == SIZES
        found.append(splits)
    kept, bare = found
    assert asked(kept) == asked(bare)
    for splits, documented in ((kept, True), (bare, False)):
        for rows in splits.values():
            for row in rows:
                tree = programs.parse("".join(m["content"] for m in row["messages"]))
                assert tree and (ast.get_docstring(tree.body[0]) is not None) == documented

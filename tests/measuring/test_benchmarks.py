"""Benchmarks by lm-eval itself: scores worked out by hand, prompts, the request cache, faults."""

import json
import math
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from configuration import PAPERS
from local_hub import run_on_hub, serve
from stories import sentence

from overtrain import PipelineError
from overtrain.data import cloze, docstrings
from overtrain.measuring import benchmarks, harness
from overtrain.measuring.held_out import held_out_rows
from overtrain.model import released
from overtrain.model.losses import held_out_text
from overtrain.model.memory import Room
from overtrain.records.provenance import sha256

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "profiles" / "demo" / "benchmarks"
SUITES = PAPERS["benchmark_suites"]
LENGTHS = (3, 4, 5, 6)  # of the four answers: both accuracies differ
QUESTIONS, SHOTS = 40, 5  # questions, and examples to draw a prompt's from


def rows(name: str, count: int) -> list[dict]:
    """Questions in the columns of the demo's task files, short enough for a context of 32."""
    draw, made = random.Random(name), []
    for i in range(count):
        text, other = sentence(draw), sentence(draw)
        if name == "winogrande":
            row = {"sentence": f"{text[:4]}_{text[7:13]}", "answer": str(i % 2 + 1)}
            own, wrong = text[4:7], other[4:7].upper()
            made.append(row | {f"option{i % 2 + 1}": own, f"option{2 - i % 2}": wrong})
            continue
        choices = [sentence(draw)[8 : 8 + n] for n in LENGTHS]
        choices[i % 4] = text[8 : 8 + LENGTHS[i % 4]]
        if name == "boolq":
            choices = ["no", "yes"]
        made.append({"context": text[:8], "choices": choices, "label": i % len(choices)})
    return made


def write_split(folder: Path, split: str, table: list[dict]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(table), folder / f"{split}.parquet")


def suite_of(folder: Path, **changes: object) -> dict:
    """A suite of three shapes on local data sets below `folder`."""
    tasks = {}
    for name in ("arc_easy", "boolq", "winogrande"):
        for split, count in (("train", SHOTS), ("test", QUESTIONS)):
            made = rows(f"{name}", SHOTS + QUESTIONS)
            write_split(folder / name, split, made[:count] if split == "train" else made[SHOTS:])
        tasks[name] = {"title": name, "dataset": {"path": str(folder / name)}}
    settings = {"backend": "hf", "batch_size": 16, "chat_template": False, "limit": None}
    return settings | {"folder": str(FOLDER), "shots": 1, "tasks": tasks} | changes


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, checkpoint) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("suite")
    suite = suite_of(folder / "data")
    benchmarks.prepare("small", suite, folder / "small", {})
    return suite, folder / "small"


@pytest.fixture(scope="module")
def other_checkpoint(tmp_path_factory, checkpoint) -> Path:
    """The same tokenizer, other weights."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("other") / "tiny"
    shutil.copytree(checkpoint, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


def evaluate(prepared, checkpoint, **changes: object) -> dict:
    suite, folder = prepared
    return evaluate_on(folder, suite | changes, checkpoint)


def evaluate_on(folder: Path, suite: dict, checkpoint: Path) -> dict:
    manifest = benchmarks.read_manifest(folder)
    return benchmarks.evaluate(checkpoint, folder, manifest, suite, "cpu", 0)


@pytest.fixture
def asked(monkeypatch) -> list:
    """The (context, continuation) of every request, in order, whatever answers them."""
    from lm_eval.models.huggingface import HFLM

    found, inner = [], HFLM.loglikelihood

    def watched(self, requests, **options):
        found.extend(request.args for request in requests)
        return inner(self, requests, **options)

    monkeypatch.setattr(HFLM, "loglikelihood", watched)
    return found


class ByHand:
    """Log likelihoods by transformers alone, one sequence at a time."""

    def __init__(self, checkpoint: Path):
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint)

    def __call__(self, context: str, answer: str) -> float:
        start = self.tokenizer(context)["input_ids"]
        ids = torch.tensor([start + self.tokenizer(answer)["input_ids"]])
        ids = ids[:, -self.model.config.max_position_embeddings - 1 :]
        with torch.inference_mode():
            logs = self.model(ids[:, :-1]).logits.log_softmax(-1)
        # A space that ends the context is scored with the answer, as lm-eval does.
        scored = len(answer) + len(context) - len(context.rstrip())
        own = logs[0].gather(1, ids[0, 1:, None])[-scored:]
        return own.sum().item()


def share(right: list[bool]) -> tuple[float, float, int]:
    n, p = len(right), sum(right) / len(right)
    return p, math.sqrt(p * (1 - p) / (n - 1)), n


# --- scores ---------------------------------------------------------------------------------------


def test_accuracies_of_four_answers_are_those_worked_out_by_hand(prepared, checkpoint, asked):
    found, hand = evaluate(prepared, checkpoint), ByHand(checkpoint)
    questions = rows("arc_easy", SHOTS + QUESTIONS)[SHOTS:]
    requests = iter(asked)
    right, right_by_length = [], []
    for question in questions:
        scores = []
        for choice in question["choices"]:
            context, answer = next(requests)
            assert answer == choice and context.endswith(f"\n{question['context']}")
            scores.append(hand(context, answer))
        by_length = [s / len(c) for s, c in zip(scores, question["choices"], strict=True)]
        right.append(scores.index(max(scores)) == question["label"])
        right_by_length.append(by_length.index(max(by_length)) == question["label"])
    assert found["arc_easy", "accuracy"] == pytest.approx(share(right))
    assert found["arc_easy", "accuracy_norm"] == pytest.approx(share(right_by_length))
    assert right != right_by_length


def test_winogrande_scores_the_same_ending_after_either_word(prepared, checkpoint, asked):
    found, hand = evaluate(prepared, checkpoint), ByHand(checkpoint)
    requests, right = iter(asked[-2 * QUESTIONS :]), []
    for question in rows("winogrande", SHOTS + QUESTIONS)[SHOTS:]:
        before, after = question["sentence"].split("_")
        scores = []
        for option in (question["option1"], question["option2"]):
            context, ending = next(requests)
            assert context.endswith(f"\n{before}{option}") and ending == after.strip()
            scores.append(hand(context, ending))
        right.append(scores.index(max(scores)) == int(question["answer"]) - 1)
    assert found["winogrande", "accuracy"] == pytest.approx(share(right))
    assert ("winogrande", "accuracy_norm") not in found  # its answers have no lengths of their own


@pytest.mark.parametrize("name", ["arc_easy", "boolq"])
def test_a_prompt_starts_with_an_example_of_the_training_split(prepared, checkpoint, asked, name):
    evaluate(prepared, checkpoint)
    made = rows(name, SHOTS + QUESTIONS)
    examples = {r["context"] + r["choices"][r["label"]] for r in made[:SHOTS]}
    own = {r["context"] for r in made[SHOTS:]}
    prompts = {context for context, _ in asked if context.split("\n")[-1] in own}
    assert len({prompt.split("\n")[0] for prompt in prompts} & examples) > 1
    ones = [context for context, answer in asked if answer in ("no", "yes")]
    checked = ones if name == "boolq" else [c for c, a in asked if c not in ones][: 4 * QUESTIONS]
    assert checked and all(c.split("\n")[0] in examples for c in checked)


def test_rows_are_measurements_with_shots_stderr_and_count(prepared, checkpoint):
    found = harness.rows_of(evaluate(prepared, checkpoint), {"model": "tiny"}, 1)
    own = {(r["evaluation"], r["metric"]): r for r in found}
    row = own["boolq", "accuracy"]
    assert row["n"] == QUESTIONS and row["shots"] == 1 and row["split"] == "test"
    assert 0 < row["stderr"] < 0.1 and not row["diverged"] and row["model"] == "tiny"
    names = {("arc_easy", "accuracy"), ("arc_easy", "accuracy_norm"), ("winogrande", "accuracy")}
    assert names <= set(own)


def test_the_same_checkpoint_scores_the_same_and_another_does_not(
    prepared, checkpoint, other_checkpoint
):
    first, again = evaluate(prepared, checkpoint), evaluate(prepared, checkpoint)
    assert first == again != evaluate(prepared, other_checkpoint)


def test_a_limit_takes_the_first_questions(prepared, checkpoint):
    found = evaluate(prepared, checkpoint, limit=7)
    assert {n for _, _, n in found.values()} == {7}


def test_a_diverged_run_is_nan_for_all_that_others_measure(prepared, checkpoint, tmp_path):
    suite, folder = prepared
    (tmp_path / released.DIVERGED).write_text("{}")
    assert released.diverged(tmp_path) and not released.diverged(checkpoint)
    found = benchmarks.diverged(benchmarks.read_manifest(folder), suite)
    measured = evaluate(prepared, checkpoint)
    assert {k: n for k, (_, _, n) in found.items()} == {k: n for k, (_, _, n) in measured.items()}
    made = harness.rows_of(found, {}, 1)
    assert all(row["diverged"] and math.isnan(row["value"]) for row in made)


# --- the request cache ----------------------------------------------------------------------------


def test_prompts_are_made_once_for_all_checkpoints(
    prepared, checkpoint, other_checkpoint, monkeypatch
):
    from lm_eval.api.task import ConfigurableTask

    suite, folder = prepared
    before = {path: sha256(path) for path in (folder / benchmarks.REQUESTS).iterdir()}
    assert len(before) == len(suite["tasks"])
    expected = [evaluate(prepared, model) for model in (checkpoint, other_checkpoint)]

    def made_anew(*_, **__):
        raise AssertionError("a prompt was made")

    monkeypatch.setattr(ConfigurableTask, "fewshot_context", made_anew)
    assert [evaluate(prepared, model) for model in (checkpoint, other_checkpoint)] == expected
    assert {p: sha256(p) for p in (folder / benchmarks.REQUESTS).iterdir()} == before


def test_preparing_again_gives_the_same_bytes(prepared, tmp_path):
    suite, folder = prepared
    again = benchmarks.prepare("small", suite, tmp_path / "again", {})
    assert again == json.loads((folder / benchmarks.MANIFEST).read_text())


# --- faults ---------------------------------------------------------------------------------------


def fault(action, *arguments: object) -> str:
    with pytest.raises(PipelineError) as caught:
        action(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("damage", ["requests", "data", "gone", "version"])
def test_a_damaged_suite_is_named_before_it_is_used(prepared, tmp_path, monkeypatch, damage):
    folder = tmp_path / "small"
    shutil.copytree(prepared[1], folder)
    if damage == "version":
        monkeypatch.setattr(benchmarks.metadata, "version", lambda _: "0.0.1")
    elif damage == "gone":
        (folder / benchmarks.MANIFEST).unlink()
    else:
        pattern = "requests/*boolq*" if damage == "requests" else "boolq/test.parquet"
        path = next(folder.glob(pattern))
        path.write_bytes(path.read_bytes()[:-1])
    said = {"version": "0.0.1", "gone": "not a whole suite"}.get(damage, "not the file that was")
    line = fault(benchmarks.read_manifest, folder)
    assert said in line and str(folder) in line


def test_a_changed_column_is_found_when_the_suite_is_prepared(tmp_path):
    suite = suite_of(tmp_path / "data")
    made = [r | {"text": r.pop("context")} for r in rows("boolq", 8)]
    for split in ("train", "test"):
        write_split(tmp_path / "data" / "boolq", split, made)
    line = fault(benchmarks.prepare, "small", suite, tmp_path / "small", {})
    assert line.startswith("benchmark_suites.small.tasks.boolq: ") and "context" in line
    assert not (tmp_path / "small").exists()


def test_an_unknown_task_is_named_with_near_ones(tmp_path):
    suite = suite_of(tmp_path / "data")
    suite["tasks"] = {"arc_esay": suite["tasks"]["arc_easy"]}
    line = fault(benchmarks.prepare, "small", suite, tmp_path / "small", {})
    assert "no task 'arc_esay'" in line and "arc_easy" in line


def test_long_prompts_are_counted_and_long_answers_refused(prepared, checkpoint, capsys, tmp_path):
    evaluate(prepared, checkpoint)
    assert "0 longer than the context of 32" in capsys.readouterr().out
    suite, longer = suite_of(tmp_path / "data"), tmp_path / "small"
    suite["tasks"] = {"boolq": suite["tasks"]["boolq"]}
    write_split(
        tmp_path / "data/boolq", "train", [r | {"context": "x" * 30} for r in rows("boolq", 5)]
    )
    benchmarks.prepare("small", suite, longer, {})
    evaluate_on(longer, suite, checkpoint)
    assert f"{2 * QUESTIONS} requests; {2 * QUESTIONS} longer" in capsys.readouterr().out
    answers = [r | {"choices": ["no", "y" * 33]} for r in rows("boolq", 5)]
    write_split(tmp_path / "data/boolq", "test", answers)
    benchmarks.prepare("small", suite, longer, {})
    line = fault(evaluate_on, longer, suite, checkpoint)
    assert "an answer of 33 tokens is longer than its context of 32" in line


def test_vllm_by_name_needs_vllm(prepared, checkpoint):
    assert "not installed" in fault(lambda: evaluate(prepared, checkpoint, backend="vllm"))


# --- stand-ins made of docstrings -----------------------------------------------------------------


@pytest.fixture(scope="module")
def texts() -> list[docstrings.Document]:
    return docstrings.extract(["fsspec"])


@pytest.mark.parametrize("near", [False, True])
def test_the_right_continuation_is_what_follows_in_the_text(texts, near):
    settings = {"kind": "continuations", "before": 20, "after": 9, "options": 4, "near": near}
    made = cloze.questions(texts, "x", settings | {"count": 50})
    whole = [" ".join(document.text.split()) for document in texts]
    in_same = 0
    for row in made:
        right = row["choices"][row["label"]]
        places = [text for text in whole if row["context"] + right in text]
        assert [len(c) for c in row["choices"]] == [9] * 4 and len(set(row["choices"])) == 4
        assert row["context"][-1].isalpha() and all(c[0].isalpha() for c in row["choices"])
        assert places
        in_same += any(all(choice in text for choice in row["choices"]) for text in places)
    assert len(made) == 50 and {row["label"] for row in made} == {0, 1, 2, 3}
    assert (in_same == 50) == near


def test_a_blank_and_its_option_are_the_text(texts):
    settings = {"kind": "blanks", "before": 12, "hole": 4, "after": 10, "count": 50}
    made = cloze.questions(texts, "x", settings)
    whole = [" ".join(document.text.split()) for document in texts]
    for row in made:
        filled = row["sentence"].replace("_", row[f"option{row['answer']}"], 1)
        assert len(filled) == 26 and any(filled in text for text in whole)
    assert {row["answer"] for row in made} == {"1", "2"}


def test_a_default_is_asked_where_it_is_said(texts):
    made = cloze.questions(texts, "x", {"kind": "booleans", "before": 24, "count": 50})
    whole = [" ".join(document.text.split()) for document in texts]
    for row in made:
        said = row["context"] + row["choices"][row["label"]]
        assert "default" in row["context"] and any(said in text for text in whole)


def test_places_depend_on_the_benchmark_and_on_nothing_else(texts):
    settings = {"kind": "continuations", "before": 20, "after": 9, "options": 2, "count": 9}
    first = cloze.questions(texts, "x", settings)
    assert (
        first
        == cloze.questions(list(texts), "x", settings)
        != cloze.questions(texts, "y", settings)
    )


def test_texts_without_a_place_are_an_error(texts):
    settings = {"kind": "booleans", "before": 24, "count": 5}
    assert "none of 0 documents" in fault(cloze.questions, [], "x", settings)


def test_the_demos_suite_fits_its_context_and_has_all_eight_shapes(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    suite = SUITES["docstrings"] | {"packages": ["fsspec", "pyarrow"]}
    few = {
        name: task | {"data": task["data"] | {"questions": 6}}
        for name, task in suite["tasks"].items()
    }
    manifest = benchmarks.prepare("docstrings", suite | {"tasks": few}, tmp_path / "made", {})
    assert set(manifest["tasks"]) == set(SUITES["generalist"]["tasks"])
    from lm_eval.caching import cache

    monkeypatch.setattr(cache, "PATH", str(tmp_path / "made" / benchmarks.REQUESTS))
    counts = {}
    for path in (tmp_path / "made" / benchmarks.REQUESTS).iterdir():
        requests = cache.load_from_cache(path.name.split(".")[0], cache=True)
        counts[path.name.split("-")[1]] = {len(own) for own in requests}
        assert all(len(a + b) <= 64 for own in requests for a, b in (r.args for r in own))
    assert counts == {n: {2} if n in ("piqa", "winogrande", "boolq", "copa") else {4} for n in few}


# --- held-out text --------------------------------------------------------------------------------


def test_held_out_loss_of_a_run_is_transformers_own(corpus, other_checkpoint, tmp_path):
    from transformers import AutoModelForCausalLM

    text, room = held_out_text(corpus, 32, 16 * 32), Room(torch.device("cpu"), 0, 64)
    found = held_out_rows(other_checkpoint, text, room, {"seed": 0})
    ids = torch.from_numpy(text.inputs), torch.from_numpy(text.targets)
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(other_checkpoint)(ids[0]).logits
    own = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[1].flatten()).item()
    assert [r["metric"] for r in found] == ["loss", "perplexity"] and found[0]["seed"] == 0
    assert found[0]["value"] == pytest.approx(own, abs=1e-5) and found[0]["n"] == 16
    (tmp_path / released.DIVERGED).write_text("{}")
    gone = held_out_rows(tmp_path, text, room, {"seed": 0})
    assert [r["diverged"] for r in gone] == [True, True] and gone[0]["n"] == 16


# --- lm-eval's own eight, from a hub --------------------------------------------------------------

COMMIT = "b" * 40
TEXTS = {  # repository and configuration: columns of text, in which # is the row's number
    "allenai/ai2_arc ARC-Easy": {"question": "q#"},
    "allenai/ai2_arc ARC-Challenge": {"question": "q#"},
    "baber/piqa default": {"goal": "g#", "sol1": "one", "sol2": "two"},
    "allenai/winogrande winogrande_xl": {"sentence": "s# _ ends.", "option1": "x", "option2": "y"},
    "aps/super_glue boolq": {"passage": "p#", "question": "is it #"},
    "aps/super_glue copa": {
        "premise": "It fell #.",
        "choice1": "Yes.",
        "choice2": "No.",
        "question": "effect",
    },
    "allenai/sciq default": {"question": "q#", "support": "s#", "correct_answer": "r"},
    "Rowan/hellaswag default": {"ctx_a": "c#", "ctx_b": "then", "activity_label": "Act"},
}
MORE = {  # of each repository, by a row's number
    "allenai/ai2_arc": lambda i: {
        "choices": {"text": [f"a{i}", "b", "c", "d"], "label": list("ABCD")},
        "answerKey": "ABCD"[i % 4],
    },
    "allenai/winogrande": lambda i: {"answer": str(i % 2 + 1)},
    "aps/super_glue": lambda i: {"label": i % 2},
    "baber/piqa": lambda i: {"label": i % 2},
    "allenai/sciq": lambda i: {f"distractor{k}": f"d{k}" for k in (1, 2, 3)},
    "Rowan/hellaswag": lambda i: {"endings": list("efgh"), "label": str(i % 4)},
}
PREPARE = """
import json, sys
from pathlib import Path
from overtrain.measuring import benchmarks
suite, scripted, folder = json.loads(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3])
benchmarks.prepare("generalist", suite, folder / "generalist", {})
try:
    benchmarks.prepare("generalist", scripted, folder / "scripted", {})
except benchmarks.PipelineError as error:
    print(json.dumps(str(error)))
"""


@pytest.mark.slow
def test_lm_evals_own_eight_are_fetched_pinned_and_then_run_offline(tmp_path, checkpoint):
    cards = {}
    for name, texts in TEXTS.items():
        repository, configuration = name.split()
        folder = tmp_path / "root/datasets" / repository / COMMIT
        made = [
            {key: text.replace("#", str(i)) for key, text in texts.items()} | MORE[repository](i)
            for i in range(12)
        ]
        for split in ("train", "validation", "test"):
            write_split(folder / configuration, split, made)
        files = [
            {"split": s.stem, "path": f"{configuration}/{s.name}"}
            for s in sorted((folder / configuration).iterdir())
        ]
        cards.setdefault(folder, []).append({"config_name": configuration, "data_files": files})
    for folder, configurations in cards.items():
        card = yaml.safe_dump({"configs": configurations})
        (folder / "README.md").write_text(f"---\n{card}---\n")
    scripted = tmp_path / "root/datasets/some/scripted" / COMMIT
    scripted.mkdir(parents=True)
    (scripted / "scripted.py").write_text("import datasets\n")
    suite = SUITES["generalist"] | {"backend": "hf", "batch_size": 4}
    wrong = suite | {"tasks": {"piqa": {"dataset": {"path": "some/scripted", "revision": "main"}}}}
    with serve(tmp_path / "root", {"main": COMMIT}) as hub:
        arguments = [json.dumps(suite), json.dumps(wrong), str(tmp_path)]
        done = run_on_hub(hub, tmp_path / "home", PREPARE, *arguments)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout.splitlines()[-1])
    assert "some/scripted" in line and "scripts are no longer supported" in line
    assert "dataset: {path: ..." in line
    manifest = benchmarks.read_manifest(tmp_path / "generalist")
    assert {task["commit"] for task in manifest["tasks"].values()} == {COMMIT}
    assert {n for task in manifest["tasks"].values() for n in task["questions"].values()} == {12}
    both = {n for n, task in manifest["tasks"].items() if "accuracy_norm" in task["questions"]}
    assert both == {"arc_challenge", "arc_easy", "piqa", "sciq", "hellaswag"}
    shown = {(name, task["metric"]) for name, task in suite["tasks"].items()}
    found = evaluate_on(tmp_path / "generalist", suite, checkpoint)
    assert shown <= set(found) and {n for _, _, n in found.values()} == {12}

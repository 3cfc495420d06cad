"""Prompted tasks: the prompts that a model gets, labels by their first token, answers, ROUGE-L."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from configuration import PAPERS
from stories import write_task
from transformers import AutoModelForCausalLM, AutoTokenizer, OlmoConfig, OlmoForCausalLM

from overtrain import PipelineError
from overtrain.data import tasks, tokenizer
from overtrain.measuring import harness, prompted, task_scores
from overtrain.measuring.prompted import Answer, Cell

SEPARATOR = "\n\n"
CHOICES = [" yes", " no", " maybe"]


def error_line(action: Callable) -> str:
    with pytest.raises(PipelineError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


def row(text: str, answer: str = " words", choices: list[str] | None = None, label: int = 0):
    prompts = [{"format": "default", "text": text}, {"format": "plain", "text": f"{text}?"}]
    answer = choices[label] if choices else answer
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
    label = label if choices else None
    return {"messages": messages, "prompts": prompts, "answer": answer} | {
        "choices": choices,
        "label": label,
    }


def cell(questions: list[dict], shots: list[dict] = (), form: str = "default", new: int = 5):
    return Cell("asked", "task", "test", form, new, questions, list(shots))


def questions_of(labels: list[int], choices: list[str] = CHOICES) -> list[dict]:
    return [row(f"Is {'very ' * n}it", choices=choices, label=k) for n, k in enumerate(labels)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of characters with wide weights, so that its answers differ and end."""
    path = tmp_path_factory.mktemp("prompted")
    torch.manual_seed(3)
    config = OlmoConfig(
        vocab_size=96,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=0,
        initializer_range=0.7,
    )
    OlmoForCausalLM(config).save_pretrained(path)
    tokenizer.characters().save(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path):
    return harness.language_model(folder, {"backend": "hf", "batch_size": 4}, "cpu", 0)


class ByHand:
    def __init__(self, folder: Path):
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.words = AutoTokenizer.from_pretrained(folder)

    def ids(self, text: str) -> list[int]:
        return self.words(text, add_special_tokens=False).input_ids

    @torch.inference_mode()
    def logits(self, ids: list[int]) -> torch.Tensor:
        return self.model(torch.tensor([ids])).logits[0, -1]

    def generated(self, prompt: str, new_tokens: int) -> str:
        ids = self.ids(prompt)
        start = len(ids)
        for _ in range(new_tokens):
            if (token := int(self.logits(ids).argmax())) == 0:
                break
            ids.append(token)
        return self.words.decode(ids[start:]).split(SEPARATOR)[0].strip()


# --- prompts --------------------------------------------------------------------------------------


def test_a_prompt_is_its_examples_and_the_question_byte_for_byte_from_the_configuration():
    task = PAPERS["tasks"]["mnli"]
    source = [("A man eats.", "He eats.", 0), ("It rains.", "It is dry.", 2), ("a", "b", 1)]
    names = ("premise", "hypothesis", "label")
    made = [dict(zip(names, own, strict=True)) for own in source]
    rows = [tasks.example_of(own, task) for own in made]
    asked = PAPERS["task_suites"]["amuro_char"]
    expected = {
        "default": "### Input_1: A man eats. ### Input_2: He eats. ### Inference: entailment\n\n"
        "### Input_1: It rains. ### Input_2: It is dry. ### Inference: contradiction\n\n"
        "### Input_1: a ### Input_2: b ### Inference:",
        "input_output": "A man eats. He eats. entailment\n\nIt rains. It is dry. contradiction"
        "\n\na b",
        "instruction": "Consider the following texts: Text 1: A man eats. Text 2: He eats. The "
        "relation is entailment\n\nConsider the following texts: Text 1: It rains. Text 2: It is "
        "dry. The relation is contradiction\n\nConsider the following texts: Text 1: a Text 2: b "
        "The relation is",
    }
    for form, text in expected.items():
        own = cell(rows[2:], rows[:2], form)
        assert own.prompts(asked["separator"])[0][0] == text
        assert own.prompts(asked["separator"])[0][2] == text.split("\n\n")[2]


def test_examples_are_the_same_for_all_formats_and_drawn_by_the_evaluation(tmp_path):
    train = [row(f"train {n}") for n in range(20)]
    write_task(tmp_path / "words", "prompted", {"train": train, "test": [row("a"), row("b")]})
    settings = {"task": "words", "formats": ["default", "plain"], "new_tokens": 4}
    asked = {"shots": 3, "questions": 1, "evaluations": {"one": settings, "two": settings}}
    files = [[tmp_path / "words" / f"{split}.parquet"] for split in ("test", "train")]
    found = prompted.cells(asked, *files, [])
    assert [(c.evaluation, c.format) for c in found] == [
        ("one", "default"), ("one", "plain"), ("two", "default"), ("two", "plain")
    ]  # fmt: skip
    assert found[0].shots == found[1].shots != found[2].shots
    assert [c.questions for c in found] == [[row("a")]] * 4
    line = error_line(lambda: prompted.draw(train, 21, "one"))
    assert line.startswith("one: 20 examples to train on, and 21 shots are asked for")


def test_a_missing_file_of_a_set_is_one_line(tmp_path):
    settings = {"task": "away", "formats": ["default"], "new_tokens": 4}
    asked = {"shots": 0, "evaluations": {"one": settings}}
    line = error_line(lambda: prompted.cells(asked, [], [], []))
    assert "no file of the task 'away'" in line
    path = tmp_path / "away/test.parquet"
    line = error_line(lambda: prompted.cells(asked, [path], [path], []))
    assert line.startswith(f"{path}: not a readable parquet file")


def test_a_long_prompt_loses_its_first_examples_and_then_its_own_start(capsys):
    shots = [row("a" * 10, " 1"), row("b" * 10, " 2")]
    own = cell([row("c" * 10), row("d" * 40)], shots)

    def fitting(room: int) -> list[tuple[str, int]]:
        tokens = lambda texts: [list(map(ord, text)) for text in texts]  # noqa: E731
        return prompted.fitting(own, "|", room, tokens, lambda ids: "".join(map(chr, ids)))

    assert fitting(36)[0] == ("aaaaaaaaaa 1|bbbbbbbbbb 2|cccccccccc", 2)
    assert fitting(35) == [("bbbbbbbbbb 2|cccccccccc", 1), ("d" * 35, 0)]
    said = "asked (task, default): 2 questions; 2 lost examples, 1 the start of their text"
    assert said in capsys.readouterr().out
    assert fitting(22)[0] == ("cccccccccc", 0)


# --- answers --------------------------------------------------------------------------------------


def test_answers_are_greedy_and_labels_have_the_highest_logit_by_hand(folder, model):
    """Words end at the separator; what is likelier than every label does not count."""
    choices = ["y", "n", "m"]
    own = cell(questions_of([0, 1, 2, 0, 1, 2, 0], choices), [row("Is it", choices=choices)], new=8)
    by_hand, found = ByHand(folder), prompted.ask(model, own, SEPARATOR)
    first = [by_hand.ids(choice)[0] for choice in choices]
    others = 0
    for (text, *_), answer in zip(own.prompts(SEPARATOR), found, strict=True):
        logits = by_hand.logits(by_hand.ids(text))
        assert answer.label == int(logits[first].argmax())
        assert answer.output == by_hand.generated(text, 8)
        others += int(logits.argmax()) not in first
    assert others > 3 and len({answer.label for answer in found}) > 1


def test_words_end_where_the_suite_says_or_are_all_that_is_generated(model):
    own = cell([row("Tell me")], new=12)
    (whole,) = prompted.ask(model, own, SEPARATOR)
    mark = whole.output[4]  # which the model says by itself
    assert mark not in whole.output[:4]
    (found,) = prompted.ask(model, own, SEPARATOR, mark)
    assert found == Answer(whole.output[:4].strip(), None, 0)
    (all_of_it,) = prompted.ask(model, own, mark)  # between examples alone, where nothing stops
    assert all_of_it == whole


def test_labels_of_a_prompt_are_one_pass(model, monkeypatch):
    passes, inner = [], model._model_call
    monkeypatch.setattr(
        model, "_model_call", lambda *a, **k: passes.append(len(a[0])) or inner(*a, **k)
    )
    own = cell(questions_of([0, 1, 2, 0], ["y", "n", "m"]))
    prompted.likeliest(model, own, [p[0] for p in own.prompts(SEPARATOR)])
    assert sum(passes) == 4


def test_labels_that_begin_with_one_token_are_an_error_that_names_them(model):
    own = cell(questions_of([0, 1]))  # each begins with a space, which is a token here
    line = error_line(lambda: prompted.ask(model, own, SEPARATOR))
    assert line == (
        "tasks.task.choices: ' yes' and ' no' both begin with the token ' ' of this model's "
        "tokenizer, which cannot tell them apart"
    )


def test_no_room_for_an_answer_is_one_line(model):
    line = error_line(lambda: prompted.ask(model, cell([row("a")], new=128), SEPARATOR))
    assert "128 new tokens leave no room in a context of 128" in line


# --- scores ---------------------------------------------------------------------------------------


def test_rouge_l_is_the_longest_common_subsequence_of_words():
    """Precision and recall of 3 of 4 and of 3 of 6; without stemming, in any case."""
    assert task_scores.rouge_l("the cat sat on the mat", "The cat on fire") == pytest.approx(
        2 * 0.75 * 0.5 / 1.25
    )
    assert task_scores.rouge_l(" a b", "") == 0 and task_scores.rouge_l(" a b", "b a") == 0.5
    assert task_scores.rouge_l("cats", "cat") == 0


def test_rouge_l_is_the_reference_package_s():
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    for answer, output in (("Running dogs, and cats.", "dogs ran and cats"), ("a b c", "c b a b")):
        expected = scorer.score(answer, output)["rougeL"].fmeasure
        assert task_scores.rouge_l(answer, output) == expected > 0


def test_credits_of_choices_and_of_words():
    own = cell(questions_of([0, 1, 2]))
    answers = [Answer("Yes, it is", 0, 0), Answer("yes", 1, 0), Answer(" MAYBE", 0, 0)]
    found = task_scores.credits(own, answers)
    assert found["accuracy"].tolist() == [1, 1, 0]
    assert found["accuracy_generated"].tolist() == [1, 0, 1]
    words = cell([row("a", " one two"), row("b", " one")])
    found = task_scores.credits(words, [Answer("one two", None, 0), Answer("", None, 0)])
    assert found["rouge_l"].tolist() == [1, 0]


def test_the_error_is_the_bootstrap_s_of_the_mean_and_the_same_each_time():
    credit = np.array([0.0, 1.0] * 200)
    found = task_scores.mean(credit, 1000, 7)
    assert found == task_scores.mean(credit, 1000, 7)
    assert (found.value, found.n) == (0.5, 400)
    assert found.stderr == pytest.approx(0.5 / 20, rel=0.1)
    assert task_scores.mean(credit, 1000, 8).stderr != found.stderr


def test_rows_and_answers_of_a_run_and_of_one_that_diverged():
    own = cell(questions_of([0, 1]), [], "plain")
    answers = [Answer("yes", 0, 2), Answer("x", 0, 1)]
    credits = task_scores.credits(own, answers)
    rows = task_scores.rows_of(own, credits, {"model": "m"}, 4, 100)
    assert [(r["metric"], r["value"], r["n"]) for r in rows] == [
        ("accuracy", 0.5, 2), ("accuracy_generated", 0.5, 2)
    ]  # fmt: skip
    same = {"model": "m", "evaluation": "asked", "split": "test", "prompt": "plain", "shots": 4}
    assert all(same.items() <= r.items() for r in rows)
    said = task_scores.answer_rows(own, answers, credits)
    assert said[1] == {
        "evaluation": "asked", "split": "test", "format": "plain", "question": "Is very it?",
        "shots": 1, "output": "x", "label": " yes", "answer": " no", "credit": 0.0,
    }  # fmt: skip
    lost = task_scores.rows_of(own, None, {"model": "m"}, 4, 100)
    assert all(r["diverged"] and np.isnan(r["value"]) and r["n"] == 2 for r in lost)
    assert len(lost) == 2 and "output" not in task_scores.answer_rows(own, None, None)[0]
    assert json.dumps(said)

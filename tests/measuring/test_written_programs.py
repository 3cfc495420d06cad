"""Programs that a model wrote: what is read of one that was cut, shares, the loss of a run."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from configuration import PAPERS
from stories import write_task
from transformers import AutoModelForCausalLM, AutoTokenizer

from overtrain.measuring import programs
from overtrain.measuring.programs import Program, read
from overtrain.model.memory import Room

IDENTITY = {"study": "docstrings", "model": "tiny"}
PLAIN, DOCUMENTED = Program(False, False), Program(True, False)
COMMENTED, BOTH = Program(False, True), Program(True, True)
COMPLETION = PAPERS["instruction_recipes"]["completion"]["template"]


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def f():\n    return 1\n", PLAIN),
        ('def f():\n    """Adds."""\n    return 1', DOCUMENTED),
        ("async def f():\n    'Adds.'", DOCUMENTED),
        ('import os\n\n@cache\ndef f():\n    """Adds."""  # how\n', BOTH),
        ("def f():\n    x = '''Adds.'''\n    'and'\n", PLAIN),
        ("def f():\n    # Adds.\n    return 1", COMMENTED),
        ("def f():\n    return '# Adds.'", PLAIN),
        ("def f():\n    return 1  # one", COMMENTED),
        ("def f():\r    'Adds.'\r    return 1", DOCUMENTED),
        ('def f():\r\n    """Adds\r\n    one."""\r\n    return 1  # one\r\n', BOTH),
        ('def f():\n\r    """Adds \\\none."""\n    return 1', DOCUMENTED),
        # A docstring of another thing than the first function.
        ('"""Of the module."""\ndef f():\n    return 1\n', PLAIN),
        ('class A:\n    """Adds."""\n    def f(self):\n        return 1\n', PLAIN),
        ('class A:\n    def f(self):\n        """Adds."""\n', DOCUMENTED),
        ('def f():\n    return 1\n\ndef g():\n    """Adds."""\n', PLAIN),
        ('def f():\n    """Adds."""\n\ndef g():\n    return 1\n', DOCUMENTED),
        ('def f():\n    def g():\n        """Adds."""\n    return g\n', PLAIN),
        ('class A:\n    def f(self):\n        """Adds."""\n\ndef g():\n    return 1\n', DOCUMENTED),
        ('class A:\n    def f(self):\n        return 1\n\ndef g():\n    """Adds."""\n', PLAIN),
    ],
)
def test_a_whole_program(text: str, found: Program) -> None:
    assert read(text) == found


@pytest.mark.parametrize("quotes", ['"""', "'''"])
@pytest.mark.parametrize(
    "said", ["", "Adds", "Adds one.\n\n    Also 'two' and \"three\" .", "Adds\\"]
)
def test_a_docstring_that_is_cut_is_one_whatever_is_left_of_its_quotes(
    said: str, quotes: str
) -> None:
    for closing in range(4):
        if said.endswith("\\") and closing:
            continue  # the quote would be part of the text
        assert read(f"def f(a):\n    {quotes}{said}{quotes[:closing]}") == DOCUMENTED, closing


@pytest.mark.parametrize("quote", ['"', "'"])
def test_a_docstring_of_one_line_that_is_cut(quote: str) -> None:
    for text in ("", "Adds", f"Adds{quote}"):
        assert read(f"def f(a):\n    {quote}{text}") == DOCUMENTED


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('def f():\n    """Adds."""\n    return (1 +', DOCUMENTED),
        ('def f():\n    """Adds."""\n    x = [\n        1,\n        2,', DOCUMENTED),
        ('def f():\n    """Adds."""\n    if x:', DOCUMENTED),
        ("def f():\n    x = 1\n    y = 'ab", PLAIN),
        ('def f():\n    x = """ab', PLAIN),
        ("def f():\n    x = 1  # one\n    y = (", COMMENTED),
        ("def f():\n    x = 1\n    y = (  # lost", PLAIN),
        ("def f():\n    x = 1\n# It's", COMMENTED),
        ('def f():\n    return 1\n\ndef g():\n    """Adds', PLAIN),
        ("def f():\n    return 1\n\nSome words follow it.", PLAIN),
        ("def f(): return 1\nSome words follow it.", PLAIN),
        # It has a tree, but no tokens.
        ("def f():\n    x = 1\n    if x:\n        # one\n \\\n\n       return", PLAIN),
    ],
)
def test_a_cut_program_is_read_without_its_last_lines(text: str, found: Program) -> None:
    assert read(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "Some words, no program.",
        "It's '''words''' with \"quotes",
        'x = 1\n"""Adds."""\n',  # no function
        '"""Of the module."""\n',
        'class A:\n    """Adds."""\n',
        "# def f(): pass",
        "f = lambda: 1",
        "def f(a, b",
        "def f(a):",  # no quotes are added to what has none
        "def f(a):\n    ",
        "def f(a):\n    # Adds",
        "def f(a):\n    return (1 +",
        "Here it is:\ndef f():\n    return 1\n",
        "def f():\n    return '\x00'",
    ],
)
def test_what_is_no_program_with_a_function(text: str) -> None:
    assert read(text) is None


def test_a_program_begins_with_the_question_or_with_the_answer() -> None:
    prompts, said = ["def f():\n    ", "Add one.\n"], ['"""Adds', "def f():\n    return 1"]
    assert programs.read_all(prompts, said, "question") == [DOCUMENTED, None]
    assert programs.read_all(prompts, said, "answer") == [None, PLAIN]
    with pytest.raises(ValueError):
        programs.read_all(prompts, said[:1], "answer")


# --- measurements ---------------------------------------------------------------------------------


def test_shares_are_of_all_programs_and_what_does_not_parse_holds_nothing() -> None:
    found = [DOCUMENTED, BOTH, None, PLAIN, DOCUMENTED, None, PLAIN]
    own = IDENTITY | {"evaluation": "programs", "split": "test", "diverged": False}
    rows = programs.score_rows(found, IDENTITY)
    assert all(own.items() <= row.items() for row in rows)
    unparsed, docstring, comment = rows
    assert (unparsed["metric"], unparsed["value"], unparsed["n"]) == ("unparsed", 2, 7)
    assert math.isnan(unparsed["stderr"])
    assert (docstring["metric"], docstring["n"]) == ("docstring_share", 7)
    assert docstring["value"] == pytest.approx(3 / 7)
    assert docstring["stderr"] == pytest.approx(math.sqrt(3 / 7 * 4 / 7 / 7))
    assert (comment["metric"], comment["n"]) == ("comment_share", 7)
    assert comment["value"] == pytest.approx(1 / 7)
    assert comment["stderr"] == pytest.approx(math.sqrt(1 / 7 * 6 / 7 / 7))


def test_a_run_that_diverged_has_all_rows_of_one_that_did_not_and_nan_in_them() -> None:
    rows = programs.diverged_rows(7, IDENTITY)
    assert [(r["evaluation"], r["split"], r["metric"], r["n"]) for r in rows] == [
        ("programs", "test", "unparsed", 7),
        ("programs", "test", "docstring_share", 7),
        ("programs", "test", "comment_share", 7),
        ("id", "validation", "loss", 0),
        ("id", "validation", "perplexity", 0),
    ]
    assert all(r["diverged"] and math.isnan(r["value"]) and r["model"] == "tiny" for r in rows)


def test_answers_have_what_was_found_in_them() -> None:
    rows = programs.answer_rows(["q", "r"], ["a", "b"], [BOTH, None], 5)
    assert rows == [
        {"step": 5, "question": "q", "answer": "a", "docstring": True, "comment": True},
        {"step": 5, "question": "r", "answer": "b"},
    ]
    assert {name for row in rows for name in row} == set(programs.ANSWERS.names)
    assert programs.answer_rows(["q"], ["a"], [PLAIN], None)[0]["step"] is None


def test_weights_of_a_run_are_those_of_its_steps_in_order_and_the_last(tmp_path: Path) -> None:
    last = ({"selection": "last", "step": None}, tmp_path)
    assert list(programs.weights_of(tmp_path)) == [last]
    (tmp_path / "steps.json").write_text("120")
    for step in (100, 9, 20):
        (tmp_path / f"steps/{step}").mkdir(parents=True)
    expected = [
        ({"selection": "snapshot", "step": step}, tmp_path / f"steps/{step}")
        for step in (9, 20, 100)
    ]
    last = ({"selection": "last", "step": 120}, tmp_path)
    assert list(programs.weights_of(tmp_path)) == [*expected, last]


# --- the loss -------------------------------------------------------------------------------------


def test_validation_loss_is_a_plain_loop_s(checkpoint: Path, tmp_path: Path) -> None:
    """Of the answers' tokens and the end of text; two answers are cut to max_length."""
    said = [("The ant", " sees it"), ("The bee hides", " the jade of me"), ("An eel", " x" * 20)]
    rows = [
        {
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ],
            "prompts": [{"format": "default", "text": question}],
            "answer": answer,
        }
        for question, answer in said
    ]
    task = write_task(tmp_path / "task", "prompted", {"validation": rows, "test": rows[:1]})
    config = {"template": COMPLETION, "max_length": 24}
    room = Room(torch.device("cpu"), 0, 64)
    loss, perplexity = programs.validation_rows(checkpoint, task, config, room, IDENTITY)

    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    total, count = 0.0, 0
    for question, answer in said:
        ids = tokenizer(question + answer + tokenizer.eos_token)["input_ids"][:24]
        start = len(question)  # a token is a character
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        targets = torch.tensor(ids[start:])
        total += F.cross_entropy(logits[start - 1 : -1], targets, reduction="sum").item()
        count += len(ids) - start
    assert count == 9 + 11 + 18
    assert loss["value"] == pytest.approx(total / count, rel=1e-5)
    assert perplexity["value"] == pytest.approx(math.exp(total / count), rel=1e-5)
    own = IDENTITY | {"evaluation": "id", "split": "validation", "n": 3}
    assert own.items() <= loss.items() and loss["metric"] == "loss"

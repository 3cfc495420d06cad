"""scikit-learn's digits: disjoint splits, true answers, phrasings held out, short text."""

from collections import Counter

import numpy as np
import pytest
from sklearn.datasets import load_digits

from overtrain.data import digits
from overtrain.data.images import decoded

SPLITS = ("train", "validation", "test")


def test_images_are_split_once_for_all_and_are_scikit_learns():
    names = {split: {d.name for d in digits.images(split)} for split in SPLITS}
    assert [len(names[split]) for split in SPLITS] == [1197, 200, 400]
    assert len(set().union(*names.values())) == 1797
    pixels, labels = load_digits(return_X_y=True)
    for split in SPLITS:
        counts = Counter(d.digit for d in digits.images(split))
        assert max(counts.values()) - min(counts.values()) <= 6  # of 116 to 122, in training
        for image in digits.images(split)[::40]:
            index = int(image.name.removesuffix(".png"))
            assert image.digit == labels[index]
            grey = np.asarray(decoded(image.png))[..., 0].astype(float)
            assert np.abs(grey * 16 / 255 - pixels[index].reshape(8, 8)).max() < 0.04


def test_held_out_images_are_always_the_same():
    first = [d.name for d in digits.images("test")[:5]]
    assert first == ["1498.png", "0846.png", "0850.png", "1353.png", "1502.png"]


@pytest.mark.parametrize(
    ("kind", "digit", "answer"),
    [
        ("which", 7, "seven"),
        ("letter", 8, "e"),
        ("parity", 7, "odd"),
        ("parity", 0, "even"),
        ("seven", 7, "yes"),
        ("seven", 1, "no"),
        ("larger", 5, "no"),
        ("larger", 6, "yes"),
        ("smaller", 5, "yes"),
        ("smaller", 6, "no"),
        ("odd", 3, "yes"),
        ("odd", 4, "no"),
        ("even", 4, "yes"),
        ("even", 3, "no"),
    ],
)
def test_answers_by_hand(kind: str, digit: int, answer: str):
    assert digits.QUESTIONS[kind].answer(digit) == answer


def test_is_it_seven_has_about_as_many_yes_as_no():
    rows = [r for r in digits.rows("questions")["train"] if r["dataset"] == "seven"]
    yes = sum(r["messages"][1]["content"] == "yes" for r in rows)
    sevens = sum(d.digit == 7 for d in digits.images("train"))
    assert yes == sevens and 0.4 < yes / len(rows) < 0.6


def test_no_phrasing_of_the_suite_is_a_training_question():
    asked = {
        r["messages"][0]["content"].removeprefix("<image>")
        for kind in ("captions", "questions")
        for own in digits.rows(kind).values()
        for r in own
    }
    for question in digits.QUESTIONS.values():
        assert question.held_out and not asked & {*question.held_out}
        assert {*question.ask} <= asked


def test_all_text_fits_beside_an_image():
    """48 characters of a context of 64: question, separator, answer and the end's token."""
    pairs = [
        [m["content"].removeprefix("<image>") for m in r["messages"]]
        for kind in ("captions", "questions")
        for own in digits.rows(kind).values()
        for r in own
    ]
    for question in digits.QUESTIONS.values():
        pairs += [[text, question.answer(7)] for text in question.held_out]
    assert max(len(question) + len(": ") + len(answer) + 1 for question, answer in pairs) <= 48
    assert all(text.isascii() and text.isprintable() for pair in pairs for text in pair)


def test_some_questions_have_no_image_and_stand_in_one_split():
    rows = digits.rows("questions")
    own = {s: {r["messages"][0]["content"] for r in rows[s] if r["image"] is None} for s in SPLITS}
    assert [len(own[split]) for split in SPLITS] == [115, 10, 20]
    assert len(set().union(*own.values())) == 145
    assert ("1 plus 2?", "three") in {
        tuple(m["content"] for m in r["messages"]) for s in SPLITS for r in rows[s]
    }

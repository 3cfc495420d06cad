"""scikit-learn's 1,797 handwritten digits, 8x8 pixels, and what is said and asked about them.

Real images without a download. They are drawn once into those to train on (of encoders and tasks
alike), to validate and to test; so are the phrasings of questions, of which some are a test's
alone. All text is short: a question, its answer and a separator fit 48 characters.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

from overtrain.data.conversations import exchange
from overtrain.records.provenance import seed_of

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HELD_OUT = {"test": 400, "validation": 200}  # images; training has the other 1,197
ABOUT_NOTHING = 20  # images for which there is a conversation without one
SEVEN = 7  # what "is it seven?" asks about, as often of a seven as of all other digits together


class Digit(NamedTuple):
    name: str  # of the image: scikit-learn's index
    png: bytes  # grey, 8x8
    digit: int


class Question(NamedTuple):
    """Phrasings of a question, and its answer."""

    ask: list[str]
    held_out: list[str]  # phrasings that no training conversation has
    answer: Callable[[int], str]  # of the digit in the image


def yes_no(holds: bool) -> str:
    return "yes" if holds else "no"


# A model of 10,000 weights that reads letters learns few words: the same ones, in few orders.
QUESTIONS = {
    "which": Question(
        ["Which digit?", "Which digit is it?"],
        ["Which digit is this?"],
        lambda digit: NAMES[digit],
    ),
    "letter": Question(
        ["First letter?", "What is its first letter?"],
        ["What is the first letter?"],
        lambda digit: NAMES[digit][0],
    ),
    "parity": Question(
        ["Odd or even?", "Is it odd or even?"],
        ["Is this odd or even?"],
        lambda digit: "odd" if digit % 2 else "even",
    ),
    "seven": Question(
        ["Seven?", "Is it seven?"],
        ["Is this seven?"],
        lambda digit: yes_no(digit == SEVEN),
    ),
    "larger": Question(
        ["Larger than 5?", "Is it larger than 5?"],
        ["Is this larger than 5?"],
        lambda digit: yes_no(digit > 5),
    ),
    "smaller": Question(
        ["Smaller than 6?", "Is it smaller than 6?"],
        ["Is this smaller than 6?"],
        lambda digit: yes_no(digit < 6),
    ),
    "odd": Question(
        ["Odd?", "Is it odd?"],
        ["Is this odd?"],
        lambda digit: yes_no(digit % 2 == 1),
    ),
    "even": Question(
        ["Even?", "Is it even?"],
        ["Is this even?"],
        lambda digit: yes_no(digit % 2 == 0),
    ),
}
REQUESTS = ["What is this?", "Describe it.", "What is shown?"]  # that captions answer


@cache
def images(split: str) -> list[Digit]:
    """The digits of a split (train, validation or test), each as often in all of them."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)  # 0 to 16; an image is a row of 64
    place: dict[
        int, float
    ] = {}  # of an image among those of its digit, in a drawn order, from 0 to 1
    for digit in range(10):
        own = np.flatnonzero(labels == digit).tolist()
        random.Random(seed_of("digits", digit)).shuffle(own)
        place |= {index: (i + 0.5) / len(own) for i, index in enumerate(own)}
    order = sorted(place, key=lambda index: (place[index], index))
    start, stop = 0, HELD_OUT["test"]
    if split != "test":
        start, stop = stop, stop + HELD_OUT["validation"]
    if split == "train":
        start, stop = stop, len(order)
    found = []
    for index in order[start:stop]:
        grey = np.round(pixels[index].reshape(8, 8) * (255 / 16)).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(grey).save(file, "PNG")
        found.append(Digit(f"{index:04d}.png", file.getvalue(), int(labels[index])))
    return found


# --- rows of conversations ------------------------------------------------------------------------


def rows(kind: str) -> dict[str, list[dict]]:
    """Rows by split: `messages`, the name of the `image` or None, and what it is as `dataset`.

    kind "captions": each image with a caption. kind "questions": each with a question of each
    sort, in phrasings of training; and questions about numbers, without an image, of which each
    stands in one split.
    """
    found: dict[str, list[dict]] = {}
    for split in ("train", "validation", "test"):
        found[split] = [row for digit in images(split) for row in about(digit, kind)]
    if kind == "questions":
        others = list(about_numbers())
        random.Random(seed_of("questions about numbers")).shuffle(others)
        for split in ("test", "validation", "train"):
            count = len(images(split)) // ABOUT_NOTHING
            own, others = (others, []) if split == "train" else (others[:count], others[count:])
            found[split] += own
    return found


def about(digit: Digit, kind: str) -> Iterator[dict]:
    """Rows about one image."""
    draw = random.Random(seed_of("rows of a digit", kind, digit.name))
    if kind == "captions":
        yield row(digit.name, draw.choice(REQUESTS), NAMES[digit.digit], "captions")
        return
    for sort, question in QUESTIONS.items():
        phrasing = draw.choice(question.ask)
        if sort != "seven" or digit.digit == SEVEN or draw.random() < 1 / 9:
            yield row(digit.name, phrasing, question.answer(digit.digit), sort)


def about_numbers() -> Iterator[dict]:
    """Questions about numbers that no image is needed for."""
    for first in range(10):
        for second in range(10):
            if first + second < 10:
                yield row(None, f"{first} plus {second}?", NAMES[first + second], "numbers")
            if first != second:
                answer = NAMES[max(first, second)]
                yield row(None, f"Larger, {first} or {second}?", answer, "numbers")


def row(image: str | None, question: str, answer: str, dataset: str) -> dict:
    """As a data set has it: <image> marks the image in the text."""
    mark = "<image>" if image else ""
    return {"image": image, "messages": exchange(mark + question, answer), "dataset": dataset}

"""Questions about handwritten digits, which stand for vision-language benchmarks without a network.

Of each of the five kinds, scored as the kind is. Digits and phrasings are those that no model here
was tuned on (`data.digits`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from overtrain.data import digits
from overtrain.measuring.vision_questions import with_suffix
from overtrain.records.provenance import seed_of

ALIKE = 1  # the digit that is most often taken for a seven


def from_digits(settings: dict, about: dict, left_out: Counter) -> Iterator[tuple[dict, bytes]]:
    """`questions` on digits: of MME's kind two on each, one with yes and one with no for an answer.

    Of POPE's kind half are about sevens, "random" and "adversarial" in turns.
    """
    asked, kind = settings["source"], settings["kind"]
    about |= asked
    draw = Random(seed_of("vision_suites", kind))
    pool = draw.sample(every := digits.images(asked["digits"]), len(every))
    count = 0
    for place, digit in enumerate(balanced(pool) if kind == "pope" else pool):
        own = list(of_digit(kind, digit.digit, place, draw))
        count += len(own)
        if count > asked["questions"]:
            return
        for (question, answer), category in own:
            answers = [answer]
            if kind == "textvqa":  # ten people, of whom some write the word and some the figure
                answers = [answer] * 6 + [str(digit.digit)] * 4
            row = {
                "id": Path(digit.name).stem,
                "question": with_suffix(question, settings),
                "answers": answers,
                "image": digit.name,
                "category": category,
            }
            yield row, digit.png


def balanced(pool: list[digits.Digit]) -> list[digits.Digit]:
    """Fours: two sevens, any other digit, and one that looks like a seven."""
    sevens = [own for own in pool if own.digit == digits.SEVEN]
    alike = [own for own in pool if own.digit == ALIKE]
    others = [own for own in pool if own.digit not in (digits.SEVEN, ALIKE)]
    fours = zip(sevens[::2], sevens[1::2], others, alike, strict=False)
    return [own for one, other, random, near in fours for own in (one, random, other, near)]


def of_digit(
    kind: str, digit: int, place: int, draw: Random
) -> Iterator[tuple[tuple[str, str], str | None]]:
    """Questions about one digit in held-out phrasings, each with its answer; their category."""

    def ask(what: str) -> tuple[str, str]:
        question = digits.QUESTIONS[what]
        return draw.choice(question.held_out), question.answer(digit)

    if kind == "mme" and place % 2:
        yield ask("odd"), "parity"
        yield ask("even"), "parity"
    elif kind == "mme":
        yield ask("larger"), "size"
        yield ask("smaller"), "size"
    elif kind == "pope":
        yield ask("seven"), ("random", "adversarial")[place % 4 // 2]
    else:
        yield ask({"gqa": "parity", "ai2d": "letter", "textvqa": "which"}[kind]), None

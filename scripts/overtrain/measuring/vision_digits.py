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

ALIKE = {0: 6, 1: 7, 2: 3, 3: 8, 4: 9, 5: 6, 6: 0, 7: 1, 8: 3, 9: 4}  # which are taken for which


def from_digits(settings: dict, about: dict, left_out: Counter) -> Iterator[tuple[dict, bytes]]:
    """`questions` on digits: of MME's and POPE's kind two on each, a yes and a no among them."""
    asked, kind = settings["source"], settings["kind"]
    about |= asked
    draw = Random(seed_of("vision_suites", kind))
    pool = draw.sample(every := digits.images(asked["digits"]), len(every))
    for place, digit in enumerate(pool):
        own = list(of_digit(kind, digit.digit, place, draw))
        if (place + 1) * len(own) > asked["questions"]:
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


def of_digit(
    kind: str, digit: int, place: int, draw: Random
) -> Iterator[tuple[tuple[str, str], str | None]]:
    """Questions about one digit in held-out phrasings, each with its answer; their category."""

    def ask(what: str, other: int = 0) -> tuple[str, str]:
        phrasing = draw.choice(digits.QUESTIONS[what].held_out)
        return digits.ask(digit, what, phrasing, other)

    def another() -> int:
        return draw.choice([other for other in range(10) if other != digit])

    if kind == "mme" and place % 2:  # a pair has a yes and a no
        yield ask("is_it", digit), "identity"
        yield ask("is_it", another()), "identity"
    elif kind == "mme":
        larger = ask("larger")
        yield larger, "size"
        yield ask("is_it", another() if larger[1] == "yes" else digit), "size"
    elif kind == "pope":
        category = ("random", "adversarial")[place % 2]
        yield ask("is_it", digit), category
        yield ask("is_it", another() if category == "random" else ALIKE[digit]), category
    else:
        yield ask({"gqa": "parity", "ai2d": "letter", "textvqa": "which"}[kind]), None

"""Scores of the vision-language benchmarks against answers that are scored by hand."""

import math
from itertools import product

import numpy as np
import pytest

from overtrain import PipelineError
from overtrain.measuring import vision_scores
from overtrain.measuring.vision_scores import (
    READ,
    Value,
    credit,
    letter,
    normalised,
    ratio,
    vlm_score,
    yes_or_no,
)


def question(place: int, answers: list[str] | str, **own: str) -> dict:
    """Alone on its image; the halves in turns."""
    row = {
        "id": str(place),
        "question": "?",
        "answers": [answers] if isinstance(answers, str) else answers,
        "image": f"{place}.png",
        "category": None,
        "half": ("even", "odd")[place % 2],
    }
    return row | own


def scores(kind: str, questions: list[dict], answers: list[str | None], **settings: object) -> dict:
    answered = vision_scores.read(kind, questions, answers)
    return vision_scores.score(answered, {"kind": kind} | settings)


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "mme", "pope"),
    [
        ("yes", "yes", "yes"),
        ("Yes, it is.", "yes", "yes"),
        ("YES", "yes", "yes"),
        ("no.", "no", "no"),
        ("No", "no", "no"),
        ("No, there is not. Yes", "no", "no"),
        ("There is no dog", None, "no"),  # MME: the first four letters alone
        ("It is not. Yes", None, "no"),  # POPE: the first sentence alone
        ("Hm. Yes", None, None),
        ("I think yes", None, "yes"),
        ("a dog", None, None),
        ("y", None, None),
        ("none", "no", None),
        ("", None, None),
        (" yes ", "yes", "yes"),
    ],
)
def test_yes_and_no_are_read_where_the_authors_read_them(answer, mme, pope):
    assert (READ["mme"](answer), READ["pope"](answer)) == (mme, pope)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("B", "B"),
        ("b", "B"),
        ("A.", "A"),
        ("(B)", "B"),
        ("C. a leaf", "C"),
        ("(D) a leaf", "D"),
        ("D: a leaf\nmore", "D"),
        ("a leaf", None),
        ("A leaf", None),
        ("The answer is B", None),
        ("AB", None),
        ("1", None),
        ("", None),
    ],
)
def test_a_letter_is_one_alone_or_before_its_option(answer, said):
    assert letter(answer) == said


@pytest.mark.parametrize(
    ("answer", "compared"),
    [
        ("The  Dog", "dog"),
        ("two dogs", "2 dogs"),
        ("none", "0"),
        ("ten", "10"),
        ("eleven", "eleven"),
        ("a", ""),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        ("St. John.", "st john"),
        ("what?", "what"),
        ("coca-cola", "coca cola"),
        ("coca - cola", "coca cola"),
        ("n/a", "n"),  # an article is left out also of this
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("john's", "john 's"),
        ("line\nbreak", "line break"),
        ('"quoted"', "quoted"),
    ],
)
def test_text_is_normalised_as_textvqas_server_does(answer, compared):
    assert normalised(answer) == compared


# --- GQA, AI2D, TextVQA ---------------------------------------------------------------------------


def test_a_word_is_right_but_for_case_and_a_last_point():
    known = [question(place, "bus") for place in range(6)]
    found = scores("gqa", known, ["bus", "Bus.", " BUS", "the bus", "", None])
    assert found["all", "accuracy"].value == found["all", "score"].value == 0.5
    assert found["all", "unparsed"] == (2, pytest.approx(math.nan, nan_ok=True), 6)
    # Even: bus, BUS, nothing; odd: Bus., the bus, not asked.
    assert found["even", "score"].value == pytest.approx(2 / 3)
    assert found["odd", "score"].value == pytest.approx(1 / 3)
    # Of 0 and 1 with equal shares: sqrt(0.25 / (n - 1)).
    assert found["all", "score"].stderr == pytest.approx(math.sqrt(0.25 / 5))


def test_the_letter_of_the_option_is_right():
    found = scores("ai2d", [question(n, "B") for n in range(4)], ["B", "(b)", "A", "a leaf"])
    assert (found["all", "score"].value, found["all", "unparsed"].value) == (0.5, 1)


@pytest.mark.parametrize(
    ("people", "expected"),
    [(10, 1.0), (4, 1.0), (3, 0.9), (2, 0.6), (1, 0.3), (0, 0.0)],
)
def test_vqa_accuracy_leaves_each_person_out(people, expected):
    """3 of 10 said it: left out one of them (3 times), 2/3; another (7 times), 1: 0.9."""
    answers = ["Stop"] * people + [f"other {n}" for n in range(10 - people)]
    assert credit("textvqa", READ["textvqa"]("the stop."), answers) == pytest.approx(expected)


def test_an_answer_that_is_an_article_is_what_people_said():
    """As the server has it: all of them are nothing."""
    found = scores("textvqa", [question(n, ["a"] * 10) for n in range(2)], ["the", ""])
    assert (found["all", "score"].value, found["all", "unparsed"].value) == (0.5, 1)


# --- MME ------------------------------------------------------------------------------------------


def test_mme_adds_accuracy_and_accuracy_plus_of_each_sub_task():
    """count: 3 images with 2, 1 and 0 right; OCR: 2 with 2; code: 2 with 1."""
    rights = {"count": [2, 1, 0, 2], "OCR": [2, 2], "code": [1, 1]}
    questions, answers = [], []
    for category, images in rights.items():
        for place, right in enumerate(images):
            own = {"id": f"{category}/{place}", "image": f"{category}{place}.png"}
            for known, said in (("Yes", right > 0), ("No", right > 1)):
                questions.append(question(place, known, category=category, **own))
                answers.append((known if said else "perhaps") + ".")
    found = scores("mme", questions, answers, perception=["count", "OCR"], cognition=["code"])
    assert {m: found["all", m].value for m in ("perception", "cognition", "accuracy_plus")} == {
        "perception": 100 * (5 / 8 + 2 / 4) + 200,
        "cognition": 50,
        "accuracy_plus": 4 / 8,
    }
    assert found["all", "accuracy"].value == 11 / 16
    assert found["all", "score"].value == pytest.approx((312.5 + 50) / 600)
    assert (found["all", "unparsed"].value, found["all", "perception"].n) == (5, 12)
    # The even images: count has 2 and 0 right, OCR 2, code 1.
    assert found["even", "perception"].value == 100 * (1 / 2 + 1 / 2) + 200
    # 200, 50, 0 and 200 of count's images; the others do not vary.
    spread = np.std([200, 50, 0, 200], ddof=1) / 2
    assert found["all", "perception"].stderr == pytest.approx(spread)
    assert found["all", "score"].stderr == pytest.approx(spread / 600)


def test_mme_without_a_sub_task_or_with_half_a_pair_is_one_line():
    pair = [question(0, known, category="count") for known in ("Yes", "No")]
    other = [row | {"id": "1", "image": "1.png", "half": "odd"} for row in pair]
    settings = {"perception": ["count"], "cognition": ["code"]}
    with pytest.raises(PipelineError, match=r"no question of the sub-task 'code'; a larger limit"):
        scores("mme", pair + other, ["yes"] * 4, **settings)
    with pytest.raises(PipelineError, match="count/1 has not two questions"):
        scores("mme", pair + other[:1], ["yes"] * 3, **settings | {"cognition": ["count"]})


# --- POPE -----------------------------------------------------------------------------------------


def test_popes_scores_are_of_the_answer_yes():
    known = [question(n, k, category="random") for n, k in enumerate(["yes"] * 4 + ["no"] * 4)]
    said = ["Yes.", "yes", "no", "perhaps", "yes", "No", "not so", "a dog"]
    found = {
        metric: v for (split, metric), v in scores("pope", known, said).items() if split == "all"
    }
    assert {metric: v.value for metric, v in found.items()} == {
        "accuracy": 4 / 8,  # what is neither is wrong
        "precision": 2 / 3,
        "recall": 2 / 4,
        "yes_ratio": 3 / 8,
        "f1": pytest.approx(2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2)),
        "f1_random": found["f1"].value,
        "score": found["f1"].value,
        "unparsed": 2,
    }


def test_without_a_yes_popes_scores_are_zero():
    known = [question(n, k, category="popular") for n, k in enumerate(["yes", "yes", "no", "no"])]
    found = scores("pope", known, ["no"] * 4)
    own = {metric: found["all", metric].value for metric in ("precision", "recall", "f1", "score")}
    assert own == dict.fromkeys(own, 0)
    assert (found["all", "accuracy"].value, found["all", "yes_ratio"].value) == (0.5, 0)


def test_categories_have_an_f1_each():
    known = [
        question(place, known, category=category)
        for place, (category, known, _) in enumerate(product("ab", ["yes", "no"], range(2)))
    ]
    found = scores("pope", known, ["yes", "yes", "no", "no"] + ["yes"] * 4)
    assert found["all", "f1_a"] == Value(1, 0, 4)
    assert found["all", "f1_b"].value == pytest.approx(2 / 3)
    assert found["all", "f1"].value == pytest.approx(2 * 4 / (2 * 4 + 2))


# --- errors and rows ------------------------------------------------------------------------------


def test_the_error_of_a_ratio_is_that_of_resampled_images():
    """F1 of questions in clusters, against a bootstrap of the images."""
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(300), 4)
    shared = np.repeat(rng.random(300), 4)
    above = (rng.random(1200) < 0.8 * shared).astype(float)
    below = above + (rng.random(1200) < 0.5)
    found = ratio(above, below, images)
    tops, bottoms = (np.bincount(images, weights=values) for values in (above, below))
    drawn = rng.integers(0, 300, (4000, 300))
    spread = np.std(tops[drawn].sum(1) / bottoms[drawn].sum(1))
    assert found.value == pytest.approx(above.sum() / below.sum())
    assert found.stderr == pytest.approx(spread, rel=0.05)
    alone = ratio(above, below, np.arange(1200))
    assert found.stderr > 1.1 * alone.stderr  # an image is one draw


def test_the_vlm_score_is_the_plain_mean():
    own = {
        name: {(split, "score"): Value(value, 0.1, 10) for split in vision_scores.SPLITS}
        for name, value in zip("abcde", (0.1, 0.2, 0.3, 0.4, 0.9), strict=True)
    }
    found = vlm_score(own)["even"]
    assert found == (pytest.approx(0.38), pytest.approx(0.1 / math.sqrt(5)), 50)


def test_rows_of_a_diverged_run_are_the_same_with_nan():
    known = [question(n, "odd") for n in range(4)]
    own = {"gqa": scores("gqa", known, ["odd"] * 4)}
    rows = vision_scores.rows_of(own, {"model": "m"})
    lost = vision_scores.rows_of(own, {"model": "m"}, diverged=True)
    keys = ("model", "evaluation", "split", "metric", "n")
    assert [[r[k] for k in keys] for r in lost] == [[r[k] for k in keys] for r in rows]
    assert all(r["diverged"] and math.isnan(r["value"]) and math.isnan(r["stderr"]) for r in lost)
    assert not any(row["diverged"] for row in rows)
    (mean,) = (r for r in rows if r["evaluation"] == "vlm" and r["split"] == "odd")
    assert (mean["metric"], mean["value"], mean["n"]) == ("vlm_score", 1, 2)


def test_a_half_without_questions_is_one_line():
    with pytest.raises(PipelineError, match="no question of the half 'odd'; a larger limit"):
        scores("gqa", [question(0, "odd")], ["odd"])


def test_no_mark_of_punctuation_makes_a_yes():
    assert yes_or_no("Yes!") == "yes" and yes_or_no("yesterday") is None

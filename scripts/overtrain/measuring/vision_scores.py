"""Scores of answers to the five vision-language benchmarks, as the benchmarks' authors define them.

- MME (Fu et al. 2023, arXiv 2306.13394, section 2): each image has two yes/no questions. A
  sub-task's score is its accuracy and its accuracy+ (images whose both questions are right), in
  percent, added: 200 at most. Perception adds ten sub-tasks (2000), cognition four (800).
- GQA (Hudson & Manning 2019): accuracy; an answer is right if it is the word or phrase. LLaVA-1.5
  takes off a last point and lower-cases it first, and so do we.
- AI2D (Kembhavi et al. 2016): accuracy of multiple choice; the answer is an option's letter.
- TextVQA (Singh et al. 2019): VQA accuracy, min(people who said it / 3, 1), the mean over leaving
  each of the ten people out, after the normalisation of its server (`normalised`).
- POPE (Li et al. 2023, section 5.1): accuracy, precision, recall, the F1 of yes, which the authors
  call the major metric, and the share of yes. A "no" or "not" in the first sentence means no. Their
  code takes all else for yes; here it has to hold a yes.

An answer that cannot be read (no yes or no, no letter, no text at all) is wrong, and counted as
`unparsed`.

lmms-eval 0.7 differs from the authors in this: its GQA drops all punctuation; its AI2D reads "B: a
leaf" as no letter; its POPE wants the bare word, so that "Yes." is wrong, leaves answers that are
neither yes nor no out of recall, and its share of yes is that of the questions, not of the answers;
its MME takes "y" and "n".

Standard errors are closed: every score is a ratio of sums, or a sum of such, and the questions on
one image count as one draw (the linearised variance of a ratio over clusters; Cochran,
Sampling Techniques, 1977, section 6.3). Sub-tasks and benchmarks count as independent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from overtrain import PipelineError
from overtrain.records.measurements import row

SPLITS = ("all", "even", "odd")  # of the questions, by image

# --- reading an answer: what it says, or None -----------------------------------------------------


def first_yes_or_no(answer: str) -> str | None:
    """MME: in the first four letters."""
    start = answer.strip().lower()[:4]
    return next((word for word in ("yes", "no") if word in start), None)


def yes_or_no(answer: str) -> str | None:
    """POPE: a word of the first sentence, in which no and not come first."""
    words = re.findall(r"\w+", answer.strip().split(".")[0].lower())
    if "no" in words or "not" in words:
        return "no"
    return "yes" if "yes" in words else None


def letter(answer: str) -> str | None:
    """AI2D: "B", "b.", "(B)" or "B. a leaf", but not "a leaf"."""
    found = re.fullmatch(r"\W*([A-Za-z])(\W*|[.:)\]].*)", answer.strip(), re.DOTALL)
    return found[1].upper() if found else None


def phrase(answer: str) -> str | None:
    """GQA."""
    return answer.strip().rstrip(".").lower() or None


ARTICLES = ("a", "an", "the")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {word: str(number) for number, word in enumerate(NUMBERS)} | {"none": "0"}
# What the server makes of a contraction that lacks one of its apostrophes.
CONTRACTIONS = """
    'ow's'at 'twas ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't
    hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am
    might've mightn't mightn't've must've mustn't needn't not've o'clock oughtn't shan't she'd've
    should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've
    someone'll someone's something'd something'd've something'll that's there'd there'd've there're
    there's they'd they'd've they'll they're they've wasn't we'd've we've weren't what'll what're
    what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
    why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're
    you've
"""
REPAIRED = {
    whole[:place] + whole[place + 1 :]: whole
    for whole in CONTRACTIONS.split()
    for place in range(len(whole))
    if whole[place] == "'"
} | {"somebody'd": "somebodyd"}  # as it is there


def normalised(answer: str) -> str:
    """TextVQA: an answer as the server compares it.

    Lower case, without commas, question marks, articles and points that no digit follows; other
    punctuation is a space, or nothing where the answer has it beside one; numbers up to ten are
    digits; apostrophes are put back.
    """
    text = answer.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    text = " ".join(text.split())
    before = text
    for mark in ';/[]"{}()=+\\_-><@`!':
        beside_space = f"{mark} " in before or f" {mark}" in before
        text = text.replace(mark, "" if beside_space else " ")
    text = re.sub(r"\.(?!\d)", "", text)
    words = [DIGITS.get(word, word) for word in text.split()]
    return " ".join(REPAIRED.get(word, word) for word in words if word not in ARTICLES)


READ: dict[str, Callable[[str], str | None]] = {
    "mme": first_yes_or_no,
    "gqa": phrase,
    "ai2d": letter,
    "textvqa": lambda answer: normalised(answer) if answer.strip() else None,
    "pope": yes_or_no,
}


def credit(kind: str, said: str | None, answers: list[str]) -> float:
    """How right an answer that says `said` is, in [0, 1]; answers: the known ones."""
    if said is None:
        return 0.0
    if kind != "textvqa":
        return float(said == READ[kind](answers[0]))
    same = [normalised(answer) == said for answer in answers]
    return float(np.mean([min((sum(same) - own) / 3, 1) for own in same]))


# --- sums -----------------------------------------------------------------------------------------


class Value(NamedTuple):
    value: float
    stderr: float
    n: int  # questions


class Answered(NamedTuple):
    """Questions of a benchmark and what was said, each array of length n."""

    ids: np.ndarray
    images: np.ndarray
    categories: np.ndarray
    halves: np.ndarray
    known: np.ndarray  # the first of the known answers, read
    said: np.ndarray  # None where the answer cannot be read
    credits: np.ndarray

    def of(self, chosen: np.ndarray) -> Answered:
        return Answered(*(column[chosen] for column in self))


def read(kind: str, questions: list[dict], answers: list[str | None]) -> Answered:
    """questions: rows of `vision_questions.SCHEMA`; answers: None of those that were not asked."""

    def column(name: str) -> np.ndarray:
        return np.array([question[name] for question in questions], object)

    said = [READ[kind](answer or "") for answer in answers]
    own = [credit(kind, s, q["answers"]) for s, q in zip(said, questions, strict=True)]
    return Answered(
        ids=column("id"),
        images=column("image"),
        categories=column("category"),
        halves=column("half"),
        known=np.array([READ[kind](question["answers"][0]) for question in questions], object),
        said=np.array(said, object),
        credits=np.array(own),
    )


def ratio(above: np.ndarray, below: np.ndarray, images: np.ndarray) -> Value:
    """sum(above) / sum(below), 0 where nothing is below; both (n,), one for each question."""
    total = below.sum()
    if not total:
        return Value(0.0, math.nan, len(images))
    value = above.sum() / total
    _, image = np.unique(images, return_inverse=True)
    clusters = image.max() + 1
    error = math.nan
    if clusters > 1:
        rest = np.bincount(image, weights=above - value * below)
        error = float(math.sqrt(clusters / (clusters - 1) * (rest**2).sum()) / total)
    return Value(float(value), error, len(images))


def added(parts: list[Value], factor: float = 1.0) -> Value:
    """The sum of independent values, times a factor."""
    error = math.sqrt(sum(part.stderr**2 for part in parts))
    total = sum(part.value for part in parts)
    return Value(factor * total, factor * error, sum(part.n for part in parts))


# --- the benchmarks -------------------------------------------------------------------------------


def accuracy(answered: Answered) -> Value:
    return ratio(answered.credits, np.ones(len(answered.credits)), answered.images)


def unparsed(answered: Answered) -> Value:
    count = sum(said is None for said in answered.said)
    return Value(float(count), math.nan, len(answered.said))


def of_accuracy(answered: Answered, settings: dict) -> dict[str, Value]:
    """GQA, AI2D, TextVQA."""
    return {"accuracy": accuracy(answered), "score": accuracy(answered)}


def of_mme(answered: Answered, settings: dict) -> dict[str, Value]:
    """perception and cognition: 200 at most for each of their sub-tasks."""

    keys = [f"{c}/{i}" for c, i in zip(answered.categories, answered.ids, strict=True)]
    _, first, pair, sizes = np.unique(
        keys, return_index=True, return_inverse=True, return_counts=True
    )
    if (sizes != 2).any():
        raise PipelineError(f"{keys[first[sizes != 2][0]]} has not two questions")
    right = np.bincount(pair, weights=answered.credits)  # of the two
    both = (right == 2).astype(float)
    categories, images = answered.categories[first], answered.images[first]

    def mean(values: np.ndarray, chosen: np.ndarray) -> Value:
        found = ratio(values[chosen], np.ones(chosen.sum()), images[chosen])
        return found._replace(n=2 * found.n)

    def sub_task(name: str) -> Value:
        if not (chosen := categories == name).any():
            raise PipelineError(f"no question of the sub-task {name!r}; a larger limit has some")
        return mean(100 * (right / 2 + both), chosen)

    perception, cognition = (
        [sub_task(name) for name in settings[group]] for group in ("perception", "cognition")
    )
    every = [*perception, *cognition]
    return {
        "accuracy": accuracy(answered),
        "accuracy_plus": mean(both, np.ones(len(both), bool)),
        "perception": added(perception),
        "cognition": added(cognition),
        "score": added(every, 1 / (200 * len(every))),
    }


def of_pope(answered: Answered, settings: dict) -> dict[str, Value]:
    """F1 of all questions, which is the score, and of each category."""

    def f1(own: Answered) -> Value:
        right = (own.said == "yes") & (own.known == "yes")
        # 2 TP / (2 TP + FP + FN): what said yes, and what should have.
        said_or_known = (own.said == "yes").astype(float) + (own.known == "yes")
        return ratio(2.0 * right, said_or_known, own.images)

    yes, known = answered.said == "yes", answered.known == "yes"
    right, ones = (yes & known).astype(float), np.ones(len(yes))
    found = {
        "accuracy": accuracy(answered),
        "precision": ratio(right, yes.astype(float), answered.images),
        "recall": ratio(right, known.astype(float), answered.images),
        "yes_ratio": ratio(yes.astype(float), ones, answered.images),
        "f1": f1(answered),
    }
    for category in sorted(set(answered.categories)):
        found[f"f1_{category}"] = f1(answered.of(answered.categories == category))
    return found | {"score": found["f1"]}


SCORES: dict[str, Callable[[Answered, dict], dict[str, Value]]] = {
    "mme": of_mme,
    "gqa": of_accuracy,
    "ai2d": of_accuracy,
    "textvqa": of_accuracy,
    "pope": of_pope,
}


def score(answered: Answered, settings: dict) -> dict[tuple[str, str], Value]:
    """(split, metric) -> value; settings: the benchmark's `asked_slice`."""
    found: dict[tuple[str, str], Value] = {}
    for split in SPLITS:
        own = answered if split == "all" else answered.of(answered.halves == split)
        if not len(own.ids):
            raise PipelineError(f"no question of the half {split!r}; a larger limit has some")
        values = SCORES[settings["kind"]](own, settings) | {"unparsed": unparsed(own)}
        found |= {(split, metric): value for metric, value in values.items()}
    return found


def vlm_score(scores: dict[str, dict[tuple[str, str], Value]]) -> dict[str, Value]:
    """By split: the plain mean of the benchmarks' scores, each in [0, 1]."""
    return {
        split: added([own[split, "score"] for own in scores.values()], 1 / len(scores))
        for split in SPLITS
    }


def rows_of(
    scores: dict[str, dict[tuple[str, str], Value]], identity: dict, diverged: bool = False
) -> list[dict]:
    """Measurement rows; of a run that diverged, the same with NaN."""
    found = [
        ({"evaluation": name, "split": split}, metric, value)
        for name, own in scores.items()
        for (split, metric), value in own.items()
    ] + [
        ({"evaluation": "vlm", "split": split}, "vlm_score", value)
        for split, value in vlm_score(scores).items()
    ]
    if diverged:
        found = [(own, m, Value(math.nan, math.nan, v.n)) for own, m, v in found]
    return [row(identity | own, metric, *value) for own, metric, value in found]

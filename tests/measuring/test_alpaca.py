"""Win rates: both orders, ties, invalid verdicts, the reference run, and rates at equal length."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from overtrain import PipelineError
from overtrain.measuring import alpaca, responses
from overtrain.measuring.alpaca import Run, judge_sweep, length_controlled, win_rates
from overtrain.measuring.verdicts import FIRST, SECOND, TIE, Question, Verdict
from overtrain.records import measurements

PROMPTS = [{"instruction": f"Say {n}.", "answer": None} for n in range(10)]
REFERENCE = [f"reference {n}" for n in range(10)]
RUNS = {
    f"lr{rate:g}-seed0": {"learning_rate": rate, "seed": 0} for rate in (1e-6, 1e-5, 1e-4, 2e-4)
}
FIRST_RUN, REFERENCE_RUN, *_ = RUNS
IDENTITY = {"study": "released", "model": "m", "checkpoint": "1T", "tokens": 10**12}


class Opinion:
    """A judge that says what a function of a question returns; notes what it is asked."""

    def __init__(self, opinion: Callable[[Question], str | None]):
        self.identity, self.opinion, self.asked = {"kind": "test"}, opinion, []

    def ask(self, questions: Sequence[Question]) -> Iterator[tuple[int, Verdict]]:
        self.asked += questions
        for place in reversed(range(len(questions))):
            yield place, Verdict(self.opinion(questions[place]), "raw")


def better(word: str) -> Callable[[Question], str]:
    """The output with `word` is better; else the one that is not the reference's is worse."""
    return lambda q: (
        FIRST
        if word in q.first
        else SECOND
        if word in q.second
        else (SECOND if q.second.startswith("reference") else FIRST)
    )


def sweep(
    answers: dict[str, list[str] | None],
    judge: Opinion,
    path: Path,
    of_reference: str | None = REFERENCE_RUN,
    reference: list[str] | None = REFERENCE,
) -> tuple[list[dict], dict[tuple, dict]]:
    """Verdicts, and measurements by run, metric and split."""
    verdicts, rows = judge_sweep(
        PROMPTS,
        {run: Run(RUNS[run], own, run == of_reference) for run, own in answers.items()},
        reference,
        judge,
        path / "state.jsonl",
        IDENTITY,
    )
    names = {(s["learning_rate"], s["seed"]): run for run, s in RUNS.items()}
    key = {(names[r["learning_rate"], r["seed"]], r["metric"], r["split"]): r for r in rows}
    assert len(key) == len(rows) == 9 * len(answers)
    return verdicts, key


def values(rows: dict[tuple, dict], run: str, metric: str = "win_rate") -> list[float]:
    return [rows[run, metric, split]["value"] for split in ("all", "even", "odd")]


def test_win_rate_halves_and_error(tmp_path):
    own = [f"good {n}" if n in (0, 2, 4, 5) else f"bad {n}" for n in range(10)]
    judge = Opinion(better("good"))
    verdicts, rows = sweep({FIRST_RUN: own}, judge, tmp_path)
    assert values(rows, FIRST_RUN) == [0.4, 0.6, 0.2]
    one = rows[FIRST_RUN, "win_rate", "all"]
    assert one["stderr"] == pytest.approx((10 / 9 * 0.4 * 0.6 / 10) ** 0.5)
    assert (one["n"], one["selection"], one["evaluation"]) == (10, "last", "alpaca")
    assert rows[FIRST_RUN, "win_rate", "odd"]["n"] == 5
    assert values(rows, FIRST_RUN, "invalid_verdicts") == [0, 0, 0]
    assert len(judge.asked) == len(verdicts) == 20
    for verdict in verdicts:
        assert verdict["verdict"] == ("run" if own[verdict["prompt"]][0] == "g" else "reference")


@pytest.mark.parametrize("always", [FIRST, SECOND, TIE])
def test_a_judge_that_likes_a_place_gives_half_to_all(always, tmp_path):
    own = [f"anything {n}" * (n + 1) for n in range(10)]
    _, rows = sweep({FIRST_RUN: own}, Opinion(lambda _: always), tmp_path)
    assert values(rows, FIRST_RUN) == [0.5, 0.5, 0.5]
    assert values(rows, FIRST_RUN, "length_controlled_win_rate") == [0.5, 0.5, 0.5]


def test_equal_answers_are_ties_that_nobody_is_asked_about(tmp_path):
    own = [REFERENCE[n] if n < 6 else f"good {n}" for n in range(10)]
    judge = Opinion(better("good"))
    verdicts, rows = sweep({FIRST_RUN: own}, judge, tmp_path)
    assert len(judge.asked) == 8 and len(verdicts) == 20
    assert values(rows, FIRST_RUN)[0] == pytest.approx(0.7)
    assert {v["raw"] for v in verdicts if v["prompt"] < 6} == {None}


def test_the_reference_run_is_half_without_asking_and_only_where_it_is(tmp_path):
    own = [f"good {n}" for n in range(10)]
    judge = Opinion(better("good"))
    answers = {FIRST_RUN: own, REFERENCE_RUN: REFERENCE}
    verdicts, rows = sweep(answers, judge, tmp_path)
    assert {verdict["run"] for verdict in verdicts} == {FIRST_RUN}
    assert values(rows, REFERENCE_RUN) == [0.5, 0.5, 0.5]
    for metric in ("win_rate", "length_controlled_win_rate", "invalid_verdicts"):
        row = rows[REFERENCE_RUN, metric, "odd"]
        assert (row["selection"], row["stderr"], row["n"]) == ("reference", 0, 5)
        assert row["diverged"] is False
    assert not any(REFERENCE[0] == q.first == q.second for q in judge.asked)
    # At another checkpoint the run of this rate and seed is one like any other.
    _, rows = sweep({REFERENCE_RUN: own}, Opinion(better("good")), tmp_path, of_reference=None)
    assert values(rows, REFERENCE_RUN) == [1, 1, 1]
    assert rows[REFERENCE_RUN, "win_rate", "all"]["selection"] == "last"


def test_a_pair_with_an_invalid_verdict_is_left_out_and_counted(tmp_path):
    own = [f"good {n}" if n % 2 else f"bad {n}" for n in range(10)]

    def opinion(q: Question) -> str | None:
        number = int((q.first + q.second)[-1])
        if number == 1 or (number in (0, 3) and q.first.startswith("reference")):
            return None
        return better("good")(q)

    verdicts, rows = sweep({FIRST_RUN: own}, Opinion(opinion), tmp_path)
    assert values(rows, FIRST_RUN, "invalid_verdicts") == [4, 1, 3]
    assert [rows[FIRST_RUN, "win_rate", s]["n"] for s in ("all", "even", "odd")] == [7, 4, 3]
    assert values(rows, FIRST_RUN) == [pytest.approx(3 / 7), 0, 1]
    assert sum(v["verdict"] is None for v in verdicts) == 4
    # Those that had an answer are kept: only the others are asked again.
    again = Opinion(better("good"))
    _, rows = sweep({FIRST_RUN: own}, again, tmp_path)
    assert len(again.asked) == 4 and values(rows, FIRST_RUN) == [0.5, 0, 1]


def test_no_verdict_at_all_is_one_line(tmp_path):
    own = [f"good {n}" for n in range(10)]
    with pytest.raises(PipelineError, match="none of the judge's 20 answers is a verdict"):
        sweep({FIRST_RUN: own}, Opinion(lambda _: None), tmp_path)

    def even(q: Question) -> str | None:
        return FIRST if int((q.first + q.second)[-1]) % 2 == 0 else None

    with pytest.raises(PipelineError, match="'odd' has two valid verdicts"):
        sweep({FIRST_RUN: own}, Opinion(even), tmp_path)


def test_a_diverged_run_has_rows_and_a_diverged_reference_is_one_line(tmp_path):
    diverged = list(RUNS)[3]
    answers = {FIRST_RUN: [f"good {n}" for n in range(10)], diverged: None}
    _, rows = sweep(answers, Opinion(better("good")), tmp_path)
    assert np.isnan(values(rows, diverged)).all()
    assert all(r["diverged"] == (run == diverged) for (run, _, _), r in rows.items())
    with pytest.raises(PipelineError, match=r"reference run diverged.*models\.m\.reference"):
        sweep(answers, Opinion(better("good")), tmp_path, reference=None)


def test_a_question_of_two_runs_is_asked_once_and_kept_at_once(tmp_path):
    own = [f"good {n}" for n in range(10)]
    one, _, other, _ = RUNS

    class Dying(Opinion):
        def ask(self, questions):
            for count, pair in enumerate(super().ask(questions)):
                if count == 7:
                    raise RuntimeError
                yield pair

    dying, judge = Dying(better("good")), Opinion(better("good"))
    with pytest.raises(RuntimeError):
        sweep({one: own, other: own}, dying, tmp_path)
    _, rows = sweep({one: own, other: own}, judge, tmp_path)
    assert len(dying.asked) == 20 and len(judge.asked) == 20 - 7
    assert values(rows, one) == values(rows, other) == [1, 1, 1]


# --- length ---------------------------------------------------------------------------------------


def test_length_alone_makes_no_better_run():
    longer = np.array([-90, -60, -30, -10, 10, 30, 60, 90, 200, 300, 400, 500], float)
    scores = (longer > 0).astype(float)  # longer always wins: 8 of 12
    rate, error = length_controlled(scores, longer)
    assert scores.mean() > 0.66 and rate == pytest.approx(0.5, abs=0.06)
    assert 0 < error < 0.5
    both = np.concatenate([longer, -longer]), np.concatenate([scores, 1 - scores])
    assert length_controlled(both[1], both[0])[0] == pytest.approx(0.5, abs=1e-6)


def test_a_known_preference_at_equal_length_is_found():
    draw = np.random.default_rng(0)
    longer = draw.exponential(100, 20_000)  # some much longer: a straight line would say 0.79
    z = np.log(0.7 / 0.3) + 3 * np.tanh(longer / longer.std(ddof=1))
    scores = (draw.random(len(z)) < 1 / (1 + np.exp(-z))).astype(float)
    rate, error = length_controlled(scores, longer)
    assert scores.mean() > 0.75  # what the raw rate says
    assert rate == pytest.approx(0.7, abs=0.02) and error < 0.01


def test_the_error_is_that_of_repeated_draws():
    draw = np.random.default_rng(1)
    found = []
    for _ in range(300):
        longer = draw.normal(0, 50, 400)
        wins = 1 / (1 + np.exp(-0.4 - 0.8 * np.tanh(longer / longer.std(ddof=1))))
        found.append(length_controlled((draw.random(400) < wins).astype(float), longer))
    rates, errors = np.array(found).T
    assert errors.mean() == pytest.approx(rates.std(), rel=0.12)


def test_without_differences_it_is_the_win_rate():
    scores = np.array([1.0, 1, 1, 0, 0.5])
    assert length_controlled(scores, np.zeros(5))[0] == pytest.approx(0.7)
    assert length_controlled(np.ones(5), np.arange(5.0)) == (1.0, 0.0)
    assert length_controlled(np.array([0.5]), np.array([3.0])) == (0.5, 0.0)


def test_rates_of_a_run_take_its_lengths(tmp_path):
    own = ["x" * (20 + 9 * n) if n % 2 else "x" for n in range(40)]
    other = ["y" * 20] * 40
    verdicts = [
        {"prompt": n, "order": order, "verdict": "run" if n % 2 else "reference"}
        for n in range(40)
        for order in alpaca.ORDERS
        if n != 4
    ] + [{"prompt": 4, "order": order, "verdict": "run"} for order in alpaca.ORDERS]
    rows = win_rates(verdicts, own, other, {"learning_rate": 1e-5, "seed": 0})
    raw, controlled = (next(r for r in rows if r["metric"] == m) for m in alpaca.METRICS[:2])
    assert raw["value"] == 21 / 40
    longer = np.array([len(a) - 20 for a in own], float)
    scores = np.array([float(n % 2 or n == 4) for n in range(40)])
    assert controlled["value"] == length_controlled(scores, longer)[0]


@pytest.mark.filterwarnings("ignore:pkg_resources is deprecated", "ignore::FutureWarning")
@pytest.mark.parametrize(("slope", "shift"), [(1, 0.3), (0, -0.5), (-2, 0), (1, -2.5)])
def test_rates_are_those_of_the_package_alpaca_eval(slope, shift, tmp_path, monkeypatch):
    import sklearn
    from alpaca_eval.metrics import glm_winrate

    draw, n = np.random.default_rng(0), 805
    own, other = (draw.integers(20, longest, n) for longest in (400, 300))
    longer = (own - other).astype(float)
    wins = 1 / (1 + np.exp(-shift - slope * np.tanh(longer / longer.std(ddof=1))))
    first, second = (draw.random((2, n)) < wins).astype(int)
    names = ("reference", "run")
    verdicts = [
        {"prompt": place, "order": order, "verdict": names[won]}
        for order, both in zip(alpaca.ORDERS, (first, second), strict=True)
        for place, won in enumerate(both)
    ]
    texts = {"output_1": ["b" * k for k in other], "output_2": ["a" * k for k in own]}
    rows = win_rates(verdicts, texts["output_2"], texts["output_1"], dict(learning_rate=1, seed=0))
    raw, controlled = (next(r for r in rows if r["metric"] == m) for m in alpaca.METRICS[:2])

    # The difficulty of the instructions, which it would fetch, is not in the model that is fitted.
    table = pd.DataFrame({"model": "x", "index": range(n), "instruction_difficulty": 0.0})
    table.to_csv(tmp_path / "difficulty.csv", index=False)
    monkeypatch.setattr(glm_winrate, "hf_hub_download", lambda **_: tmp_path / "difficulty.csv")
    named = {"index": range(n), "generator_1": "reference", "generator_2": "run"}
    preference = {"preference": 1 + (first + second) / 2}  # 1: the first output, 2: the second
    with sklearn.config_context():  # which it changes
        theirs = glm_winrate.get_length_controlled_winrate(
            pd.DataFrame(named | texts | preference),
            "length_controlled_minimal",
            save_weights_dir=None,
            is_add_glm_preference_inplace=False,
        )
    assert 100 * raw["value"] == pytest.approx(theirs["win_rate"], abs=1e-9)
    assert 100 * raw["stderr"] == pytest.approx(theirs["standard_error"], abs=1e-9)
    assert raw["n"] == theirs["n_total"] == n
    # Its L1 penalty shrinks the rate itself as well; ours is a prior on the slope alone.
    rate = theirs["length_controlled_winrate"] / 100
    assert abs(controlled["value"] - rate) < 0.6 * controlled["stderr"]
    if slope:
        assert abs(controlled["value"] - raw["value"]) > 2 * controlled["stderr"]  # it matters


# --- files ----------------------------------------------------------------------------------------


def test_files_hold_what_was_written(tmp_path):
    own = [f"good {n}" for n in range(10)]
    verdicts, rows = sweep(
        {FIRST_RUN: own, REFERENCE_RUN: REFERENCE}, Opinion(better("good")), tmp_path
    )
    alpaca.write_verdicts(verdicts, tmp_path / "v.parquet", {"seed": 1})
    assert measurements.read_provenance(tmp_path / "v.parquet") == {"seed": 1}
    measurements.write(list(rows.values()), tmp_path / "m.parquet", {})
    assert measurements.read(tmp_path / "m.parquet").num_rows == 18
    texts = [p["instruction"] for p in PROMPTS]
    for outputs in (own, None, [""] * 10):
        responses.write(texts, outputs, tmp_path / "r.parquet", {})
        assert responses.read(tmp_path / "r.parquet", texts) == outputs
    with pytest.raises(PipelineError, match="other prompts"):
        responses.read(tmp_path / "r.parquet", texts[::-1])

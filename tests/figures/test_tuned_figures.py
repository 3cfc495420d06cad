"""Figures of made-up scores of tuned runs, whose choices of a rate and means are known."""

import json

import numpy as np
import pandas as pd
import pytest
from configuration import targets_of
from matplotlib.colors import same_color

from overtrain.figures.drawing.scores import OTHER, TUNED_FOR
from overtrain.figures.kinds import FIGURES
from overtrain.records.measurements import SCHEMA

CHECKPOINTS = {"early": 10, "late": 1000}
RATES = [1e-5, 1e-4]
SEEDS = [0, 1, 2]
EVALUATIONS = {
    "alpaca": {"title": "AlpacaEval", "metric": "win_rate"},
    "piqa": {"title": "PIQA", "metric": "accuracy"},
    "arc": {"title": "ARC", "metric": "accuracy_norm"},
    "c4": {"title": "held-out text", "metric": "perplexity"},
}
# Win rates by half of the prompts, (checkpoint, rate) -> (even, odd). Late: the halves disagree.
WINS = {
    ("early", 1e-5): (0.4, 0.42),
    ("early", 1e-4): (0.6, 0.5),
    ("late", 1e-5): (0.7, 0.5),
    ("late", 1e-4): (0.5, 0.6),
}


def settings(**changes) -> dict:
    return {
        "models": ["m"],
        "tasks": ["hh"],
        "titles": {"m": "M", "hh": "HH"},
        "panels": [{"evaluations": ["alpaca"]}, {"evaluations": ["piqa"]}],
        "evaluations": EVALUATIONS,
        "main": "alpaca",
        "choice": "all_prompts",
        "token_axis": "linear",
        "judge": "a judge",
        "text": "C4",
    } | changes


def piqa(checkpoint: str, rate: float, seed: int) -> float:
    """0.7 early and 0.8 late, less 0.1 at the larger rate; seeds differ by 0.01."""
    return 0.7 + 0.1 * (checkpoint == "late") - 0.1 * (rate == 1e-4) + 0.01 * (seed - 1)


def made() -> pd.DataFrame:
    rows = []
    for checkpoint, tokens in CHECKPOINTS.items():
        of = {"study": "released", "model": "m", "checkpoint": checkpoint, "tokens": tokens}
        base = of | {"selection": "base", "split": "test"}
        rows += [
            base | {"evaluation": "piqa", "metric": "accuracy", "value": 0.75},
            base | {"evaluation": "piqa", "metric": "accuracy_norm", "value": 0.1},
            base | {"evaluation": "arc", "metric": "accuracy_norm", "value": 0.25},
        ]
        for rate in RATES:
            even, odd = WINS[checkpoint, rate]
            for seed in SEEDS:
                run = {"task": "hh", "learning_rate": rate, "seed": seed, "selection": "last"}
                own = of | run
                wins = {"all": (even + odd) / 2, "even": even, "odd": odd}
                judged = own | {"evaluation": "alpaca", "metric": "win_rate"}
                rows += [
                    judged | {"split": split, "value": value + 0.1 * (seed - 1)}
                    for split, value in wins.items()
                ]
                score = piqa(checkpoint, rate, seed)
                test = own | {"split": "test"}
                rows += [
                    test | {"evaluation": "piqa", "metric": "accuracy", "value": score},
                    test | {"evaluation": "arc", "metric": "accuracy_norm", "value": score / 2},
                    test | {"evaluation": "c4", "metric": "perplexity", "value": 10 / score},
                ]
    return pd.DataFrame(rows, columns=SCHEMA.names)


def means(drawn: pd.DataFrame, panel: str, selection: str = "last") -> list[float]:
    own = drawn[(drawn.panel == panel) & (drawn.selection == selection)]
    return own.sort_values("tokens")["mean"].tolist()


def test_the_rate_of_the_highest_mean_win_rate_is_shown_everywhere():
    _, drawn = FIGURES["tuned_scores_by_tokens"].draw(made(), settings())
    assert means(drawn, "alpaca") == pytest.approx([0.55, 0.6])  # 1e-4 early; 1e-5 late
    assert means(drawn, "piqa") == pytest.approx([0.6, 0.8])
    own = drawn[(drawn.panel == "piqa") & (drawn.selection == "last")]
    assert own["std"].tolist() == pytest.approx([0.01, 0.01])
    assert own.learning_rates.tolist() == ["0.0001", "1e-05"]
    assert own.seeds.tolist() == [3, 3]


def test_a_half_is_scored_at_the_rate_that_the_other_half_chooses():
    _, drawn = FIGURES["tuned_scores_by_tokens"].draw(made(), settings(choice="halves"))
    # Early both halves choose 1e-4. Late the even prompts choose 1e-5, where the odd ones win 0.5,
    # and the odd ones choose 1e-4, where the even ones win 0.5.
    assert means(drawn, "alpaca") == pytest.approx([(0.6 + 0.5) / 2, (0.5 + 0.5) / 2])
    assert means(drawn, "piqa") == pytest.approx([0.6, (0.8 + 0.7) / 2])
    late = drawn[(drawn.panel == "piqa") & (drawn.tokens == 1000) & (drawn.selection == "last")]
    assert late.learning_rates.tolist() == ["1e-05, 0.0001"]
    assert late.seeds.tolist() == [3]


def test_the_reference_run_is_in_no_win_rate_but_in_the_benchmarks():
    data = made()
    wins = data.evaluation == "alpaca"
    reference = wins & (data.checkpoint == "late") & (data.learning_rate == 1e-5) & (data.seed == 0)
    data.loc[reference, ["selection", "value"]] = ["reference", 0.5]
    _, drawn = FIGURES["tuned_scores_by_tokens"].draw(data, settings())
    late = drawn[(drawn.tokens == 1000) & (drawn.selection == "last")].set_index("panel")
    assert late.seeds["alpaca"] == 2
    assert late["mean"]["alpaca"] == pytest.approx((0.6 + 0.7) / 2)  # of seeds 1 and 2
    assert late.seeds["piqa"] == 3


def test_a_rate_with_a_diverged_run_is_not_chosen_and_ends_its_line():
    data = made()
    bad = (data.checkpoint == "late") & (data.learning_rate == 1e-5) & (data.seed == 2)
    data.loc[bad, "value"] = np.nan
    _, drawn = FIGURES["tuned_scores_by_tokens"].draw(data, settings())
    assert means(drawn, "piqa") == pytest.approx([0.6, 0.7])
    _, drawn = FIGURES["rate_scores_by_tokens"].draw(data, settings())
    line = drawn[(drawn.panel == "piqa") & (drawn.learning_rate == 1e-5)]
    assert line.sort_values("tokens")["mean"].isna().tolist() == [False, True]


def test_a_panel_of_several_is_their_mean_run_by_run():
    panels = [{"title": "both", "evaluations": ["piqa", "arc"]}]
    figure, drawn = FIGURES["tuned_scores_by_tokens"].draw(made(), settings(panels=panels))
    assert means(drawn, "piqa+arc") == pytest.approx([0.6 * 0.75, 0.8 * 0.75])
    assert means(drawn, "piqa+arc", "base") == pytest.approx([0.5, 0.5])
    own = drawn[drawn.selection == "last"]
    assert own["std"].tolist() == pytest.approx([0.0075, 0.0075])
    assert figure.axes[0].get_title() == "both"


def test_a_mean_without_one_of_its_benchmarks_is_no_number():
    data = made()
    data = data[~((data.evaluation == "arc") & (data.checkpoint == "late"))]
    panels = [{"evaluations": ["piqa", "arc"]}]
    _, drawn = FIGURES["rate_scores_by_tokens"].draw(data, settings(panels=panels))
    assert np.isnan(drawn[drawn.tokens == 1000]["mean"]).all()
    assert drawn[drawn.tokens == 10]["mean"].notna().all()


def test_all_rates_have_a_line_and_only_whole_sets_of_prompts_count():
    _, drawn = FIGURES["rate_scores_by_tokens"].draw(made(), settings())
    own = drawn[(drawn.panel == "alpaca") & (drawn.selection == "last")]
    found = own.set_index(["tokens", "learning_rate"])["mean"].to_dict()
    assert found == pytest.approx(
        {(10, 1e-5): 0.41, (10, 1e-4): 0.55, (1000, 1e-5): 0.6, (1000, 1e-4): 0.55}
    )
    assert means(drawn, "piqa", "base") == [0.75, 0.75]
    assert means(drawn, "alpaca", "base") == []  # a base model does not answer


def test_the_task_tuned_for_is_green_and_the_others_blue():
    figure, _ = FIGURES["tuned_scores_by_tokens"].draw(made(), settings())
    colours = [axis.containers[0].lines[0].get_color() for axis in figure.axes[:2]]
    assert same_color(colours[0], TUNED_FOR)
    assert same_color(colours[1], OTHER)
    assert figure.axes[0].get_title() == "AlpacaEval\njudge: a judge"
    assert [t.get_text() for t in figure.legends[0].get_texts()][-1] == "base"


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_ticks_are_the_checkpoints_names(scale):
    figure, _ = FIGURES["rate_scores_by_tokens"].draw(made(), settings(token_axis=scale))
    axis = figure.axes[0]
    assert axis.get_xscale() == scale
    assert [axis.xaxis.get_major_formatter()(t) for t in axis.get_xticks()] == ["early", "late"]


@pytest.mark.parametrize(
    ("figure", "model", "task", "tuned"),
    [
        (f"fig{11 + 6 * t + 2 * m + (not tuned)}", model, task, tuned)
        for t, task in enumerate(("anthropic_hh", "tulu"))
        for m, model in enumerate(("OLMo-1B", "OLMo-2-7B", "LLM360-Amber"))
        for tuned in (True, False)
    ],
)
def test_figures_11_to_22_are_those_of_the_papers_captions(config, figure, model, task, tuned):
    targets = targets_of(config)
    target = json.loads(targets.figure_slice("overtrained", figure))
    assert (target["models"], target["tasks"]) == ([model], [task])
    plot = "tuned_scores_by_tokens" if tuned else "rate_scores_by_tokens"
    assert target["plot"] == plot
    assert target["panels"][0]["evaluations"] == ["alpaca"]
    assert len(target["panels"]) == 9
    files = targets.measurements("overtrained", figure)
    # six checkpoints: the base's benchmarks, benchmarks and text of 21 runs; all win rates
    assert len(files) == len(set(files)) == 6 * (1 + 2 * 21) + 1
    assert all(f"/{model}/" in file for file in files)


def test_figure_1_needs_win_rates_to_choose_the_rate_and_shows_four_benchmarks(config):
    targets = targets_of(config)
    files = targets.measurements("overtrained", "fig01")
    judged = "results/measurements/OLMo-1B/anthropic_hh/instruct/alpaca.parquet"
    assert [file for file in files if file.endswith("alpaca.parquet")] == [judged]
    rows = json.loads(targets.aggregate_slice("overtrained", "fig01"))["rows"]
    four = ["arc_challenge", "arc_easy", "hellaswag", "piqa"]
    assert rows["evaluation"] == ["alpaca", *four]

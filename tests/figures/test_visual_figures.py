"""Figures of made-up scores after visual tuning, and the page with instruction tuning beside it."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from configuration import PAPERS, catalogue_of, changed, checked, targets_of
from made_up import assert_same_bytes
from matplotlib.colors import same_color

from overtrain import PipelineError
from overtrain.figures.drawing.scores import OTHER, TUNED_FOR
from overtrain.figures.kinds import FIGURES, TABLES
from overtrain.records.measurements import SCHEMA

PAPER = "overtrained"
CHECKPOINTS = {"early": 10, "late": 1000}
RATES = [1e-5, 1e-4]
SEEDS = [0, 1, 2]
# By half of the questions, (checkpoint, rate) -> (even, odd). Late: the halves disagree.
SCORES = {
    ("early", 1e-5): (0.2, 0.24),
    ("early", 1e-4): (0.4, 0.3),
    ("late", 1e-5): (0.7, 0.5),
    ("late", 1e-4): (0.5, 0.6),
}
WINS = {1e-5: 0.3, 1e-4: 0.6}  # at every checkpoint: late, it is the other rate that wins
PARTS = {"mme": -0.1, "gqa": 0.1}  # beside their mean
EVALUATIONS = {
    "alpaca": {"title": "AlpacaEval", "metric": "win_rate"},
    "vlm": {"title": "VLM score", "metric": "vlm_score"},
    "mme": {"title": "MME", "metric": "score"},
    "gqa": {"title": "GQA", "metric": "score"},
    "piqa": {"title": "PIQA", "metric": "accuracy"},
    "arc": {"title": "ARC", "metric": "accuracy_norm"},
    "c4": {"title": "held-out text", "metric": "perplexity"},
}


def panels(*names: str) -> list[dict]:
    return [{"evaluations": [name]} for name in names]


def settings(**changes) -> dict:
    return {
        "title": "A title",
        "scale": None,
        "models": ["m"],
        "tasks": ["pictures"],
        "recipe": "llava",
        "titles": {"m": "M", "n": "N", "pictures": "Pictures", "hh": "HH"},
        "panels": panels("vlm", "piqa"),
        "evaluations": EVALUATIONS,
        "main": "vlm",
        "choice": "all_prompts",
        "token_axis": "linear",
        "text": "C4",
    } | changes


def piqa(task: str, checkpoint: str, rate: float, seed: int) -> float:
    """0.7 early, 0.8 late; 0.1 less at the larger rate, 0.3 less after visual tuning."""
    less = 0.1 * (rate == 1e-4) + 0.3 * (task == "pictures")
    return 0.7 + 0.1 * (checkpoint == "late") - less + 0.01 * (seed - 1)


def made(model: str = "m", instruct: str = "instruct") -> pd.DataFrame:
    """Both tunings of a model; `instruct` is the recipe of that on conversations."""
    rows = []
    for checkpoint, tokens in CHECKPOINTS.items():
        of = {"model": model, "checkpoint": checkpoint, "tokens": tokens}
        base = of | {"study": "released", "selection": "base", "split": "test"}
        rows += [
            base | {"evaluation": "piqa", "metric": "accuracy", "value": 0.75},
            base | {"evaluation": "arc", "metric": "accuracy_norm", "value": 0.25},
        ]
        for task, rate, seed in [
            (t, r, s) for t in ("pictures", "hh") for r in RATES for s in SEEDS
        ]:
            visual = task == "pictures"
            own = {"task": task, "recipe": "llava" if visual else instruct, "selection": "last"}
            run = of | own | {"learning_rate": rate, "seed": seed}
            even, odd = SCORES[checkpoint, rate] if visual else (WINS[rate], WINS[rate])
            main = EVALUATIONS["vlm" if visual else "alpaca"]["metric"]
            for split, value in {"all": (even + odd) / 2, "even": even, "odd": odd}.items():
                score = run | {"split": split, "value": value + 0.1 * (seed - 1)}
                rows.append(score | {"evaluation": "vlm" if visual else "alpaca", "metric": main})
                for name, more in PARTS.items() if visual else ():
                    part = {"evaluation": name, "value": score["value"] + more}
                    # What figures do not show of a part is in its file, too.
                    rows += [score | part | {"metric": "score"}]
                    rows += [score | part | {"metric": "accuracy", "value": 0.99}]
            test = run | {"split": "test"}
            value = piqa(task, checkpoint, rate, seed)
            rows += [
                test | {"evaluation": "piqa", "metric": "accuracy", "value": value},
                test | {"evaluation": "arc", "metric": "accuracy_norm", "value": value / 2},
                test | {"evaluation": "c4", "metric": "perplexity", "value": 10 / value},
            ]
    return pd.DataFrame(rows, columns=SCHEMA.names)


def tuned(**changes):
    return FIGURES["tuned_scores_by_tokens"].draw(changes.pop("data", made()), settings(**changes))


def means(drawn: pd.DataFrame, panel: str, selection: str = "last", **of: str) -> list[float]:
    own = drawn[(drawn.panel == panel) & (drawn.selection == selection)]
    for column, value in of.items():
        own = own[own[column] == value]
    return own.sort_values("tokens")["mean"].tolist()


# --- the VLM score is the main one ----------------------------------------------------------------


def test_the_rate_of_the_best_mean_vlm_score_is_shown_everywhere():
    _, drawn = tuned()
    assert means(drawn, "vlm") == pytest.approx([0.35, 0.6])  # 1e-4 early; 1e-5 late
    assert means(drawn, "piqa") == pytest.approx([0.3, 0.5])
    own = drawn[(drawn.panel == "piqa") & (drawn.selection == "last")]
    assert own["std"].tolist() == pytest.approx([0.01, 0.01])
    assert own.learning_rates.tolist() == ["0.0001", "1e-05"]
    assert own.seeds.tolist() == [3, 3]
    assert means(drawn, "piqa", "base") == [0.75, 0.75]
    assert means(drawn, "vlm", "base") == []  # a base model sees no images


def test_a_half_of_the_questions_is_scored_at_the_rate_that_the_other_half_chooses():
    _, drawn = tuned(choice="halves", panels=panels("vlm", "gqa", "piqa"))
    # Early both halves choose 1e-4. Late the even questions choose 1e-5, where the odd ones score
    # 0.5, and the odd ones choose 1e-4, where the even ones score 0.5.
    expected = [(0.4 + 0.3) / 2, (0.5 + 0.5) / 2]
    assert means(drawn, "vlm") == pytest.approx(expected)
    assert means(drawn, "gqa") == pytest.approx([value + 0.1 for value in expected])
    assert means(drawn, "piqa") == pytest.approx([0.3, (0.5 + 0.4) / 2])
    late = drawn[(drawn.panel == "piqa") & (drawn.tokens == 1000) & (drawn.selection == "last")]
    assert late.learning_rates.tolist() == ["1e-05, 0.0001"]
    assert late.seeds.tolist() == [3]


def test_a_rate_with_a_diverged_run_is_not_chosen_and_ends_its_line():
    data = made()
    bad = (data.checkpoint == "late") & (data.learning_rate == 1e-5) & (data.seed == 2)
    data.loc[bad, "value"] = np.nan
    _, drawn = tuned(data=data)
    assert means(drawn, "vlm") == pytest.approx([0.35, 0.55])
    assert means(drawn, "piqa") == pytest.approx([0.3, 0.4])
    _, drawn = FIGURES["rate_scores_by_tokens"].draw(data, settings())
    line = drawn[(drawn.panel == "vlm") & (drawn.learning_rate == 1e-5)]
    assert line.sort_values("tokens")["mean"].isna().tolist() == [False, True]


def test_all_rates_have_a_line_of_all_questions():
    _, drawn = FIGURES["rate_scores_by_tokens"].draw(made(), settings())
    own = drawn[(drawn.panel == "vlm") & (drawn.selection == "last")]
    found = own.set_index(["tokens", "learning_rate"])["mean"].to_dict()
    assert found == pytest.approx(
        {(10, 1e-5): 0.22, (10, 1e-4): 0.35, (1000, 1e-5): 0.6, (1000, 1e-4): 0.55}
    )
    assert own["std"].tolist() == pytest.approx([0.1] * 4)


def test_the_main_score_and_its_parts_are_green_and_the_others_blue():
    figure, drawn = tuned(panels=panels("vlm", "mme", "gqa", "piqa"))
    colours = [axis.containers[0].lines[0].get_color() for axis in figure.axes[:4]]
    assert all(same_color(colour, TUNED_FOR) for colour in colours[:3])
    assert same_color(colours[3], OTHER)
    assert [axis.get_title() for axis in figure.axes[:4]] == ["VLM score", "MME", "GQA", "PIQA"]
    assert [axis.get_ylabel() for axis in figure.axes[:4]] == ["score (%)"] * 3 + ["accuracy (%)"]
    assert means(drawn, "mme") == pytest.approx([0.25, 0.5])  # its score, not its accuracy
    texts = [text.get_text().split("\n")[0] for text in figure.legends[0].get_texts()]
    assert texts == ["fine-tuned,", "fine-tuned, other tasks", "base"]


def test_a_figure_without_a_base_has_none_in_its_legend():
    figure, drawn = tuned(panels=panels("vlm", "mme"))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["fine-tuned"]
    assert set(drawn.selection) == {"last"}


def test_models_have_a_row_each_and_their_name_a_line_of_its_own():
    data = pd.concat([made(), made("n")])
    figure, _ = tuned(data=data, models=["m", "n"])
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["M,\nVLM score", "M,\nPIQA", "N,\nVLM score", "N,\nPIQA"]
    labels = [bool(axis.get_xlabel()) for axis in figure.axes]
    assert labels == [False, False, True, True]


# --- both tunings on one page ---------------------------------------------------------------------

LEFT = settings(title="HH", tasks=["hh"], recipe="instruct", main="alpaca", judge="a judge") | {
    "panels": panels("alpaca", "piqa", "arc", "c4")
}
RIGHT = settings(title="Pictures", panels=panels("vlm", "piqa", "arc"))
BOTH = settings(plot="tuned_scores_in_parts", parts=[LEFT, RIGHT])


def test_each_part_has_its_own_main_score_and_rates():
    _, drawn = FIGURES["tuned_scores_in_parts"].draw(made(), BOTH)
    assert means(drawn, "alpaca") == pytest.approx([0.6, 0.6])
    assert means(drawn, "piqa", task="hh") == pytest.approx([0.6, 0.7])  # at 1e-4
    assert means(drawn, "vlm") == pytest.approx([0.35, 0.6])
    assert means(drawn, "piqa", task="pictures") == pytest.approx([0.3, 0.5])
    assert means(drawn, "piqa", "base", task="hh") == [0.75, 0.75]
    assert means(drawn, "piqa", "base", task="pictures") == [0.75, 0.75]
    assert Counter(zip(drawn.recipe, drawn.panel, strict=True)) == {
        ("instruct", "alpaca"): 2,
        ("instruct", "piqa"): 4,
        ("instruct", "arc"): 4,
        ("instruct", "c4"): 2,
        ("llava", "vlm"): 2,
        ("llava", "piqa"): 4,
        ("llava", "arc"): 4,
    }


def test_parts_stand_side_by_side_under_their_headings_in_aligned_rows():
    figure, _ = FIGURES["tuned_scores_in_parts"].draw(made(), BOTH)
    figure.draw_without_rendering()
    left, heading, right = figure.axes[:4], figure.axes[4], figure.axes[5:8]
    titles = [axis.get_title() for axis in figure.axes]
    judged = "AlpacaEval\njudge: a judge"
    assert titles[:5] == [judged, "PIQA", "ARC", "held-out text", "HH"]
    assert titles[5:] == ["VLM score", "PIQA", "ARC", "Pictures"]
    first, second, third, _ = (axis.get_position() for axis in left)
    assert first.x0 == pytest.approx(third.x0) and third.y1 < first.y0  # four are two lines
    assert first.y0 == second.y0 and first.x1 < second.x0
    beside = right[0].get_position()
    assert (first.y0, first.y1) == pytest.approx((beside.y0, beside.y1))
    above = heading.get_position()
    assert above.y0 > first.y1 and above.x1 < beside.x0
    assert [bool(axis.get_xlabel()) for axis in (*left, *right)] == [False] * 2 + [True] * 5
    greens = [
        axis.get_title()
        for axis in figure.axes
        if axis.containers and same_color(axis.containers[0].lines[0].get_color(), TUNED_FOR)
    ]
    assert greens == [judged, "VLM score"] and len(figure.legends) == 1
    dashed = [
        any(line.get_linestyle() == "--" for line in axis.lines) for axis in (left[1], right[1])
    ]
    assert dashed == [True, True]


def test_parts_of_one_task_by_two_recipes_do_not_mix():
    other = made(instruct="lora")
    other = other[(other.recipe == "lora")]
    other = other.assign(value=other.value - 0.2)
    data = pd.concat([made(), other])
    parts = [LEFT, LEFT | {"recipe": "lora"}]
    _, drawn = FIGURES["tuned_scores_in_parts"].draw(data, BOTH | {"parts": parts})
    assert means(drawn, "alpaca", recipe="instruct") == pytest.approx([0.6, 0.6])
    assert means(drawn, "alpaca", recipe="lora") == pytest.approx([0.4, 0.4])
    assert means(drawn, "piqa", recipe="lora") == pytest.approx([0.4, 0.5])


def test_the_same_numbers_give_the_same_bytes(tmp_path):
    assert_same_bytes(made().to_dict("records"), BOTH, tmp_path)


# --- what they are made of ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figure", "model", "plot"),
    [
        (f"fig{23 + 2 * m + rates}", model, plot)
        for m, model in enumerate(("OLMo-1B", "OLMo-2-7B", "LLM360-Amber"))
        for rates, plot in enumerate(("tuned_scores_by_tokens", "rate_scores_by_tokens"))
    ],
)
def test_figures_23_to_28_are_those_of_the_papers_captions(config, figure, model, plot):
    targets = targets_of(config)
    target = json.loads(targets.figure_slice(PAPER, figure))
    assert (target["models"], target["tasks"]) == ([model], ["llava_instructions"])
    assert (target["plot"], target["main"], target["recipe"]) == (plot, "vlm", "llava")
    assert target["panels"][0]["evaluations"] == ["vlm"] and len(target["panels"]) == 9
    assert not {"judge", "reference"} & target.keys()
    files = targets.measurements(PAPER, figure)
    # six checkpoints: the base's benchmarks; images, benchmarks and text of 15 runs
    assert len(files) == len(set(files)) == 6 * (1 + 3 * 15)
    assert Counter(file.rpartition("/")[2] for file in files) == {
        "benchmarks.parquet": 6 * 16,
        "vision.parquet": 6 * 15,
        "c4.parquet": 6 * 15,
    }
    assert all(f"/{model}/" in file for file in files)


@pytest.mark.parametrize(
    ("figure", "evaluations"),
    [("vision_c4", {"c4"}), ("vision_parts", {"vision", "c4"}), ("fig23_halves", None)],
)
def test_a_figure_asks_for_what_it_shows_and_for_the_last_link(config, figure, evaluations):
    files = targets_of(config).measurements(PAPER, figure)
    found = {file.rpartition("/")[2].removesuffix(".parquet") for file in files}
    assert found == (evaluations or {"vision", "benchmarks", "c4"})
    if figure == "vision_c4":
        assert len(files) == 18 * (1 + 15)  # with the base's


def test_the_page_of_both_is_made_of_both_and_of_their_base_once(config):
    targets = targets_of(config)
    files = targets.measurements(PAPER, "fig02")
    assert len(files) == len(set(files)) == 6 * (1 + 2 * 21 + 3 * 15) + 1
    only = json.loads(targets.aggregate_slice(PAPER, "fig02"))["rows"]
    four = ["arc_challenge", "arc_easy", "hellaswag", "piqa"]
    assert only["evaluation"] == ["alpaca", *four, "vlm", "winogrande"]
    assert {"win_rate", "vlm_score", "accuracy"} <= set(only["metric"])
    left, right = json.loads(targets.figure_slice(PAPER, "fig02"))["parts"]
    assert (left["title"], right["title"]) == ("Anthropic-HH", "LLaVA instructions")
    assert left["judge"] == "Llama-3-70B" and "judge" not in right
    assert right["evaluations"]["vlm"] == {"title": "VLM score", "metric": "vlm_score"}


def test_metrics_of_images_are_in_no_aggregate_of_instruction_tuning(config):
    targets = targets_of(config)
    metrics = json.loads(targets.aggregate_slice(PAPER, "fig11"))["rows"]["metric"]
    wins = ["length_controlled_win_rate", "perplexity", "win_rate"]
    assert metrics == ["accuracy", "accuracy_norm", *wins]
    metrics = json.loads(targets.aggregate_slice(PAPER, "fig23"))["rows"]["metric"]
    assert metrics == ["accuracy", "accuracy_norm", "perplexity", "score", "vlm_score"]


CHANGES = {
    "judges/llama3_70b/title": "J",
    "evaluations/alpaca/reference/seed": 1,
    "vision_suites/llava_five/benchmarks/mme/title": "M",
    "benchmark_suites/generalist/tasks/boolq/title": "B",
    "tasks/llava_instructions/title": "L",
}


@pytest.mark.parametrize(("key", "value"), CHANGES.items())
def test_a_figure_depends_on_its_own_slice_only(key, value):
    figures = ("fig02", "fig11", "fig23", "vision_parts")
    redrawn = {
        figure
        for figure in figures
        if len({targets_of(c).figure_slice(PAPER, figure) for c in (PAPERS, changed(key, value))})
        == 2
    }
    expected = {
        "judges": {"fig02", "fig11"},
        "evaluations": {"fig02", "fig11"},
        "vision_suites": {"vision_parts"},
        "benchmark_suites": {"fig11", "fig23"},
        "tasks": {"fig02", "fig23", "vision_parts"},
    }
    assert redrawn == expected[key.partition("/")[0]]


def test_the_hub_is_asked_for_the_encoder_captions_and_benchmarks_of_images(config):
    targets = targets_of(config)
    found = set(targets.target(PAPER, "fig23").sources(targets.catalogue))
    assert {
        ("encoders", "clip_l14_336"),
        ("tasks", "llava_captions"),
        ("tasks", "llava_instructions"),
        ("vision_suites", "llava_five"),
        ("benchmark_suites", "generalist"),
    } <= found
    assert not {section for section, _ in found} & {"judges", "prompts"}
    both = set(targets.target(PAPER, "fig02").sources(targets.catalogue))
    assert found & both == found and ("judges", "llama3_70b") in both


def test_a_benchmark_of_both_suites_is_one_line(config):
    config["vision_suites"]["llava_five"]["benchmarks"]["piqa"] = config["vision_suites"][
        "llava_five"
    ]["benchmarks"]["pope"]
    line = (
        r"^vision_suites.llava_five.benchmarks has 'piqa', which is a benchmark of generalist, too"
    )
    with pytest.raises(PipelineError, match=line):
        checked(config)


# --- tables ---------------------------------------------------------------------------------------


def table(name: str, config: dict = PAPERS) -> pd.DataFrame:
    settings = json.loads(targets_of(config).table_slice(PAPER, name))
    return TABLES[settings["content"]].tabulate(None, settings)


# Table 2 of the paper.
STAGES = {
    "Batch size (conversations)": (256, 256),
    "Learning rates": ("0.001", "8e-06, 1e-05, 2e-05, 4e-05, 0.0001"),
    "Scheduler": ("cosine", "cosine"),
    "Warm-up steps": (50, 40),
    "Optimizer": ("AdamW", "AdamW"),
    "Weight decay": (0.0, 0.0),
    "Epochs": (1, 1),
    "What is tuned": ("projector", "language model and projector"),
    "Vision encoder, frozen": ("CLIP-L/14, 336 pixels", "CLIP-L/14, 336 pixels"),
    "Seeds": (1, 3),
}


def test_the_settings_of_both_stages_stand_beside_instruction_tuning():
    found = table("table2")
    stages = ["LLaVA captions, stage 1", "LLaVA instructions, stage 2"]
    assert list(found.columns) == ["Anthropic-HH", "Alpaca", "TULU", *stages]
    assert {row: tuple(found.loc[row, stages]) for row in STAGES} == STAGES
    rates = "1e-06, 5e-06, 1e-05, 5e-05, 8e-05, 0.0001, 0.0002"
    assert found.TULU[["Learning rates", "Warm-up steps", "Seeds"]].tolist() == [rates, 20, 3]
    assert found.TULU[["What is tuned", "Vision encoder, frozen"]].tolist() == [
        "all weights",
        "none",
    ]


@pytest.mark.parametrize(
    ("key", "value", "row", "cells"),
    [
        ("alignment/seeds", "each", "Seeds", [3, 3]),
        ("alignment/warmup_steps", 7, "Warm-up steps", [7, 40]),
        ("warmup_steps", 7, "Warm-up steps", [50, 7]),
        ("encoder", "digits", "Vision encoder, frozen", ["small encoder of digits"] * 2),
    ],
)
def test_a_column_follows_its_stage(key, value, row, cells):
    config = changed(f"visual_recipes/llava/{key}", value)
    assert table("table2", config).loc[row].tolist()[-2:] == cells


def test_the_index_has_a_row_of_visual_tuning():
    found = table("table5")
    assert list(found.index) == ["Anthropic-HH", "TULU", "Alpaca", "VLM (LLaVA)"]
    assert found.loc["VLM (LLaVA)"].tolist() == [f"Figure {n}" for n in range(23, 29)]
    assert found.loc["TULU"].tolist() == [f"Figure {n}" for n in range(17, 23)]


def test_runs_of_both_kinds_of_recipes_are_known(config):
    catalogue = catalogue_of(config)
    assert len(catalogue.runs("llava")) == 15 and len(catalogue.runs("instruct")) == 21

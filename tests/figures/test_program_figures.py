"""Figures of docstrings in programs: which rate is marked, gaps, files, faults."""

import json
import re
from itertools import product

import numpy as np
import pandas as pd
import pytest
from configuration import changed, checked, targets_of
from made_up import frame
from matplotlib.colors import same_color

from overtrain import PipelineError
from overtrain.figures import plots
from overtrain.figures.drawing.programs import dashes, rate_text
from overtrain.figures.kinds import FIGURES
from overtrain.figures.kinds.schematic_adaptability import (
    SchematicAdaptability,
    losses,
    turning_point,
)

PAPER = "adaptability"
CHECKPOINTS = {"early": 10, "late": 1000}
TASKS = {"with": "With docstrings", "without": "Without docstrings"}
RATES, SEEDS, STEPS = (1e-6, 1e-5, 1e-4), (0, 1), {12: 0.1, 62: 0.5, 125: 1.0}
# Mean validation loss by rate, and the share of docstrings after training without them.
LOSS = {"early": (0.4, 0.35, 0.3), "late": (0.4, 0.3, 0.35)}
SHARE = {"early": (0.9, 0.5, 0.1), "late": (1.0, 0.8, 0.3)}
KINDS = [kind for kind in FIGURES if kind.startswith("docstrings_by")]


def made(models: tuple[str, ...] = ("m",), names: tuple[str, ...] = ("early", "late")) -> list:
    """Rows of all runs; seeds differ by 0.02 around the mean."""
    rows = []
    for model, name, task in product(models, names, TASKS):
        of = {"study": "docstrings", "model": model, "checkpoint": name, "task": task}
        of |= {"tokens": CHECKPOINTS[name], "recipe": "programs"}
        base = of | {"selection": "base"}
        rows += score(base, 0.95, 0.9)
        for (i, rate), seed in product(enumerate(RATES), SEEDS):
            shift = 0.02 * seed - 0.01
            end = SHARE[name][i] if task == "without" else 0.95
            for step, done in STEPS.items():
                selection = "last" if done == 1 else "snapshot"
                run = {"learning_rate": rate, "seed": seed, "selection": selection, "step": step}
                share = 0.95 + done * (end - 0.95)
                # snapshots would choose the smallest rate
                loss = LOSS[name][i] if done == 1 else 0.1 + 0.1 * i
                rows += score(of | run, share + shift, loss + shift)
    return rows


def score(where: dict, share: float, loss: float) -> list[dict]:
    programs = where | {"evaluation": "programs", "split": "test"}
    return [
        programs | {"metric": "docstring_share", "value": share},
        where | {"evaluation": "id", "split": "validation", "metric": "loss", "value": loss},
    ]


def diverged(rows: list[dict], lost: dict) -> list[dict]:
    """Rows if those runs have diverged: without weights there is no snapshot, and no step."""
    found = []
    for row in rows:
        if row["selection"] == "base" or not lost.items() <= row.items():
            found.append(row)
        elif row["selection"] == "last":
            found.append(row | {"value": np.nan, "step": None})
    return found


def settings(plot: str, **more: object) -> dict:
    titles = {"m": "Model", "n": "Other model"} | TASKS
    own = {"plot": plot, "title": "A title", "scale": "demo scale", "titles": titles}
    own |= {"models": ["m"], "tasks": [*TASKS], "token_axis": "linear"}
    return own | more


def drawn(plot: str, rows: list[dict], **more: object) -> pd.DataFrame:
    return FIGURES[plot].draw(frame(rows), settings(plot, **more))[1]


def rates_of(table: pd.DataFrame) -> dict[tuple, set]:
    """The chosen rates, by checkpoint and task."""
    return {
        key: set(own.learning_rate)
        for key, own in table[table.chosen].groupby(["checkpoint", "task"])
    }


@pytest.mark.parametrize("plot", KINDS)
def test_every_kind_draws_its_files(plot, tmp_path):
    rows = made(("m", "n"))
    plots.draw(frame(rows), settings(plot, models=["m", "n"]), tmp_path / "figure.pdf")
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")
    table = pd.read_csv(tmp_path / "figure.csv")
    assert set(table.model) == {"m", "n"} and set(table.task) == set(TASKS)
    assert table["mean"].notna().all()


@pytest.mark.parametrize("plot", KINDS)
def test_the_rate_of_the_lowest_mean_loss_at_the_end_is_marked(plot):
    found = rates_of(drawn(plot, made()))
    assert found == {
        (name, task): {RATES[np.argmin(LOSS[name])]} for name in LOSS for task in TASKS
    }


def test_the_ring_stands_in_both_rows_at_the_chosen_rate():
    figure, _ = FIGURES["docstrings_by_rate"].draw(frame(made()), settings("docstrings_by_rate"))
    for axis, values in zip(figure.axes[:4], (SHARE, SHARE, LOSS, LOSS), strict=True):
        name = "late" if axis.get_subplotspec().colspan.start else "early"
        place = int(np.argmin(LOSS[name]))
        rings = [line for line in axis.lines if line.get_markersize() > 8]
        at = sorted((float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in rings)
        assert len(at) == 2 and {x for x, _ in at} == {RATES[place]}
        assert at[0][1] == pytest.approx(values[name][place])
        assert axis.get_xscale() == "log"


def test_means_and_deviations_are_those_over_seeds():
    table = drawn("docstrings_by_rate", made())
    own = table[(table.metric == "docstring_share") & (table.selection == "last")]
    own = own[(own.checkpoint == "late") & (own.task == "without")].sort_values("learning_rate")
    assert own["mean"].tolist() == pytest.approx(SHARE["late"])
    assert own["std"].tolist() == pytest.approx([0.02 / 2**0.5] * 3)
    base = table[table.selection == "base"]
    assert base["mean"].tolist() == pytest.approx([0.95] * 4)
    assert set(base.metric) == {"docstring_share"}


@pytest.mark.parametrize("plot", KINDS)
def test_a_diverged_run_is_a_gap_and_its_rate_is_not_chosen(plot):
    lost = {"checkpoint": "late", "task": "without", "learning_rate": 1e-5, "seed": 1}
    rows = diverged(made(), lost)
    table = drawn(plot, rows)
    own = (table.checkpoint == "late") & (table.task == "without")
    assert rates_of(table)["late", "without"] == {1e-4}
    runs = table[own & (table.learning_rate == 1e-5)]
    runs = runs[runs.step > 0] if "step" in runs else runs
    assert len(runs) and runs["mean"].isna().all()
    assert table[~own]["mean"].notna().all()


@pytest.mark.parametrize("plot", KINDS)
def test_if_all_runs_diverged_none_is_marked(plot):
    assert rates_of(drawn(plot, diverged(made(), {}))) == {}


def test_steps_begin_at_the_base_and_the_chosen_line_is_thicker():
    plot = "docstrings_by_step"
    figure, table = FIGURES[plot].draw(frame(made(names=("late",))), settings(plot))
    own = table[(table.task == "without") & (table.learning_rate == 1e-4)].sort_values("step")
    assert own.step.tolist() == [0, *STEPS]
    assert own["mean"].tolist() == pytest.approx([0.95, 0.885, 0.625, 0.3])
    assert [axis.get_title() for axis in figure.axes] == [*TASKS.values()]
    widths = [container.lines[0].get_linewidth() for container in figure.axes[1].containers]
    assert widths == [1.0, 3.0, 1.0]


def test_the_black_line_joins_the_chosen_rates_of_the_checkpoints():
    plot = "docstrings_by_tokens"
    figure, _ = FIGURES[plot].draw(frame(made()), settings(plot, tasks=["without"]))
    axis = figure.axes[0]
    black = [line for line in axis.lines if same_color(line.get_color(), "black")]
    best, base = black
    assert [*best.get_xdata()] == [*CHECKPOINTS.values()]
    assert [*best.get_ydata()] == pytest.approx([SHARE["early"][2], SHARE["late"][1]])
    assert base.get_linestyle() == "--" and [*base.get_ydata()] == pytest.approx([0.95] * 2)
    assert [axis.xaxis.get_major_formatter()(t) for t in axis.get_xticks()] == [*CHECKPOINTS]


def test_dashes_of_equal_bases_and_rates_can_be_read():
    assert dashes(0, 2) == (0, (3, 3)) and dashes(1, 2) == (3, (3, 3))
    assert [rate_text(r) for r in (1e-6, 3e-5, 2.5e-4, 0.1)] == ["1e-6", "3e-5", "2.5e-4", "1e-1"]


# --- what they ask for ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figure", "model", "tasks"),
    [
        ("docstrings_by_rate", "Gemma-2B", ["tinygsm", "tinygsm_bare"]),
        ("docstrings_by_step", "Gemma-2B", ["tinygsm", "tinygsm_bare"]),
        ("docstrings_by_tokens", "OLMo-1B", ["tinygsm_bare"]),
    ],
)
def test_a_figure_asks_for_the_base_and_the_whole_chain_of_each_run(config, figure, model, tasks):
    targets = targets_of(config)
    runs = targets.catalogue.runs("programs")
    assert len(runs) == 15
    wanted = []
    for checkpoint, task in product(config["models"][model]["hub"]["checkpoints"], tasks):
        folder = f"results/measurements/{model}/{checkpoint}/{task}/programs"
        wanted.append(f"{folder}/programs.parquet")
        wanted += [f"{folder}/{run}/{e}.parquet" for run in runs for e in ("programs", "c4")]
    assert sorted(targets.measurements(PAPER, figure)) == sorted(wanted)
    rows = json.loads(targets.aggregate_slice(PAPER, figure))["rows"]
    assert rows["evaluation"] == ["id", "programs"] and rows["metric"] == [
        "docstring_share",
        "loss",
    ]
    assert ("snapshot" in rows["selection"]) == (figure == "docstrings_by_step")
    named = set(targets.target(PAPER, figure).sources(targets.catalogue))
    corpus = config["models"][model]["corpus"]
    assert named == {("models", model), ("corpora", corpus), *(("tasks", t) for t in tasks)}


@pytest.mark.parametrize(("checkpoints", "shown"), [("all", 6), ("last", 1)])
def test_a_figure_is_of_all_checkpoints_or_of_the_last(config, checkpoints, shown):
    own = config["figures"][PAPER]["docstrings_by_rate"]
    config["figures"][PAPER]["docstrings_by_rate"] = own | {"models": ["OLMo-1B"]}
    config["figures"][PAPER]["docstrings_by_rate"]["checkpoints"] = checkpoints
    files = targets_of(config).measurements(PAPER, "docstrings_by_rate")
    found = {file.split("/")[3] for file in files}
    assert len(found) == shown and "3.1T" in found


def test_figures_of_the_blog_are_asked_for_by_its_name(config):
    aliases = targets_of(config).aliases()
    for name in ("fig02", "fig03", "fig05", "fig06"):
        assert aliases[f"adaptability_{name}"] == [f"results/figures/overtrained/{name}.pdf"]
    own = ["fig04", "docstrings_by_rate", "docstrings_by_step", "docstrings_by_tokens"]
    for name in own:
        assert aliases[f"adaptability_{name}"] == [f"results/figures/adaptability/{name}.pdf"]
    assert len(aliases["adaptability_figures"]) == len(own)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("recipe", "instruct", r"recipe is 'instruct', a recipe of the study released; this kind "),
        ("recipe", "default", r"recipe is 'default', not in instruction_recipes; "),
        ("models", "habits", r"models is 'habits', not in model_sets; "),
        ("models", ["OLMo-30M"], r"models names OLMo-30M, which has no `hub`"),
        ("tasks", ["gsm8k"], r"tasks names gsm8k, of kind .*; this one shows only tasks of kind "),
        ("tasks", ["mnli"], r"tasks names mnli, whose answers are no programs"),
    ],
)
def test_a_fault_is_said_with_its_key(key, value, text):
    where = f"figures/{PAPER}/docstrings_by_rate"
    with pytest.raises(PipelineError) as error:
        checked(changed(f"{where}/{key}", value))
    message = str(error.value)
    assert message.startswith(where.replace("/", ".")) and re.search(text, message), message
    assert "\n" not in message


# --- the schematic --------------------------------------------------------------------------------


def test_the_schematics_parts_and_where_their_sum_turns(config):
    own = config["figures"][PAPER]["fig04"]
    formula, end = own["formula"], own["largest_tokens"]
    _, table = SchematicAdaptability.draw(None, own)
    turns = []
    for size in own["perturbations"]:
        line = {
            q: t.loss.to_numpy() for q, t in table[table.perturbation == size].groupby("quantity")
        }
        base = table[table.quantity == "base"].loss.to_numpy()
        assert (np.diff(base) < 0).all() and (np.diff(base, 2) > 0).all()
        assert (np.diff(line["sensitivity"]) > 0).all()
        assert (np.diff(line["sensitivity"], 2) > 0).all()
        assert line["perturbed"] == pytest.approx(base + line["sensitivity"])
        turn = turning_point(size, formula)
        near = losses(turn * np.array([0.99, 1, 1.01]), size, formula)["perturbed"]
        assert near.argmin() == 1 and 1 < turn < 0.8 * end
        turns.append(turn)
    assert own["perturbations"] == sorted(own["perturbations"])
    assert turns == sorted(turns, reverse=True)  # the smaller, the later


def test_the_schematic_is_written_without_data_or_scale(config, tmp_path):
    config["scale"] = "demo scale"
    targets = targets_of(config)
    assert targets.figure_aggregate(PAPER, "fig04") == []
    printed = json.loads(targets.figure_slice(PAPER, "fig04"))
    assert printed["scale"] is None
    plots.draw(None, printed, tmp_path / "figure.pdf")
    assert set(pd.read_csv(tmp_path / "figure.csv").quantity) == {
        "base",
        "sensitivity",
        "perturbed",
    }

"""Figures of "Amuro & Char": few-shot scores by checkpoint, released and ours."""

import math
from itertools import product

import numpy as np
import pytest
from made_up import assert_same_bytes, settings, shown, written
from pandas.testing import assert_frame_equal

from overtrain import PipelineError

CHECKPOINTS = ["step1000", "step18000", "main"]
PRINTED = {
    "checkpoints": CHECKPOINTS,
    "evaluations": {
        "quiz": {"title": "Quiz", "metric": "accuracy"},
        "summary": {"title": "Summary", "metric": "rouge_l"},
        "other": {"title": "Other", "metric": "accuracy"},
    },
    "trained_on": {"texts": "Texts", "labels": "Labels"},
}


def scores(
    evaluation: str, task: str | None, values: list[float | None], **more: object
) -> list[dict]:
    """Rows of a fine-tuned model or the base (task None); errors 0.01, 0.02, 0.03."""
    where = {"source": "published", "model": "m", "task": task, "evaluation": evaluation}
    where |= {"selection": "last" if task else "base", "shots": 4, "prompt": "default"}
    where["metric"] = PRINTED["evaluations"][evaluation]["metric"]
    return [
        where | {"checkpoint": checkpoint, "value": value, "stderr": 0.01 * (i + 1)} | more
        for i, (checkpoint, value) in enumerate(zip(CHECKPOINTS, values, strict=True))
        if value is not None
    ]


def without(rows: list[dict], **values: str) -> list[dict]:
    return [row for row in rows if not values.items() <= row.items()]


def ours(rows: list[dict]) -> list[dict]:
    """The same rows as of ours, every score half as large and without an error."""
    return [r | {"source": "ours", "value": r["value"] / 2, "stderr": math.nan} for r in rows]


SCORES = [
    *scores("quiz", None, [0.25, 0.5, 0.5]),
    *scores("quiz", "labels", [0.5, 0.75, 1.0]),
    *scores("quiz", "texts", [0.25, 0.25, 0.75]),
    *scores("summary", None, [0.125, 0.25, 0.25]),
    *scores("summary", "labels", [0.0, 0.125, 0.0]),
    *scores("other", None, [0.5, 0.5, 0.5]),
]
QUIZ = {"task": "labels", "evaluation": "quiz"}
SUMMARY = {"task": "labels", "evaluation": "summary"}
STUDY = {
    "base_by_checkpoint": PRINTED
    | {
        "groups": [
            {"title": "(a)", "cells": [{"task": None, "evaluation": e} for e in ("quiz", "other")]},
            {"title": "(b)", "cells": [{"task": None, "evaluation": "summary"}]},
        ]
    },
    "scores_by_checkpoint": PRINTED | {"cells": [QUIZ, SUMMARY], "prompts": ["default"]},
    "gains_by_checkpoint": PRINTED
    | {
        "groups": [
            {"title": "both", "cells": [QUIZ, SUMMARY, QUIZ]},
            {"title": "one", "cells": [QUIZ]},
        ]
    },
    "changes_by_evaluation": PRINTED | {"cells": [QUIZ, SUMMARY]},
}


def study_figure(plot: str, rows: list[dict] = SCORES, **more: object):
    return shown(rows, plot, **STUDY[plot] | more)


def heights(container) -> list[float | None]:
    """Of the points of a line with error bars; None where there is none."""
    return [None if math.isnan(y) else y for y in container[0].get_ydata()]


def errors(container) -> dict[float, float]:
    """Half the length of each error bar by its place."""
    found = [np.array(s) for s in container[2][0].get_segments()]
    return {s[0, 0]: np.ptp(s[:, 1]) / 2 for s in found if len(s) and np.isfinite(s).all()}


def texts(labels: list) -> list[str]:
    return [label.get_text() for label in labels]


@pytest.mark.parametrize("plot", STUDY)
def test_the_csv_of_a_studys_figure_holds_what_is_drawn(plot, tmp_path):
    table = written(tmp_path, SCORES, plot=plot, **STUDY[plot])
    _, expected = study_figure(plot)
    assert_frame_equal(table, expected.reset_index(drop=True), check_dtype=False)
    assert not table.empty


def test_the_same_scores_give_the_same_bytes(tmp_path):
    plot = "gains_by_checkpoint"
    assert_same_bytes([*SCORES, *ours(SCORES)], settings(plot, **STUDY[plot]), tmp_path)


def test_base_scores_are_a_panel_for_each_group_and_a_line_for_each_evaluation():
    figure, table = study_figure("base_by_checkpoint")
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == ("(a)", "(b)")
    assert [heights(line) for line in left.containers] == [[0.25, 0.5, 0.5], [0.5, 0.5, 0.5]]
    assert [heights(line) for line in right.containers] == [[0.125, 0.25, 0.25]]
    assert texts(left.get_legend().get_texts()) == ["Quiz", "Other"]
    assert texts(right.get_legend().get_texts()) == ["Summary"]
    assert len({line[0].get_color() for line in left.containers}) == 2
    for line in (*left.containers, *right.containers):
        assert errors(line) == pytest.approx({0: 0.01, 1: 0.02, 2: 0.03})
    assert table.group.tolist() == ["(a)"] * 6 + ["(b)"] * 3
    assert table.value.tolist() == [0.25, 0.5, 0.5, 0.5, 0.5, 0.5, 0.125, 0.25, 0.25]
    assert set(table.selection) == {"base"}


def test_fine_tuned_scores_stand_over_the_dashed_base():
    figure, table = study_figure("scores_by_checkpoint")
    quiz, summary = figure.axes
    assert texts([quiz.title, summary.title]) == ["Labels → Quiz", "Labels → Summary"]
    assert (quiz.get_ylabel(), summary.get_ylabel()) == ("accuracy", "ROUGE-L")
    expected = {quiz: ([0.25, 0.5, 0.5], [0.5, 0.75, 1.0])}  # not that tuned on Texts
    expected[summary] = ([0.125, 0.25, 0.25], [0.0, 0.125, 0.0])
    for axis, pair in expected.items():
        assert [heights(line) for line in axis.containers] == list(pair)
        assert [line[0].get_linestyle() for line in axis.containers] == ["--", "-"]
        for line in axis.containers:
            assert errors(line) == pytest.approx({0: 0.01, 1: 0.02, 2: 0.03})
        assert axis.get_xlabel() == "pre-training steps"
        assert texts(axis.get_xticklabels()) == ["1K", "18K", "main"]
    legend = {entry.get_label(): entry for entry in figure.legends[0].get_lines()}
    styles = {label: line.get_linestyle() for label, line in legend.items()}
    assert [*styles.items()] == [("fine-tuned", "-"), ("base", "--")]
    base, tuned = (line[0].get_color() for line in quiz.containers)
    assert (legend["base"].get_color(), legend["fine-tuned"].get_color()) == (base, tuned)
    assert base != tuned
    assert len(table) == 12 and table[table.selection == "last"].task.eq("labels").all()


@pytest.mark.parametrize("plot", ["base_by_checkpoint", "scores_by_checkpoint"])
def test_a_missing_checkpoint_is_a_gap_and_an_unknown_error_has_no_bar(plot):
    unknown = [r | {"stderr": math.nan} if r["checkpoint"] == "main" else r for r in SCORES]
    figure, table = study_figure(plot, without(unknown, evaluation="quiz", checkpoint="step18000"))
    for line in figure.axes[0].containers[:1]:
        assert heights(line) == [0.25, None, 0.5]
        assert errors(line) == pytest.approx({0: 0.01, 2: 0.0})
    assert texts(figure.axes[0].get_xticklabels()) == ["1K", "18K", "main"]
    assert "step18000" not in set(table[table.evaluation == "quiz"].checkpoint)


def test_rows_stand_in_the_order_of_the_checkpoints_whatever_their_own():
    figure, _ = study_figure("scores_by_checkpoint", SCORES[::-1])
    found = [heights(line) for line in figure.axes[0].containers]
    assert found == [[0.25, 0.5, 0.5], [0.5, 0.75, 1.0]]


def test_task_formats_have_a_colour_each_and_their_own_base():
    prompts = ["default", "instruction", "input_output"]
    rows = [
        r | {"prompt": prompt, "value": r["value"] / (i + 1)}
        for i, prompt in enumerate(prompts)
        for r in SCORES
    ]
    figure, table = study_figure("scores_by_checkpoint", rows, prompts=prompts, cells=[QUIZ])
    lines = figure.axes[0].containers
    pairs = product((1, 2, 3), ([0.25, 0.5, 0.5], [0.5, 0.75, 1]))
    assert [heights(line) for line in lines] == [[v / by for v in values] for by, values in pairs]
    colours = [line[0].get_color() for line in lines]
    assert colours[::2] == colours[1::2] and len(set(colours)) == 3
    legend = figure.legends[0].get_lines()
    labels = [entry.get_label() for entry in legend]
    assert labels == ["default", "instruction", "input output", "base"]
    assert [entry.get_color() for entry in legend[:3]] == colours[::2]
    assert table.groupby("prompt").size().to_dict() == dict.fromkeys(prompts, 6)


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (4, (1, 4)), (5, (2, 4)), (9, (3, 4))])
def test_panels_fill_rows_of_four_and_no_axis_is_empty(count, shape):
    figure, _ = study_figure("scores_by_checkpoint", cells=[QUIZ, SUMMARY, *[QUIZ] * 9][:count])
    assert len(figure.axes) == count and all(axis.containers for axis in figure.axes)
    assert figure.axes[0].get_gridspec().get_geometry() == shape


def test_gains_are_bars_of_means_over_the_members_by_checkpoint():
    figure, table = study_figure("gains_by_checkpoint")
    (axis,) = figure.axes
    both, one = axis.containers
    quiz, summary = [0.25, 0.25, 0.5], [-0.125, -0.125, -0.25]
    means = [(2 * q + s) / 3 for q, s in zip(quiz, summary, strict=True)]  # Quiz stands twice
    assert [bar.get_height() for bar in both] == pytest.approx(means)
    assert [bar.get_height() for bar in one] == quiz
    for i, (left, right) in enumerate(zip(both, one, strict=True)):  # side by side at the tick
        assert left.get_x() + left.get_width() == pytest.approx(i) == right.get_x()
    assert texts(figure.legends[0].get_texts()) == ["both", "one"]
    assert both[0].get_facecolor() != one[0].get_facecolor()
    assert texts(axis.get_xticklabels()) == ["1K", "18K", "main"]
    assert table.gain.tolist() == pytest.approx([*means, *quiz])
    assert table.group.tolist() == ["both"] * 3 + ["one"] * 3


def test_a_checkpoint_missing_from_one_group_of_gains_is_one_line():
    rows = without(SCORES, evaluation="summary", task="labels", checkpoint="main")
    with pytest.raises(PipelineError, match="summary after fine-tuning on labels, checkpoint main"):
        study_figure("gains_by_checkpoint", rows)


def test_changes_are_mean_ratios_with_their_error_over_checkpoints():
    figure, table = study_figure("changes_by_evaluation")
    (axis,) = figure.axes
    ratios = {"quiz": [1.0, 0.5, 1.0], "summary": [-1.0, -0.5, -1.0]}
    bars = [bar for container in axis.containers for bar in container if hasattr(bar, "get_height")]
    lines = [container.errorbar for container in axis.containers if hasattr(container, "errorbar")]
    means = [np.mean(r) for r in ratios.values()]
    spreads = [np.std(r, ddof=1) / math.sqrt(3) for r in ratios.values()]
    assert [bar.get_height() for bar in bars] == pytest.approx(means)
    assert [bar.get_x() + bar.get_width() / 2 for bar in bars] == pytest.approx([0, 1])
    for place, (line, spread) in enumerate(zip(filter(None, lines), spreads, strict=True)):
        assert errors(line) == pytest.approx({place: spread})
    assert bars[0].get_facecolor() != bars[1].get_facecolor()  # by their sign
    assert texts(axis.get_xticklabels()) == ["Labels → Quiz", "Labels → Summary"]
    assert table.ratio.tolist() == pytest.approx([*ratios["quiz"], *ratios["summary"]])
    assert table["mean"].tolist() == pytest.approx([means[0]] * 3 + [means[1]] * 3)
    assert table.stderr_over_checkpoints.tolist() == pytest.approx([spreads[0]] * 6)


def test_our_scores_lie_over_the_published_ones_with_another_marker():
    figure, table = study_figure("scores_by_checkpoint", [*SCORES, *ours(SCORES)])
    drawn = figure.axes[0].containers
    lines = {(line[0].get_marker(), line[0].get_linestyle()): line for line in drawn}
    assert {key: heights(line) for key, line in lines.items()} == {
        ("o", "--"): [0.25, 0.5, 0.5],
        ("s", "--"): [0.125, 0.25, 0.25],
        ("o", "-"): [0.5, 0.75, 1.0],
        ("s", "-"): [0.25, 0.375, 0.5],
    }
    assert errors(lines["s", "-"]) == {0: 0, 1: 0, 2: 0}
    assert table.groupby("source").size().to_dict() == {"ours": 12, "published": 12}


@pytest.mark.parametrize("source", ["ours", "published"])
def test_one_source_alone_keeps_its_marker(source):
    rows = SCORES if source == "published" else ours(SCORES)
    figure, table = study_figure("base_by_checkpoint", rows)
    markers = {line[0].get_marker() for axis in figure.axes for line in axis.containers}
    assert markers == {"s" if source == "ours" else "o"} and set(table.source) == {source}


def test_our_gains_are_hatched_beside_the_published_ones():
    figure, table = study_figure("gains_by_checkpoint", [*SCORES, *ours(SCORES)])
    found = {container.get_label(): container for container in figure.axes[0].containers}
    pairs = product(("both", "one"), ("ours", "published"))
    assert set(found) == {f"{group}, {source}" for group, source in pairs}
    one, own = found["one, published"], found["one, ours"]
    assert [bar.get_height() for bar in own] == [bar.get_height() / 2 for bar in one]
    assert own[0].get_hatch() and not one[0].get_hatch()
    assert own[0].get_facecolor() == one[0].get_facecolor()
    places = sorted(bar.get_x() for container in found.values() for bar in container)
    width = one[0].get_width()
    assert np.diff(places).min() == pytest.approx(width) and 4 * width == pytest.approx(0.8)
    assert len(table) == 12 and table.groupby("source").gain.sum()["published"] > 0


def test_our_changes_are_hatched_beside_the_published_ones():
    mine = [r | {"value": r["value"] * (2 if r["task"] else 1)} for r in ours(SCORES)]
    figure, table = study_figure("changes_by_evaluation", [*SCORES, *mine])
    bars = [bar for c in figure.axes[0].containers for bar in c if hasattr(bar, "get_height")]
    found = {(bool(bar.get_hatch()), round(bar.get_x() + bar.get_width() / 2)): bar for bar in bars}
    assert len(bars) == len(found) == 4
    published, own = found[False, 0], found[True, 0]
    assert published.get_height() == pytest.approx(5 / 6)
    assert own.get_height() == pytest.approx(1 + 2 * 5 / 6)  # twice the tuned score, same base
    assert published.get_x() + published.get_width() == pytest.approx(own.get_x())
    assert set(table.source) == {"ours", "published"}

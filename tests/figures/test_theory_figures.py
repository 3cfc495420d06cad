"""Figures of section 4: simulated networks beside their closed forms."""

import math
from functools import cache
from itertools import product

import numpy as np
import pytest
from made_up import assert_same_bytes, settings, shown, written
from pandas.testing import assert_frame_equal

from overtrain.figures.kinds import FIGURES
from overtrain.figures.kinds.theory_features import DISTANCES
from overtrain.studies import linear_network as linear
from overtrain.studies import theory

PRE = np.array([2.0, 1.0, 0.5])
NETWORKS = {"features": {"count": 3, "largest": 2.0, "smallest": 0.5}, "tau": 40, "seeds": [0, 1]}
# 2 d gamma^2 is 0.24, 0.74 and 1.5: the inflection is at 3 (the loss never rises), 2 and 1
NOISE = {"gammas": [0.2, 0.35, 0.5], "draws": 50}
SPECTRA = {"alpha1.5": [1.5, 1.5], "alpha3": [3.0, 3.0], "graded": [1.0, 3.8]}
TUNING = {
    "spectra": SPECTRA,
    "lambdas": [0, 0.5, 1.5, 3],  # graded: 2 + lambda below, below, below and above 3.8
    "batch_size": 256,
    "step": 0.9,
    "tolerance": 1e-2,
}
OWN = {"pretraining": {"taus": [10, 20]}, "noise": NOISE, "fine_tuning": TUNING}
THEORY = {
    "theory_features": {"experiment": "pretraining"},
    "theory_noise": {"experiment": "noise"},
    "theory_sensitivity": {
        "experiment": "fine_tuning",
        "ratios": SPECTRA,
        "spectra": ["alpha1.5", "alpha3"],
        "lambdas": [0, 3],
    },
    "theory_tradeoff": {
        "experiment": "fine_tuning",
        "ratios": SPECTRA,
        "spectra": ["alpha1.5", "alpha3"],
        "graded": "graded",
        "lambdas": [0, 1.5, 3],
    },
}


@cache
def measured(experiment: str) -> list[dict]:
    return theory.simulate(experiment, NETWORKS | OWN[experiment])


def simulated(plot: str) -> list[dict]:
    """What an aggregate holds: the rows that the plot reads."""
    kind = FIGURES[plot]
    rows = measured(THEORY[plot]["experiment"])
    return [r for r in rows if r["metric"] in kind.metrics and r["selection"] in kind.selections]


def theory_figure(plot: str, rows: list[dict] | None = None, **more: object):
    return shown(simulated(plot) if rows is None else rows, plot, **THEORY[plot] | more)


def values_of(rows: list[dict], **values: object) -> list[float]:
    return [r["value"] for r in rows if all(r.get(k) == v for k, v in values.items())]


def bars(axis) -> list[np.ndarray]:
    """Points with error bars: arrays of x, y and half the bar's length."""
    found = []
    for points, _, (segments,) in axis.containers:
        ends = np.array(segments.get_segments())
        found.append(np.c_[points.get_xydata(), np.ptp(ends[:, :, 1], axis=1) / 2])
    return found


def curves(axis) -> list:
    """Continuous lines."""
    return [line for line in axis.lines if line.get_linestyle() == "-"]


def rings(axis) -> list[list[float]]:
    return [line.get_xydata()[0].tolist() for line in axis.lines if line.get_markersize() == 9]


@pytest.mark.parametrize("plot", ["theory_features", "theory_tradeoff"])
def test_the_csv_of_a_theory_figure_holds_what_is_drawn(plot, tmp_path):
    table = written(tmp_path, simulated(plot), plot=plot, **THEORY[plot])
    _, expected = theory_figure(plot)
    assert_frame_equal(table, expected.reset_index(drop=True), check_dtype=False)


def test_the_same_simulations_give_the_same_bytes(tmp_path):
    plot = "theory_noise"
    assert_same_bytes(simulated(plot), settings(plot, **THEORY[plot]), tmp_path)


@pytest.mark.parametrize("plot", THEORY)
def test_a_theory_figure_takes_diverged_networks(plot):
    """One number of every metric, or all of a network's, are NaN."""
    rows = [dict(row) for row in simulated(plot)]
    for metric in sorted(FIGURES[plot].metrics):
        own = [r for r in rows if r["metric"] == metric and r["selection"] == "simulated"]
        for row in own[-1:] if metric == "singular_value" else own[len(own) // 2 :]:
            row["value"] = math.nan
    figure, table = theory_figure(plot, rows)
    figure.canvas.draw()
    column = "mean" if "mean" in table else "value"
    assert table[column].isna().any()


@pytest.mark.parametrize("plot", list(THEORY)[1:])
def test_a_missing_closed_form_is_not_drawn(plot):
    """Of the last checkpoint: its point stands, and the line ends before it."""
    last = {"selection": "closed_form", "features": 3}
    rows = [r for r in simulated(plot) if not last.items() <= r.items()]
    axis = theory_figure(plot, rows)[0].axes[0]
    for curve, points in zip(curves(axis), bars(axis), strict=True):
        assert np.isnan(curve.get_ydata()[2]) and np.isfinite(curve.get_ydata()[:2]).all()
        assert np.isfinite(points).all() and points[-1, 0] == 3


def test_features_over_time_are_the_simulated_and_the_logistic_curves():
    rows = simulated("theory_features")
    figure, table = theory_figure("theory_features")
    left, middle, right = figure.axes
    lines = curves(left)
    drawn = [line for line in lines if len(line.get_xdata()) > 2]
    for line, (feature, seed) in zip(drawn, product((1, 2, 3), (0, 1)), strict=True):
        own = {"selection": "simulated", "seed": seed, "features": feature}
        assert line.get_ydata().tolist() == values_of(rows, metric="singular_value", **own)
    assert len({line.get_color() for line in drawn}) == 3
    dotted = [line for line in left.lines if line.get_linestyle() == ":"]
    for feature, line in enumerate(dotted, start=1):
        own = {"selection": "closed_form", "features": feature}
        assert line.get_ydata().tolist() == values_of(rows, metric="singular_value", **own)
    assert len(dotted) == 3
    times = linear.checkpoint_times(PRE, 40)
    for axis in (left, middle):
        upright = [line for line in curves(axis) if line.get_color() == "grey"]
        assert [line.get_xdata()[0] for line in upright] == pytest.approx(times.tolist())
        assert axis.get_xscale() == "log" and axis.get_xlabel() == "time of the gradient flow"
    losses = [line.get_ydata().tolist() for line in curves(middle) if line.get_color() != "grey"]
    assert losses == [values_of(rows, metric="loss", seed=seed) for seed in (0, 1)]
    bottom, top = middle.get_ylim()
    assert bottom < PRE[-1] ** 2 and (PRE**2).sum() < top < 10 * (PRE**2).sum()
    labels = [text.get_text() for text in right.get_legend().get_texts()]
    assert len(labels) == 4 and "as printed" in labels[0] and "exp" in labels[3]
    assert set(table.metric) == {"singular_value", "time", "loss"} | set(DISTANCES)


def test_distances_are_points_beside_their_bound():
    rows = simulated("theory_features")
    axis = theory_figure("theory_features")[0].axes[2]
    *points, bound = axis.lines
    names = ["distance_as_printed", "distance_up_to_rotation", "distance_of_product"]
    for line, metric in zip(points, names, strict=True):
        assert line.get_linestyle() == "None"
        assert line.get_ydata().tolist() == values_of(rows, metric=metric, selection="simulated")
        assert line.get_xdata().tolist() == [10, 20, 10, 20]
    assert bound.get_xdata().tolist() == [10, 20] and axis.get_yscale() == "log"
    rate = linear.convergence_rate(PRE)
    assert bound.get_ydata() == pytest.approx(np.exp(-rate * np.array([10, 20])))


def test_loss_under_noise_is_the_mean_over_networks_on_the_closed_form_with_its_inflection():
    rows = simulated("theory_noise")
    figure, table = theory_figure("theory_noise")
    axis, share = figure.axes
    for gamma, relative in zip(NOISE["gammas"], bars(share), strict=True):
        own = table[table.gamma == gamma].sort_values("features")
        expected = own[["mean", "std"]].div(own.closed_form, axis="index")
        np.testing.assert_allclose(relative[:, 1:], expected)
        assert abs(relative[:, 1] - 1).max() < 0.2
    for gamma, curve, points in zip(NOISE["gammas"], curves(axis), bars(axis), strict=True):
        own = table[table.gamma == gamma].sort_values("features")
        for n, mean, std in own[["features", "mean", "std"]].itertuples(index=False):
            found = values_of(rows, gamma=gamma, features=n, metric="loss", selection="simulated")
            assert len(found) == 2
            assert (mean, std) == pytest.approx((np.mean(found), np.std(found, ddof=1)))
        assert own.closed_form.tolist() == pytest.approx(linear.noise_losses(PRE, gamma).tolist())
        np.testing.assert_allclose(curve.get_xydata(), own[["features", "closed_form"]])
        np.testing.assert_allclose(points, own[["features", "mean", "std"]])
    losses = {gamma: linear.noise_losses(PRE, gamma) for gamma in NOISE["gammas"]}
    assert rings(axis) == [pytest.approx([2, losses[0.35][1]]), pytest.approx([1, losses[0.5][0]])]
    assert dict(zip(table.gamma, table.inflection, strict=True)) == {0.2: 3, 0.35: 2, 0.5: 1}
    assert (table.inflection_simulated - table.inflection).abs().max() <= 0.5
    assert axis.get_xlabel() == "features learned, $n$" and "loss" in axis.get_ylabel()
    figure.canvas.draw()
    low, high = axis.get_xlim()
    assert [tick for tick in axis.get_xticks() if low <= tick <= high] == [1, 2, 3]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["0.2", "0.35", "0.5"]


def test_the_ring_of_a_simulated_inflection_stays_at_the_closed_form():
    rows = [dict(row) for row in simulated("theory_noise")]
    for row in rows:
        if row["metric"] == "inflection" and row["selection"] == "simulated":
            row["value"] = 1.0
    figure, table = theory_figure("theory_noise", rows)
    assert [x for x, _ in rings(figure.axes[0])] == [2, 1]
    assert set(table.inflection_simulated) == {1.0}


def test_sensitivity_has_a_panel_for_each_penalty_and_a_line_for_each_spectrum():
    figure, table = theory_figure("theory_sensitivity")
    rows = simulated("theory_sensitivity")
    assert [axis.get_title() for axis in figure.axes] == ["$\\lambda$ = 0", "$\\lambda$ = 3"]
    assert len(table) == 2 * 2 * 3
    for axis, penalty in zip(figure.axes, (0, 3), strict=True):
        own = zip(("alpha1.5", "alpha3"), (1.5, 3), curves(axis), bars(axis), strict=True)
        for name, ratio, curve, points in own:
            expected = linear.sensitivity(PRE, ratio * PRE, penalty)
            assert curve.get_ydata() == pytest.approx(expected)
            key = {"task": name, "lambda": penalty, "metric": "loss_change"}
            found = [values_of(rows, **key, selection="simulated", features=n) for n in (1, 2, 3)]
            assert points[:, 1] == pytest.approx(np.mean(found, axis=1))
            assert points[:, 2] == pytest.approx(np.std(found, axis=1, ddof=1))
            chosen = table[(table.spectrum == name) & (table.penalty == penalty)]
            assert chosen["mean"].tolist() == points[:, 1].tolist()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1.5", "3"]


def test_the_tradeoffs_panels_hold_their_losses_and_rings():
    figure, table = theory_figure("theory_tradeoff")
    a, b, _, d, e, f = figure.axes
    titles = [axis.get_title()[:3] for axis in figure.axes]
    assert titles == [f"({panel})" for panel in "abcdef"]
    for curve, ratio in zip(curves(a), (1.5, 3), strict=True):
        expected, _ = linear.fine_tuned_losses(PRE, ratio * PRE, 0)
        assert curve.get_ydata() == pytest.approx(expected)
    assert [text.get_text() for text in a.texts] == ["$\\alpha$=1.5", "$\\alpha$=3"]
    ft = PRE * np.geomspace(1, 3.8, 3)
    losses = [linear.fine_tuned_losses(PRE, ft, penalty) for penalty in (0, 1.5, 3)]
    for axis, which, name in ((b, 0, "b"), (d, 1, "d")):
        own = table[table.panel == name]
        for k, (curve, points) in enumerate(zip(curves(axis), bars(axis), strict=True)):
            assert curve.get_ydata() == pytest.approx(losses[k][which])
            chosen = own[own.penalty == (0, 1.5, 3)[k]]
            np.testing.assert_allclose(points, chosen[["features", "mean", "std"]])
    assert a.get_ylabel() == b.get_ylabel() == "pre-training loss"
    assert d.get_ylabel() == e.get_xlabel() == "fine-tuning loss"
    # at lambda 3 the loss never rises
    assert rings(b) == [pytest.approx([2, losses[k][0][1]]) for k in (0, 1)]
    assert rings(a) == rings(d) == []
    last = [linear.fine_tuned_losses(PRE, ft, penalty) for penalty in TUNING["lambdas"]]
    (curve,) = curves(e)
    assert curve.get_ydata() == pytest.approx([on_pre[-1] for on_pre, _ in last])
    assert curve.get_xdata() == pytest.approx([on_ft[-1] for _, on_ft in last], abs=1e-12)
    labels = [text.get_text() for text in e.texts]  # not 0.5, which the figure does not name
    assert labels == ["$\\lambda$=0", "$\\lambda$=1.5", "$\\lambda$=3"]
    (points,) = bars(f)
    assert points[:, 0].tolist() == TUNING["lambdas"]
    assert points[:, 1] == pytest.approx([1, 1 / 1.5, 1 / 2.5, 1 / 4], abs=0.05)
    closed = table[table.panel == "f"].closed_form
    assert closed.tolist() == pytest.approx([1, 1 / 1.5, 1 / 2.5, 1 / 4])


def test_the_inflection_by_penalty_steps_where_the_closed_form_does():
    """The last feature raises the loss while 3.8 > 2 + lambda: 2 becomes 3 at lambda 1.8."""
    figure, table = theory_figure("theory_tradeoff")
    axis = figure.axes[2]
    (step,) = [line for line in axis.lines if line.get_drawstyle() == "steps-post"]
    x, y = step.get_data()
    assert (np.diff(x) >= 0).all() and x[0] == 0 and x[-1] == 3
    assert (y[x < 1.79] == 2).all() and (y[x > 1.81] == 3).all()
    assert np.diff(x).max() < 0.02  # the step stands where it is, not at the next simulation
    (points,) = bars(axis)
    assert points.tolist() == [[0, 2, 0], [0.5, 2, 0], [1.5, 2, 0], [3, 3, 0]]
    own = table[table.panel == "c"].sort_values("lambda")
    simulated = own.dropna(subset="mean")
    assert simulated[["lambda", "mean", "std"]].to_numpy().tolist() == points.tolist()
    assert own.closed_form.tolist() == y.tolist()

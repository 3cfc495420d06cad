"""Kinds: found by being there, light to import, and each takes what measurements bring."""

import math
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import get_args

import pytest
from configuration import targets_of
from made_up import MODELS, TASKS, assert_same_bytes, drawn, frame, many, settings, shown, written
from pandas.testing import assert_frame_equal

from overtrain import PipelineError
from overtrain.figures import plots
from overtrain.figures.families.linear_networks import OfTheory
from overtrain.figures.kind import Figure, Table
from overtrain.figures.kinds import FIGURES, TABLES, discovered
from overtrain.studies.theory import EXPERIMENTS

ROOT = Path(__file__).parents[2]
KIND_FILES = ROOT / "scripts/overtrain/figures/kinds"
FOLDERS = (KIND_FILES, KIND_FILES / "tables")

RATES = [1e-5 * 1.3**i for i in range(27)]
ASK = [{"evaluation": "c4", "quantity": "change"}, {"evaluation": "id", "quantity": "absolute"}]
KINDS = {
    "noise_by_tokens": {"panels": ["change", "absolute"]},
    "learning_rates_by_tokens": {"rows": ASK, "largest_loss": 6.0},
    "tuned_by_tokens": {"rows": ASK},
    "optimal_rate_by_tokens": {"rows": [{}]},
    "distance_by_learning_rate": {},
    "sharpness_by_tokens": {},
}
CONTROLLED = [plot for plot in KINDS if plot != "sharpness_by_tokens"]
CHOSEN = ("tuned_by_tokens", "optimal_rate_by_tokens")  # draw the best rate, not every one
BY = {"noise_by_tokens": "gamma", "sharpness_by_tokens": "gamma"}  # or learning_rate


@pytest.mark.parametrize("plot", KINDS)
def test_the_csv_holds_what_is_drawn(plot, tmp_path):
    rows = many(plot, [1e-3, 2e-3, 4e-3])
    table = written(tmp_path, rows, plot=plot, **KINDS[plot])
    expected = drawn(rows, plot=plot, **KINDS[plot])
    if "learning_rates" in table:  # a list as text, which reads as a number if it is one
        table["learning_rates"] = table.learning_rates.astype(str)
    assert_frame_equal(table, expected, check_dtype=False)
    assert len(table) and {"mean", "std", "seeds", "tokens"} <= set(table.columns)


@pytest.mark.parametrize("plot", CONTROLLED)
def test_lines_stand_where_the_table_says(plot):
    figure, table = shown(many(plot, [1e-3, 4e-3]), plot, **KINDS[plot])
    heights = [y for axis in figure.axes for line in axis.lines for y in line.get_ydata()]
    column = "learning_rate" if plot == "optimal_rate_by_tokens" else "mean"
    assert sorted(heights) == sorted(table[column])


@pytest.mark.parametrize("plot", [*BY, "learning_rates_by_tokens"])
def test_few_lines_get_a_legend_and_many_a_colour_bar(plot, tmp_path):
    for steps in (RATES[:8], RATES):
        figure, _ = shown(many(plot, steps), plot, **KINDS[plot])
        bars = [axis for axis in figure.axes if axis.get_label() == "<colorbar>"]
        entries = [len(legend.get_texts()) for legend in figure.legends]
        assert (len(bars), entries) == ((0, [9]) if len(steps) == 8 else (1, [1]))  # and the base


@pytest.mark.parametrize("plot", CONTROLLED)
def test_every_kind_takes_the_papers_27_rates(plot, tmp_path):
    table = written(tmp_path, many(plot, RATES), plot=plot, **KINDS[plot])
    by = BY.get(plot, "learning_rate")
    if plot not in CHOSEN:
        assert sorted(set(table[by]) - {0.0}) == pytest.approx(RATES)


@pytest.mark.parametrize("plot", KINDS)
def test_every_kind_takes_diverged_runs(plot, tmp_path):
    rows = many(plot, [1e-3, 4e-3])
    key = BY.get(plot, "learning_rate")
    for row in rows:
        if row.get(key) == 4e-3 and row["checkpoint"] == "2M" and row["seed"] == 1:
            row["value"] = math.nan
    more = KINDS[plot] | ({"largest_loss": None} if "largest_loss" in KINDS[plot] else {})
    table = written(tmp_path, rows, plot=plot, **more)
    if plot in CHOSEN:  # a rate with a diverged run is not chosen
        assert table["mean"].notna().all() and len(table)
        return
    bad = table[(table[key] == 4e-3) & (table.tokens == 2_000_000)]
    assert len(bad) and bad["mean"].isna().all()
    assert table["mean"].notna().any()


@pytest.mark.parametrize("plot", KINDS)
def test_every_kind_takes_a_sweep_without_one_finite_run(plot, tmp_path):
    table = written(tmp_path, many(plot, [1e-3, 4e-3], math.nan), plot=plot, **KINDS[plot])
    if plot in CHOSEN:  # there is no rate to choose
        assert table.empty
        return
    key = BY.get(plot, "learning_rate")
    assert table[table[key] > 0]["mean"].isna().all()


@pytest.mark.parametrize("plot", KINDS)
def test_a_grid_of_models_and_tasks_has_a_panel_each(plot):
    rows = [
        row | {"model": model, "task": task}
        for row in many(plot, [1e-3, 4e-3])
        for model in MODELS
        for task in TASKS
    ]
    figure, _ = shown(rows, plot, models=MODELS, tasks=TASKS, **KINDS[plot])
    panels = 4 * len(KINDS[plot].get("rows", [None]))
    assert sum(bool(axis.lines) for axis in figure.axes) == panels
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    wanted = ["Large", "Large", "Small", "Small"]
    if plot not in BY:
        wanted = [f"{m}, {t}" for m, t in product(("Large", "Small"), ("First", "Second"))]
    assert titles == wanted


@pytest.mark.parametrize(
    ("scale", "title"), [(None, "A title"), ("demo scale", "A title (demo scale)")]
)
def test_the_title_tells_the_scale(scale, title, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots.plt, "close", figures.append)
    rows = many("noise_by_tokens", [1e-3])
    plots.draw(frame(rows), settings("noise_by_tokens", scale=scale), tmp_path / "figure.pdf")
    assert figures[0].get_suptitle() == title


def test_the_same_numbers_give_the_same_bytes(tmp_path):
    plot = "learning_rates_by_tokens"
    assert_same_bytes(many(plot, [1e-3, 4e-3]), settings(plot, **KINDS[plot]), tmp_path)


# --- all kinds ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "kinds", "base"), [(FOLDERS[0], FIGURES, Figure), (FOLDERS[1], TABLES, Table)]
)
def test_a_kind_is_a_module_of_its_name(folder, kinds, base):
    assert set(kinds) == {path.stem for path in folder.glob("[a-z]*.py")}
    drawing = "draw" if base is Figure else "tabulate"
    for name, kind in kinds.items():
        assert kind.__module__.endswith(f".{name}") and kind.__doc__
        assert getattr(kind, drawing) is not getattr(base, drawing)


def test_what_a_kind_reads_is_measured_and_what_it_has_statistics_of_is_known(config):
    targets = targets_of(config)
    seen = set()
    for paper, name in [*targets.targets("figures"), *targets.targets("tables")]:
        target = targets.target(paper, name)
        seen.add(type(target))
        read = bool(targets.measurements(paper, name))
        assert read == bool(target.metrics) == bool(target.selections), name
        assert target.modification in (None, "noise", "fixed", "tuned")
    assert seen == {*FIGURES.values(), *TABLES.values()}  # the papers use every kind


def test_theory_figures_draw_the_experiments_that_the_library_has(config):
    kinds = [kind for kind in FIGURES.values() if issubclass(kind, OfTheory)]
    drawn = {get_args(kind.model_fields["experiment"].annotation)[0] for kind in kinds}
    assert drawn == set(EXPERIMENTS) and drawn <= set(config["theory"])


def test_kinds_import_nothing_heavy():
    code = (
        "import sys, overtrain.configuration, overtrain.figures.targets;"
        "print({'torch', 'matplotlib', 'scipy', 'pandas', 'numpy', 'pyarrow'} & set(sys.modules))"
    )
    line = [sys.executable, "-c", code]
    found = subprocess.run(line, cwd=ROOT / "scripts", capture_output=True, text=True)
    assert found.stdout.strip() == "set()", found.stderr


def test_a_new_kind_is_found_by_its_module_being_there(tmp_path, monkeypatch):
    package = tmp_path / "new_kinds"
    package.mkdir()
    (package / "bare.py").write_text(
        "from typing import Literal\n"
        "from overtrain.figures.kind import Figure\n"
        "class Bare(Figure):\n"
        "    plot: Literal['bare']\n"
        "    @staticmethod\n"
        "    def draw(data, settings):\n"
        "        return None, settings['title']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = discovered("new_kinds", [str(package)], Figure, "plot")
    assert list(found) == ["bare"] and found["bare"].draw(None, {"title": "T"}) == (None, "T")
    (package / "twin.py").write_text((package / "bare.py").read_text())
    with pytest.raises(PipelineError, match=r"twin.py and bare.py both declare plot 'bare'"):
        discovered("new_kinds", [str(package)], Figure, "plot")

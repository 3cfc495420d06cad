"""Sums by rule and figure, shared jobs, and what was spent, of made-up jobs with known costs."""

import csv
from pathlib import Path

import pytest
from configuration import catalogue_of

from overtrain import PipelineError
from overtrain.planning.asked import Ask
from overtrain.planning.jobs import Jobs, Planned
from overtrain.planning.plan import Plan
from overtrain.planning.report import page, write

HEAD = "s\th:m:s\tmax_rss\tmean_load\n"
POINT = {"model": "OLMo-15M", "checkpoint": "4B"}
SWEEP = POINT | {"task": "gsm8k", "recipe": "default"}


def figure(number: int, name: str, *after: int) -> Planned:
    names = {"paper": "overtrained", "figure": name}
    return Planned(number, "figure", names, after, benchmark=f"figure/{name}.tsv", local=True)


def made_up(done: bool = False) -> Jobs:
    """A checkpoint; a sweep of two jobs in a group, and noise; three figures of them."""
    own = {"to_do": not done}
    train = Planned(0, "pretrain", POINT, (), not done, gpus=8, minutes=30, benchmark="p/a.tsv")
    tune = {"gpus": 4, "minutes": 60, "group": 1, "benchmark": "f/a.tsv", **own}
    score = {"gpus": 1, "minutes": 15, "group": 1, "benchmark": "e/a.tsv", **own}
    noise = {"gpus": 1, "minutes": 20, "benchmark": "n/a.tsv", **own}
    return Jobs(
        [
            train,
            Planned(1, "finetune", SWEEP, (0,), **tune),
            Planned(2, "evaluate_id", SWEEP, (0, 1), **score),
            Planned(3, "perturb_gaussian", POINT, (0,), **noise),
            figure(4, "fig05", 2),
            figure(5, "fig06", 2),
            figure(6, "fig03", 3),
        ]
    )


@pytest.fixture(scope="module")
def ask() -> Ask:
    return Ask(catalogue_of())


def test_a_group_holds_its_gpus_for_the_minutes_of_all_its_jobs(ask):
    rows = {row.name: row for row in Plan(made_up(), ask).rules}
    assert rows["pretrain"].asked == 4.0
    assert rows["finetune"].asked == 4.0
    assert rows["evaluate_id"].asked == 1.0  # four GPUs for a quarter of an hour, to use one
    assert Plan(made_up(), ask).total.asked == pytest.approx(9 + 1 / 3)
    assert Plan(made_up(), ask).total.jobs == 7


def test_expected_hours_are_those_of_the_work(ask):
    plan = Plan(made_up(), ask)
    need = ask.estimator.need("pretrain", made_up().all[0].wildcards, 8)
    row = next(row for row in plan.rules if row.name == "pretrain")
    assert row.expected == 8 * need.seconds / 3600 == pytest.approx(0.2025, abs=1e-4)


def test_figures_of_the_same_jobs_are_one_row_and_own_is_what_no_other_needs(ask):
    rows = {row.name: row for row in Plan(made_up(), ask).figures}
    assert rows.keys() == {"fig05, fig06", "fig03"}
    assert rows["fig05, fig06"].asked == 9 and rows["fig05, fig06"].own_asked == 5
    assert rows["fig03"].asked == pytest.approx(4 + 1 / 3)
    assert rows["fig03"].own_asked == pytest.approx(1 / 3)
    assert rows["fig03"].jobs == 2


def test_the_disk_in_the_end_has_what_is_there_already(ask):
    weights = 4 * 21_086_208
    assert Plan(made_up(), ask).total.kept == weights
    done = Plan(made_up(done=True), ask)
    assert done.total.kept == done.there == weights


def test_the_largest_is_the_group_that_asks_for_most(ask):
    unit = Plan(made_up(), ask).largest
    assert unit is not None
    assert unit.asked == 5
    assert unit.title == "finetune + evaluate_id OLMo-15M 4B gsm8k default"


def written(folder: Path, name: str, *seconds: float) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + "".join(f"{own}\t0:00:01\t100\t1.0\n" for own in seconds))


def test_spent_is_seconds_times_gpus_beside_what_was_expected(ask, tmp_path):
    written(tmp_path, "p/a.tsv", 900.0)
    written(tmp_path, "f/a.tsv", 1800.0, 5400.0)  # repeated: the mean
    plan = Plan(made_up(done=True), ask, root=tmp_path)
    rows = {row.name: row for row in plan.rules}
    assert (rows["pretrain"].spent, rows["pretrain"].done) == (2.0, 1)
    assert (rows["finetune"].spent, rows["finetune"].done) == (4.0, 1)
    assert (rows["evaluate_id"].spent, rows["evaluate_id"].done) == (0, 0)
    assert (plan.total.spent, plan.total.jobs) == (6.0, 3)
    assert rows["pretrain"].expected_done == pytest.approx(0.2025, abs=1e-4)
    assert rows["pretrain"].expected == 0  # nothing is to be done
    told = page(plan, {}, spent=True)
    assert "Spent by 2 jobs that have run: 6.00 GPU-hours" in told


@pytest.mark.parametrize("content", ["", "seconds\n3\n", HEAD, HEAD + "soon\t-\t-\t-\n"])
def test_a_file_that_is_no_benchmark_is_named(ask, tmp_path, content):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.tsv").write_text(content)
    with pytest.raises(PipelineError, match=r"p/a\.tsv: not a benchmark file of Snakemake"):
        Plan(made_up(), ask, root=tmp_path).spent  # noqa: B018


def test_files_have_the_numbers_and_the_picture_its_bars(ask, tmp_path):
    plan = Plan(made_up(), ask)
    paths = write(plan, plan.schedules([1, 8]), False, tmp_path / "plan" / "fig05")
    assert sorted(path.suffix for path in paths) == [".csv", ".csv", ".md", ".pdf", ".png"]
    with (tmp_path / "plan" / "fig05.figures.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert float(rows["fig05, fig06"]["asked"]) == 9 and rows["fig05, fig06"]["members"] == (
        "fig05 fig06"
    )
    text = (tmp_path / "plan" / "fig05.md").read_text()
    assert "| 1 | too few |  |" in text and "| pretrain | 1 | 0.2 | 4.0 | 8 | 30 | 17 |" in text

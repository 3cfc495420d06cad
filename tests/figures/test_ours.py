"""Targets of "Amuro & Char" from made-up rows of ours, of published numbers and of both."""

import copy
import json
import math
from pathlib import Path

import pandas as pd
import pytest
from configuration import PAPERS, targets_of
from runs_of_ours import STUDY, figure, ours, published, rows_of, table, value_of

from overtrain.figures import plots, tables
from overtrain.figures.kinds import FIGURES
from overtrain.figures.targets import Targets
from overtrain.studies.amuro_char import as_shown

TARGETS = targets_of(PAPERS)
CHECKPOINTS = PAPERS[STUDY]["checkpoints"]
OURS, PUBLISHED = ours(TARGETS), published(TARGETS)


def changed(**values: object) -> list[dict]:
    """Our rows; `value` of those that have the other values is another."""
    value = values.pop("value")
    return [r | {"value": value} if values.items() <= r.items() else r for r in OURS]


def of(kind: str, *sources: str) -> list[str]:
    every = getattr(TARGETS, kind)[STUDY].items()
    return [name for name, target in every if getattr(target, "source", None) in sources]


@pytest.fixture
def drawn(tmp_path):
    def drawn(name: str, rows: list[dict], targets: Targets = TARGETS) -> pd.DataFrame:
        make = figure if name in targets.figures[STUDY] else table
        return make(name, rows, targets, tmp_path)

    return drawn


def shown(target: str, rows: list[dict], folder: Path, targets: Targets = TARGETS):
    """The rows that a figure or table shows."""
    find = targets.figure_slice if target in targets.figures[STUDY] else targets.table_slice
    data = rows_of(target, rows, targets, folder)
    return as_shown(data, json.loads(find(STUDY, target)))


# --- every kind -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", of("figures", "ours", "both"))
def test_a_figure_shows_ours_or_both(name, drawn):
    found = drawn(name, [*OURS, *PUBLISHED])
    wanted = {"ours", "published"} if name.endswith("both") else {"ours"}
    assert set(found.source) == wanted
    assert set(found.checkpoint) == set(CHECKPOINTS)


@pytest.mark.parametrize("name", [f"fig{n:02}" for n in range(2, 14)])
def test_a_figure_of_published_numbers_needs_none_of_ours(name, drawn):
    found = drawn(name, PUBLISHED)
    assert set(found.get("source", ["published"])) == {"published"}


@pytest.mark.parametrize("name", ["fig02", "fig07", "fig05", "table5", "transfer"])
def test_every_kind_lays_ours_over_published_numbers(name, drawn):
    config = copy.deepcopy(PAPERS)
    kind = "figures" if name.startswith("fig") else "tables"
    config[kind][STUDY][name]["source"] = "both"
    found = drawn(name, [*OURS, *PUBLISHED], targets_of(config))
    if kind == "figures":
        assert found.groupby("source").size().nunique() == 1
    else:
        sides = [c.rpartition(", ")[2] for c in found.columns[1:]]
        assert sides.count("ours") == sides.count("published") == len(sides) / 2


def test_the_scheme_is_drawn_without_measurements(tmp_path):
    settings = json.loads(TARGETS.figure_slice(STUDY, "fig01"))
    plots.draw(None, settings, tmp_path / "fig01.pdf")
    found = pd.read_csv(tmp_path / "fig01.csv")
    assert found.checkpoint.tolist() == ["step1000", "step18000", "step342000", "main"]


# --- which rows -----------------------------------------------------------------------------------


def test_of_ours_the_papers_rate_is_shown_by_the_studys_names(tmp_path):
    data = shown("fig09_ours", OURS, tmp_path)
    tuned = data[data.selection == "last"].groupby("task").learning_rate.agg(set).to_dict()
    assert tuned.pop("xsum") == {2e-7}
    assert set(tuned) == {"socialiqa", "mnli", "paws", "tulu"}
    assert set.union(*tuned.values()) == {2e-6}
    assert set(data.metric) == {"accuracy", "rouge_l"} and set(data.prompt) == {"default"}
    own = data[(data.task == "mnli") & (data.evaluation == "mnli_matched")]
    own = own[own.checkpoint == "main"]
    keys = ("ours", "main", "mnli", 2e-6, 0, "mnli_matched", "default", "test")
    assert own.value.tolist() == [value_of("accuracy", *keys)]  # not that of generated answers


def test_a_benchmark_of_ours_shows_the_metric_that_its_suite_names(tmp_path):
    data = shown("fig08_ours", OURS, tmp_path)
    for name, metric in (("hellaswag", "accuracy"), ("boolq", "accuracy")):
        own = data[(data.evaluation == name) & (data.selection == "base")]
        own = own[own.checkpoint == "main"]
        wanted = value_of(metric, "ours", "main", None, None, None, name, None, "test")
        assert own[["metric", "value", "prompt"]].to_numpy().tolist() == [
            ["accuracy", wanted, "default"]
        ]


def test_of_published_rows_those_of_the_studys_shots_stay_beside_ours(tmp_path):
    data = shown("fig09_both", [*OURS, *PUBLISHED], tmp_path)
    assert set(data[data.source == "published"].shots) == {4}
    data = shown("comparison", [*OURS, *PUBLISHED], tmp_path)
    assert set(data[data.source == "ours"].shots) == {4}


def best(checkpoint: str, rate: float, task: str = "mnli") -> list[dict]:
    """Our rows, with this rate the best on a task's validation."""
    where = {"split": "validation", "checkpoint": checkpoint, "task": task}
    return changed(**where, learning_rate=rate, metric="accuracy", value=0.99)


def test_validation_chooses_a_rate_for_each_task_and_checkpoint(tmp_path):
    rows = best("main", 2e-7)
    data = shown("fig09_validation", rows, tmp_path)
    own = data[(data.task == "mnli") & (data.evaluation == "mnli_matched")]
    assert own[own.checkpoint == "main"].learning_rate.tolist() == [2e-7]
    chosen = {}
    for checkpoint in CHECKPOINTS[:-1]:
        keys = [
            ("ours", checkpoint, "mnli", rate, 0, "id", "default", "validation")
            for rate in (2e-5, 2e-6, 2e-7)
        ]
        chosen[checkpoint] = max(keys, key=lambda key: value_of("accuracy", *key))[3]
    found = own.set_index("checkpoint").learning_rate.to_dict()
    assert found == chosen | {"main": 2e-7} and len(set(found.values())) > 1
    assert not (data.evaluation == "id").any()


def test_a_rate_at_which_a_run_diverged_is_not_chosen(tmp_path):
    rows = [
        row | {"value": math.nan, "diverged": True}
        if row["task"] == "mnli" and row["learning_rate"] == 2e-7
        else row
        for row in best("main", 2e-7)
    ]
    data = shown("fig09_validation", rows, tmp_path)
    own = data[(data.task == "mnli") & (data.checkpoint == "main")]
    assert set(own.learning_rate) <= {2e-5, 2e-6} and own.value.notna().all()


def test_the_rates_table_has_each_rates_score_the_best_and_the_papers(drawn):
    found = drawn("rates", best("main", 2e-7))
    assert len(found) == 4 * len(CHECKPOINTS)
    own = found[(found["Fine-tuned on"] == "MNLI matched") & (found.Checkpoint == "main")]
    (row,) = own.to_dict("records")
    assert (row["at 2e-07"], row["Best"], row["Paper's"]) == ("0.990", "2e-07", "2e-06")
    assert list(found.columns[3:6]) == ["at 2e-07", "at 2e-06", "at 2e-05"]


# --- what is missing or bad -----------------------------------------------------------------------


def base_of(evaluation: str, checkpoint: str = "main") -> dict:
    return {"selection": "base", "evaluation": evaluation, "checkpoint": checkpoint}


def test_a_base_of_zero_is_left_out_of_our_ratios_and_named(drawn):
    rows = changed(**base_of("xsum"), prompt="default", value=0.0)
    found = drawn("transfer_ours", rows).set_index("Ratio of change")
    column = found["classification to generation"]
    assert column["Cells"] == "30" and found.loc["Cells"].iloc[1] == "32"
    named = "; ".join(f"{t} to xsum, main: base score is zero" for t in ("mnli", "paws"))
    assert column["Cells without a ratio"] == f"2; {named}"
    cells = drawn("transfer_cells_ours", rows).set_index("Pair")
    assert cells.loc["mnli to xsum", "main"] == "-" and cells.loc["mnli to xsum", "step1000"] != "-"


def test_a_change_leaves_out_a_base_of_zero_and_says_so(drawn):
    found = drawn("fig07_ours", changed(**base_of("cnn"), prompt="default", value=0.0))
    own = found[found.evaluation == "cnn"]
    assert own.excluded.fillna("").tolist() == [""] * 7 + ["base score is zero"]
    assert own["mean"].iloc[0] == pytest.approx(own.ratio.mean()) and own.ratio.isna().sum() == 1
    error = own.ratio.std() / math.sqrt(7)
    assert own.stderr_over_checkpoints.iloc[0] == pytest.approx(error)


@pytest.mark.parametrize("name", ["fig06_ours", "fig07_ours", "fig10_ours", "transfer_ours"])
def test_a_missing_evaluation_is_a_gap(name, drawn):
    missing = "mnli_matched" if name == "transfer_ours" else "gpt3nli"
    found = drawn(name, [r for r in OURS if r["evaluation"] != missing])
    if name == "transfer_ours":
        own = found.set_index("Ratio of change")["generation to classification"]
        assert own["Cells"] == "16" and own["Cells without a ratio"].startswith("16; ")
    elif name == "fig07_ours":
        assert found[found.evaluation == missing].ratio.isna().all()
    else:
        assert missing not in set(found.evaluation)


def test_where_no_cell_has_a_ratio_the_table_says_so(drawn):
    rows = [r for r in OURS if r["evaluation"] not in ("mnli_matched", "paws")]
    own = drawn("transfer_ours", rows).set_index("Ratio of change")["generation to classification"]
    assert own["Cells"] == "0" and own["Mean, %"] == own["p"] == "-"


@pytest.mark.parametrize("name", ["fig04_ours", "fig09_ours", "table5_ours", "comparison"])
def test_a_diverged_run_is_a_gap(name, drawn):
    rows = [
        r | {"value": math.nan, "diverged": True, "stderr": math.nan}
        if (r["task"], r["checkpoint"]) == ("mnli", "main")
        else r
        for r in OURS
    ]
    found = drawn(name, [*rows, *PUBLISHED])
    if name == "table5_ours":
        own = found.set_index("Checkpoint")["Learned in fine-tuning"]
        assert own["main"] == "-" and "-" not in set(own[:-1])
    elif name == "comparison":
        own = found[(found["Fine-tuned on"] == "MNLI") & (found.Checkpoint == "main")]
        assert set(own.Ours) == {"-"} == set(own.Disjoint) and "-" not in set(own.Theirs)
    elif name == "fig04_ours":
        own = found[found.group == "learned in fine-tuning"].set_index("checkpoint").gain
        assert math.isnan(own["main"]) and own[:-1].notna().all()
    else:
        own = found[(found.task == "mnli") & (found.checkpoint == "main")]
        assert len(own) == 2 and own.value.isna().all()


def test_one_diverged_seed_of_two_is_a_gap_in_lines_and_gains(tmp_path):
    config = copy.deepcopy(PAPERS)
    config["instruction_recipes"]["completion"]["seeds"] = [0, 1]
    targets = targets_of(config)
    lost = {"task": "mnli", "checkpoint": "main", "seed": 1}
    rows = [r | {"value": math.nan} if lost.items() <= r.items() else r for r in ours(targets)]
    settings = json.loads(targets.figure_slice(STUDY, "fig09_ours"))
    data = rows_of("fig09_ours", rows, targets, tmp_path)
    drawn, _ = FIGURES["scores_by_checkpoint"].draw(data, settings)
    _, line = drawn.axes[0].containers  # of MNLI: the base, and what was tuned
    assert pd.isna(line[0].get_ydata()).tolist() == [False] * 7 + [True]
    found = table("table5_ours", rows, targets, tmp_path).set_index("Checkpoint")
    assert (found["Learned in fine-tuning"] == "-").tolist() == [False] * 7 + [True]


def test_a_rate_that_one_diverged_seed_has_has_no_score():
    rows = pd.DataFrame([r | {"seed": s} for r in OURS for s in (0, 1)])
    from overtrain.studies.amuro_char import validation_scores

    own = rows[(rows.task == "mnli") & (rows.checkpoint == "main")].copy()
    own.loc[(own.seed == 1) & (own.learning_rate == 2e-6), "value"] = math.nan
    scores = validation_scores(own, "accuracy").loc["main"]
    assert math.isnan(scores[2e-6]) and scores.drop(2e-6).notna().all()


def test_an_evaluation_that_no_suite_here_has_is_a_gap(drawn):
    config = copy.deepcopy(PAPERS)
    del config["benchmark_suites"][STUDY]["tasks"]["openbookqa"]
    targets = targets_of(config)
    assert "openbookqa" not in set(drawn("fig02_ours", ours(targets), targets).evaluation)
    found = drawn("table5_ours", ours(targets), targets).set_index("Checkpoint")
    assert set(found["Learned in pre-training"]) == {"-"} != set(found["Learned in fine-tuning"])


# --- comparison -----------------------------------------------------------------------------------


def test_a_cell_is_compared_by_its_intervals(drawn):
    where = {"checkpoint": "main", "evaluation": "paws", "prompt": "default", "split": "test"}
    base = where | {"selection": "base"}
    rows = changed(**base, metric="accuracy", value=0.5)
    for theirs, disjoint in ((0.558, "no"), (0.56, "yes")):  # 1.96 x (0.02 + 0.01) = 0.0588
        public = [
            r | {"value": theirs} if base.items() <= r.items() and r["shots"] else r
            for r in PUBLISHED
        ]
        found = drawn("comparison", [*rows, *public])
        own = found[(found.Group == "base model") & (found.Checkpoint == "main")]
        (row,) = own[(own.Evaluation == "PAWS") & (own.Format == "default")].to_dict("records")
        assert (row["Ours"], row["Difference"]) == ("0.500", f"{0.5 - theirs:+.3f}")
        assert row["Ours, 95 %"] == "0.461 to 0.539" and row["Disjoint"] == disjoint


def test_counts_are_those_of_the_comparison(drawn):
    rows = [*OURS, *PUBLISHED]
    cells, counts = drawn("comparison", rows), drawn("comparison_counts", rows).set_index("Group")
    for group, own in cells.groupby("Group"):
        assert counts.loc[group, "Scores"] == str(len(own))
        assert counts.loc[group, "Intervals disjoint"] == str((own.Disjoint == "yes").sum())
        assert counts.loc[group, "With both intervals"] == str((own.Disjoint != "-").sum())
    assert counts.loc["All", "Scores"] == str(len(cells))


def test_without_a_published_interval_nothing_is_called_disjoint(drawn):
    public = [r | {"stderr": math.nan} for r in PUBLISHED]
    counts = drawn("comparison_counts", [*OURS, *public]).set_index("Group")
    assert counts.loc["All", "With both intervals"] == "0" and counts.loc["All", "Share"] == "-"


# --- at another scale -----------------------------------------------------------------------------


@pytest.fixture
def small() -> Targets:
    """Checkpoints that are budgets, and a stand-in for PAWS."""
    config = copy.deepcopy(PAPERS)
    config["scale"] = "demo scale"
    hub = config["models"]["OLMo-1B-steps"]["hub"]
    hub["checkpoints"] = {n: {"revision": n, "tokens": n} for n in ("0.84M", "1.68M")}
    config["models"]["OLMo-1B-steps"]["reference"] = "1.68M"
    config["tasks"]["next"] = config["tasks"]["paws"] | {"title": "next word", "stands_for": "paws"}
    config["task_suites"][STUDY]["evaluations"]["paws"]["task"] = "next"
    config[STUDY]["ours"]["tuned"]["paws"]["task"] = "next"
    return targets_of(config)


def test_targets_of_ours_have_our_checkpoints_titles_and_scale(small):
    mine = json.loads(small.figure_slice(STUDY, "fig09_ours"))
    assert mine["checkpoints"] == ["0.84M", "1.68M"] and mine["scale"] == "demo scale"
    assert mine["trained_on"]["paws"] == "next word\n(for PAWS)"
    assert mine["evaluations"]["paws"]["title"] == "next word\n(for PAWS)"
    assert mine["evaluations"]["qqp"]["title"] == "QQP"  # not of withheld labels
    both = json.loads(small.figure_slice(STUDY, "fig09_both"))
    assert both["checkpoints"] == ["0.84M", "1.68M", *CHECKPOINTS]
    assert both["trained_on"]["paws"] == "PAWS" and both["scale"] == "demo scale"
    theirs = json.loads(small.figure_slice(STUDY, "fig09"))
    assert theirs["checkpoints"] == CHECKPOINTS and theirs["scale"] is None


def test_both_stand_at_their_own_checkpoints(small, drawn):
    found = drawn("fig04_both", [*ours(small), *PUBLISHED], small)
    own = found.groupby("source").checkpoint.agg(set).to_dict()
    assert own == {"ours": {"0.84M", "1.68M"}, "published": set(CHECKPOINTS)}


def test_a_comparison_without_a_common_checkpoint_has_two_halves(small, drawn):
    counts = drawn("comparison_counts", [*ours(small), *PUBLISHED], small).set_index("Group")
    assert counts.loc["All", "Of both"] == "0" and int(counts.loc["All", "Scores"]) > 100


# --- hours and licences ---------------------------------------------------------------------------


def hours(spent: bool) -> list[dict]:
    """One hour for each task's training, two for its evaluation; half of it spent."""
    rows = []
    tasks = [own["task"] for own in PAPERS[STUDY]["ours"]["tuned"].values()]
    for task in [None, *tasks]:
        for part, value in (("training", 1.0), ("evaluation", 2.0)):
            if part == "training" and not task:
                continue
            row = {"study": STUDY, "source": "ours", "task": task, "evaluation": part}
            row["selection"] = "last" if task else "base"
            rows.append(row | {"metric": "gpu_hours_expected", "value": value})
            if spent and (part, task) != ("training", "mnli"):
                rows.append(row | {"metric": "gpu_hours_spent", "value": value / 2})
    return rows


def test_the_papers_hours_are_those_that_it_adds_up_to(drawn):
    found = drawn("table2", hours(spent=False))
    table = found.set_index(found.columns[0])
    total = table.loc["Total, printed"]
    assert total[["XSum", "SocialIQa", "MNLI", "TULU-v2"]].tolist() == [
        "137.2",
        "62.6",
        "32.3",
        "370",
    ]
    assert total["All"] == "1067"
    study = TARGETS.catalogue.settings.amuro_char.hours
    every = sum(sum(of.values()) for of in study.tuned.values()) + study.preliminary
    assert every == pytest.approx(1067, abs=1)  # "approximately 1067 A100 hours"


def test_our_hours_stand_beside_the_papers(drawn):
    found = drawn("table2_ours", hours(spent=True))
    table = found.set_index(found.columns[0])
    assert table.loc["Ours, training, expected", "MNLI"] == "1"
    assert table.loc["Ours, all evaluations, spent", "MNLI"] == "1"
    assert table.loc["Ours, total, expected", "All"] == "17"
    assert table.loc["Ours, training, spent", "MNLI"] == "-"  # its benchmark files are not there
    assert table.loc["Ours, total, spent", ["MNLI", "All"]].tolist() == ["-", "-"]
    assert table.loc["Ours, total, spent", "Base model"] == "1"


def test_hours_without_a_gpu_are_of_cores():
    config = copy.deepcopy(PAPERS)
    config["resources"]["finetune_instruct"]["1B"]["gpu"] = 0
    settings = json.loads(targets_of(config).table_slice(STUDY, "table2"))
    assert settings["unit"] == "core-hours"


def test_licences_are_printed_in_the_papers_order(tmp_path):
    config = copy.deepcopy(PAPERS)
    config[STUDY]["licences"]["PAWS"]["hub"] = "other"
    settings = json.loads(targets_of(config).table_slice(STUDY, "table4"))
    tables.write(settings, tmp_path / "table4.csv")
    found = pd.read_csv(tmp_path / "table4.csv", dtype=str, keep_default_na=False)
    assert found.Name.tolist() == list(PAPERS[STUDY]["licences"]) and len(found) == 18
    assert found.set_index("Name").loc["PAWS"].tolist() == ["Free", "other"]
    assert found.set_index("Name").loc["RTE", "As printed"] == "N/A"

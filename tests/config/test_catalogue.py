"""Slices are stable text, checkpoints keep their names, a figure asks for its own slice only."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from configuration import PAPERS, ROOT, at_scale, catalogue_of

from overtrain.config.catalogue import WITH_STATISTICS
from overtrain.config.models import Checkpoint
from overtrain.config.units import tokens_of

CONFIG = PAPERS
PAPER = "overtrained"
OTHER = {"revision": "main", "tokens": "1B"}
POINTS = CONFIG["models"]["OLMo-1B"]["hub"]["checkpoints"]
SLICES = {
    "corpus_slice": ("pydoc",),
    "task_slice": ("rte",),
    "pretraining_slice": ("OLMo-30M", "8B"),
    "download_slice": ("OLMo-1B", "0.5T"),
    "download_judge_slice": ("llama3_70b",),
    "alpaca_slice": ("OLMo-1B", "instruct"),
    "generation_slice": (),
    "sweep_slice": ("rte", "default"),
    "c4_slice": ("OLMo-30M",),
    "perturbation_slice": ("OLMo-30M",),
    "sharpness_slice": ("OLMo-30M",),
    "interpolation_slice": ("OLMo-30M", "gaussian"),
    "theory_slice": ("fine_tuning",),
    "aggregate_slice": (PAPER, "fig05"),
    "figure_slice": (PAPER, "fig05"),
    "table_slice": (PAPER, "table3"),
}


def backwards(value: object) -> object:
    """The same mapping with the keys of every level in reverse order, as an overlay may do."""
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return value


@pytest.fixture
def config() -> dict:
    return copy.deepcopy(CONFIG)


@pytest.mark.parametrize(("name", "arguments"), SLICES.items(), ids=SLICES)
def test_a_slice_is_text_that_no_order_of_keys_changes(config, name, arguments):
    slice_ = getattr(catalogue_of(config), name)(*arguments)
    assert isinstance(slice_, str) and json.loads(slice_)
    assert getattr(catalogue_of(backwards(config)), name)(*arguments) == slice_


def changed_by(config: dict, path: str, value: object, slices: dict[str, tuple]) -> set[str]:
    """Names of the `slices`, {name: (method, *arguments)}, that setting a key changes."""
    before = catalogue_of(config)
    *parents, last = path.split(".")
    level = config
    for key in parents:
        level = level[key]
    assert level[last] != value
    level[last] = value
    after = catalogue_of(config)
    return {
        name
        for name, (method, *own) in slices.items()
        if getattr(before, method)(*own) != getattr(after, method)(*own)
    }


@pytest.mark.parametrize(
    ("path", "value", "changes"),
    [
        ("scale", "demo scale", {"figure_slice", "table_slice"}),
        ("corpora.pydoc.held_out", 41, {"corpus_slice"}),
        ("corpora.pydoc.title", "other", set()),  # no model of this figure reads it
        ("corpora.c4.title", "web", {"figure_slice"}),
        ("models.OLMo-1B.hub.repository", "other", {"download_slice"}),
        ("models.OLMo-1B.hub.checkpoints", POINTS | {"0.5T": OTHER}, {"download_slice"}),
        ("models.OLMo-1B.hub.checkpoints", POINTS | {"1.5T": OTHER}, set()),
        ("models.OLMo-1B.window", 1024, set()),
        ("tasks.rte.title", "RTE!", {"figure_slice"}),
        ("tasks.rte.prompt", "{sentence1}", {"task_slice"}),
        ("tasks.rte.loss_on", "all", {"sweep_slice"}),
        ("models.OLMo-30M.title", "30M", {"figure_slice", "table_slice"}),
        ("models.OLMo-30M.tokens_per_second", 1.0, set()),
        ("models.OLMo-30M.budgets", ["8B"], {"aggregate_slice", "table_slice"}),
        ("pretraining.clip", 2.0, {"pretraining_slice", "table_slice"}),
        ("recipes.default.epochs", 5, {"sweep_slice"}),
        ("recipes.batch32.epochs", 5, set()),
        ("evaluations.c4.tokens", 5, {"c4_slice", "perturbation_slice"}),
        ("evaluations.batch_tokens", 5, set()),
        ("perturbation.seeds", [7], {"perturbation_slice"}),
        ("sharpness.tokens", 5, {"sharpness_slice"}),
        ("sharpness.gammas", [0.1], {"sharpness_slice"}),
        ("sharpness.seeds", [7], {"sharpness_slice"}),
        ("statistics.level", 0.9, {"aggregate_slice"}),
        ("figures.overtrained.fig05.title", "other", {"figure_slice"}),
        ("figures.overtrained.fig04.title", "other", set()),
        ("task_sets.six", ["rte"], {"aggregate_slice", "figure_slice"}),
        ("resources.draw.mem_mb", 1, set()),
        ("judges.llama3_70b.top_logprobs", None, {"alpaca_slice"}),
        ("judges.llama3_70b.attempts", 1, {"alpaca_slice"}),
        ("judges.llama3_70b.max_model_len", 4096, {"alpaca_slice"}),
        ("judges.llama3_70b.model", "a/b", {"alpaca_slice", "download_judge_slice"}),
        ("judges.llama3_70b.revision", "v2", {"download_judge_slice"}),  # whose output it reads
        ("judges.llama3_70b.concurrency", 1, set()),
        ("judges.llama3_70b.timeout", 1, set()),
        ("judges.endpoint.attempts", 1, set()),  # not the one that judges
        ("evaluations.alpaca.judge", "answer_overlap", {"alpaca_slice"}),
        ("evaluations.alpaca.max_new_tokens", 5, {"generation_slice"}),
    ],
)
def test_a_slice_holds_what_its_result_depends_on_and_nothing_else(config, path, value, changes):
    slices = {name: (name, *arguments) for name, arguments in SLICES.items()}
    assert changed_by(config, path, value, slices) == changes


THEORY = {
    **{name: ("theory_slice", name) for name in ("pretraining", "noise", "fine_tuning")},
    "sharpness": ("sharpness_slice", "OLMo-30M"),
    "aggregate": ("aggregate_slice", PAPER, "theory_tradeoff"),
    "figure": ("figure_slice", PAPER, "theory_tradeoff"),
    "sharpness figure": ("figure_slice", PAPER, "theory_sharpness"),
}
EXPERIMENTS = {"pretraining", "noise", "fine_tuning"}


@pytest.mark.parametrize(
    ("path", "value", "changes"),
    [
        ("theory.features.count", 9, EXPERIMENTS),
        ("theory.tau", 100, EXPERIMENTS),
        ("theory.seeds", [0], EXPERIMENTS),
        ("theory.pretraining.taus", [20], {"pretraining"}),
        ("theory.noise.gammas", [0.1], {"noise"}),
        ("theory.noise.draws", 9, {"noise"}),
        ("theory.fine_tuning.lambdas", [0], {"fine_tuning"}),
        ("theory.fine_tuning.batch_size", 9, {"fine_tuning"}),
        ("theory.fine_tuning.step", 0.1, {"fine_tuning"}),
        ("theory.fine_tuning.tolerance", 0.1, {"fine_tuning"}),
        ("theory.fine_tuning.spectra.graded", [1, 2], {"fine_tuning", "figure"}),  # its legend
        ("figures.overtrained.theory_tradeoff.title", "other", {"figure"}),
        ("figures.overtrained.theory_tradeoff.lambdas", [0], {"figure"}),
        ("figures.overtrained.theory_noise.title", "other", set()),
        ("figures.overtrained.theory_sharpness.title", "other", {"sharpness figure"}),
        ("figures.overtrained.theory_tradeoff.plot", "theory_noise", {"figure", "aggregate"}),
        ("sharpness.tokens", 9, {"sharpness"}),
        ("models.OLMo-30M.corpus", "pydoc", {"sharpness", "sharpness figure"}),
        ("models.OLMo-30M.title", "30M", {"sharpness figure"}),
        ("perturbation.gammas", [0.1], set()),
        ("evaluations.c4.tokens", 9, set()),
        ("scale", "demo scale", {"sharpness figure"}),  # simulations are the same at every scale
        ("resources.theory.threads", 2, set()),
    ],
)
def test_a_slice_of_the_theory_holds_its_own_experiment_only(config, path, value, changes):
    assert changed_by(config, path, value, THEORY) == changes


STUDY = "amuro_char"
PUBLISHED = {
    "files": ("released_numbers_slice", STUDY),
    "reading": ("reading_slice", STUDY),
    "aggregate": ("aggregate_slice", STUDY, "fig04"),
    "figure": ("figure_slice", STUDY, "fig04"),
    "table aggregate": ("aggregate_slice", STUDY, "table5"),
    "table": ("table_slice", STUDY, "table5"),
    "tasks": ("table_slice", STUDY, "table1"),
    "other": ("figure_slice", PAPER, "fig05"),
}
CELLS = [{"task": "mnli", "evaluation": "qqp"}]
DRAWN = {"figure", "table"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_slice_of_published_numbers_is_text_that_no_order_of_keys_changes(config, name):
    method, *arguments = PUBLISHED[name]
    slice_ = getattr(catalogue_of(config), method)(*arguments)
    assert isinstance(slice_, str) and json.loads(slice_)
    turned = backwards(config)
    turned[STUDY]["tasks"] = config[STUDY]["tasks"]  # whose order is the paper's
    assert getattr(catalogue_of(turned), method)(*arguments) == slice_


@pytest.mark.parametrize(
    ("path", "value", "changes"),
    [
        # Where files come from is no property of them; their hashes say what they are.
        ("released_numbers.amuro_char.url", "https://example.org/{file}", set()),
        ("released_numbers.amuro_char.commit", "0" * 40, set()),
        ("released_numbers.amuro_char.local", "copies", set()),
        ("released_numbers.amuro_char.download", False, set()),
        ("released_numbers.amuro_char.files", {"all_perf_table.csv": "0" * 64}, {"files"}),
        ("amuro_char.checkpoints", ["step1000", "main"], {"reading"} | DRAWN),
        ("amuro_char.model", "OLMo-7B", {"reading"}),
        ("amuro_char.shots", 2, {"aggregate", "table aggregate"}),
        ("amuro_char.evaluations.xsum.metric", "bleu", {"reading", "tasks"} | DRAWN),
        ("amuro_char.evaluations.xsum.title", "X", {"tasks"} | DRAWN),
        ("amuro_char.trained_on.mnli", "M", {"tasks"} | DRAWN),
        ("amuro_char.tasks.inference.learning_rate", 2.0e-5, {"tasks"}),
        ("amuro_char.measurements", ["ours.parquet"], set()),  # while a target shows none
        ("figures.amuro_char.fig04.title", "other", {"figure"}),
        ("figures.amuro_char.fig05.title", "other", set()),
        ("figures.amuro_char.fig04.plot", "base_by_checkpoint", {"figure", "aggregate"}),
        (
            "figures.amuro_char.fig04.groups",
            [{"title": "one", "cells": CELLS}],
            {"figure", "aggregate"},
        ),
        ("tables.amuro_char.table5.caption", "other", {"table"}),
        ("tables.amuro_char.table1.caption", "other", {"tasks"}),
        ("scale", "demo scale", {"other"}),  # published numbers are the same at every scale
        ("resources.draw.mem_mb", 1, set()),
    ],
)
def test_a_slice_of_published_numbers_holds_its_own(config, path, value, changes):
    assert changed_by(config, path, value, PUBLISHED) == changes


@pytest.mark.parametrize(
    ("name", "evaluations", "prompts"),
    [
        ("fig03", {"hellaswag", "mnli_matched"}, ["default"]),
        ("fig05", {"mnli_matched"}, ["default", "instruction", "input_output"]),
        (
            "fig04",
            {"sciq", "hellaswag", "arc_challenge", "arc_easy", "openbookqa", "boolq", "paws"}
            | {"mnli_matched", "mnli_mismatched", "xsum", "xlsum", "socialiqa"},
            ["default"],
        ),
        ("transfer", {"xsum", "socialiqa", "mnli_matched", "paws"}, ["default"]),
    ],
)
def test_an_aggregate_of_published_numbers_asks_for_what_its_target_names(
    config, name, evaluations, prompts
):
    catalogue = catalogue_of(config)
    only = catalogue.only(catalogue.target(STUDY, name))
    assert set(only) == {"evaluation", "prompt", "shots"}
    assert set(only["evaluation"]) == evaluations
    assert len(only["evaluation"]) == len(evaluations)
    assert only["prompt"] == prompts and only["shots"] == [4, None]
    assert json.loads(catalogue.aggregate_slice(STUDY, name))["only"] == only


def test_only_aggregates_by_tokens_depend_on_the_statistics_settings(config):
    figures = {n: f for n, f in config["figures"][PAPER].items() if n != "fig07"}  # no aggregate
    slices = {name: ("aggregate_slice", PAPER, name) for name in figures}
    by_tokens = {n for n, f in figures.items() if f["plot"] in WITH_STATISTICS}
    assert {"fig03", "fig05", "fig06"} <= by_tokens < set(figures)
    assert changed_by(config, "statistics.bootstrap", 500, slices) == by_tokens


def test_aggregates_of_other_papers_keep_every_value(config):
    catalogue = catalogue_of(config)
    assert catalogue.only(catalogue.target(PAPER, "fig05")) == {}


@pytest.mark.parametrize(("kind", "name"), [("figures", "fig03"), ("tables", "transfer")])
def test_a_target_takes_published_numbers_ours_or_both(config, kind, name):
    mine = ["results/measurements/a.parquet", "results/measurements/b.parquet"]
    config[STUDY]["measurements"] = mine
    theirs = ["results/measurements/released_numbers/amuro_char.parquet"]
    found = {}
    for source in ("published", "ours", "both"):
        config[kind][STUDY][name]["source"] = source
        found[source] = catalogue_of(config).measurements(STUDY, name)
    assert found == {"published": theirs, "ours": mine, "both": theirs + mine}


def test_only_tables_of_measurements_have_an_aggregate(config):
    catalogue = catalogue_of(config)
    found = {
        (paper, table): catalogue.table_aggregate(paper, table)
        for paper, table in catalogue.targets("tables")
    }
    measured = {name for (_, name), files in found.items() if files}
    assert measured == {"table5", "transfer", "transfer_cells"}
    assert found[STUDY, "table5"] == ["results/aggregates/amuro_char/table5.parquet"]
    assert found[STUDY, "table1"] == found[PAPER, "table3"] == []


@pytest.fixture
def away(config, tmp_path, monkeypatch) -> dict:
    """A configuration in an empty folder that may not use the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OVERTRAIN_RELEASED_NUMBERS", raising=False)
    config["released_numbers"][STUDY] |= {"download": False, "local": None}
    return config


def copies(root: Path, config: dict) -> str:
    """A folder with (empty) copies of the released files."""
    for name in config["released_numbers"][STUDY]["files"]:
        path = root / "copies" / STUDY / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return str(root / "copies")


def left_out(config: dict, kind: str) -> set[tuple[str, str]]:
    catalogue = catalogue_of(config)
    every, here = (list(catalogue.targets(kind, here=here)) for here in (False, True))
    assert [target for target in every if target in here] == here
    return set(every) - set(here)


def test_what_needs_published_numbers_that_are_not_here_is_left_out_and_only_that(away):
    assert left_out(away, "figures") == {(STUDY, name) for name in away["figures"][STUDY]}
    tables = {"table5", "transfer", "transfer_cells"}  # the others are settings
    assert left_out(away, "tables") == {(STUDY, name) for name in tables}
    (line,) = catalogue_of(away).absent.values()
    assert "\n" not in line and line.startswith("the released numbers of amuro_char are not here")
    assert (
        "released_numbers.amuro_char.download is false" in line
        and "OVERTRAIN_RELEASED_NUMBERS" in line
    )


def test_a_figure_of_our_numbers_alone_is_not_left_out(away):
    away[STUDY]["measurements"] = ["ours.parquet"]
    away["figures"][STUDY]["fig03"]["source"] = "ours"
    away["figures"][STUDY]["fig06"]["source"] = "both"
    found = left_out(away, "figures")
    assert (STUDY, "fig03") not in found and (STUDY, "fig06") in found


@pytest.mark.parametrize("way", ["download", "local", "environment", "results"])
def test_published_numbers_that_can_be_had_are_asked_for(away, way, tmp_path, monkeypatch):
    if way == "download":
        away["released_numbers"][STUDY]["download"] = True
    elif way == "local":
        away["released_numbers"][STUDY]["local"] = copies(tmp_path, away)
    elif way == "environment":
        monkeypatch.setenv("OVERTRAIN_RELEASED_NUMBERS", copies(tmp_path, away))
    else:
        Path("results/released_numbers/amuro_char").mkdir(parents=True)
    assert catalogue_of(away).absent == {}
    assert left_out(away, "figures") == left_out(away, "tables") == set()


def test_a_folder_that_lacks_a_file_is_none(away, tmp_path):
    away["released_numbers"][STUDY]["local"] = copies(tmp_path, away)
    next((tmp_path / "copies" / STUDY).iterdir()).unlink()
    assert set(catalogue_of(away).absent) == {STUDY}


def test_targets_of_a_study_print_its_order_titles_and_metrics(config):
    settings = json.loads(catalogue_of(config).figure_slice(STUDY, "fig03"))
    assert settings["checkpoints"] == config[STUDY]["checkpoints"]
    assert settings["evaluations"] == config[STUDY]["evaluations"]
    assert settings["trained_on"] == config[STUDY]["trained_on"]
    assert config["figures"][STUDY]["fig03"].items() <= settings.items()


@pytest.mark.parametrize(
    ("budget", "tokens"),
    [("4B", 4_000_000_000), ("0.84M", 840_000), ("13.5M", 13_500_000), ("2T", 2 * 10**12)],
)
def test_tokens_of_a_budgets_name(budget, tokens):
    assert tokens_of(budget) == tokens


def test_seeds_beyond_zero_are_in_the_checkpoints_name_and_rename_no_other(config):
    one = catalogue_of(config).checkpoints("OLMo-15M")
    assert [c.name for c in one] == ["4B", "8B", "16B", "32B", "64B", "128B"]
    config["models"]["OLMo-15M"] |= {"seeds": [0, 3], "budgets": ["16B", "8B"]}
    two = catalogue_of(config)
    assert two.checkpoints("OLMo-15M") == [
        Checkpoint("OLMo-15M", "8B", 8 * 10**9, 0),
        Checkpoint("OLMo-15M", "8B-seed3", 8 * 10**9, 3),
        Checkpoint("OLMo-15M", "16B", 16 * 10**9, 0),
        Checkpoint("OLMo-15M", "16B-seed3", 16 * 10**9, 3),
    ]
    slices = [two.pretraining_slice("OLMo-15M", name) for name in ("8B", "8B-seed3")]
    assert [json.loads(s)["seed"] for s in slices] == [0, 3]
    assert slices[0] == catalogue_of(CONFIG).pretraining_slice("OLMo-15M", "8B")


BUDGETS = CONFIG["models"]["OLMo-30M"]["budgets"]
SIX = CONFIG["task_sets"]["six"]


@pytest.mark.parametrize(
    ("figure", "tasks", "evaluations"),
    [
        ("fig04", CONFIG["task_sets"]["language"], ["c4"]),
        ("fig05", SIX, ["c4", "id"]),
        ("fig06", SIX, ["c4", "id"]),
        ("fig08", ["gsm8k"], ["training"]),
        ("fig29", CONFIG["task_sets"]["all"], ["c4"]),
    ],
)
def test_a_figure_asks_for_its_own_measurements_only(config, figure, tasks, evaluations):
    files = catalogue_of(config).measurements(PAPER, figure)
    assert len(set(files)) == len(files)
    assert set(files) == {
        f"results/measurements/OLMo-30M/{budget}/{task}/default/{evaluation}.parquet"
        for budget in BUDGETS
        for task in tasks
        for evaluation in evaluations
    }


# Table 6 of the paper: the first figure of each setting, and its model and recipe.
SETTINGS = {
    30: ("OLMo-30M", "batch256"),
    35: ("OLMo-30M", "batch32"),
    40: ("OLMo-30M", "constant"),
    45: ("OLMo-30M", "constant_warmup"),
    50: ("OLMo-15M", "default"),
    55: ("OLMo-30M", "default"),
    60: ("OLMo-90M", "default"),
}
# Its columns: plot, evaluation that is shown, evaluations that are read.
COLUMNS = [
    ("learning_rates_by_tokens", "c4", ["c4"]),
    ("learning_rates_by_tokens", "id", ["c4", "id"]),  # the cut is on held-out text
    ("tuned_by_tokens", "c4", ["c4", "id"]),  # validation chooses
    ("tuned_by_tokens", "id", ["id"]),
    ("optimal_rate_by_tokens", None, ["id"]),
]


@pytest.mark.parametrize("first", SETTINGS)
@pytest.mark.parametrize("column", range(len(COLUMNS)))
def test_figures_30_to_64_are_those_of_the_papers_table(config, first, column):
    model, recipe = SETTINGS[first]
    plot, shown, read = COLUMNS[column]
    figure = f"fig{first + column}"
    catalogue = catalogue_of(config)
    settings = json.loads(catalogue.figure_slice(PAPER, figure))
    assert settings["plot"] == plot
    rows = [{"evaluation": shown, "quantity": "absolute"}]
    assert settings.get("rows") == (rows if shown else None)
    assert settings["models"] == [model] and len(settings["tasks"]) == 10
    files = catalogue.measurements(PAPER, figure)
    assert len(set(files)) == len(files)
    assert set(files) == {
        f"results/measurements/{model}/{budget}/{task}/{recipe}/{evaluation}.parquet"
        for budget in BUDGETS
        for task in CONFIG["task_sets"]["all"]
        for evaluation in read
    }


def test_titles_of_figures_30_to_64_differ_and_say_the_setting(config):
    config["recipes"]["batch256"]["batch_size"] = 16
    config["model_sets"]["small"] = ["OLMo-4K"]
    catalogue = catalogue_of(config)
    titles = [json.loads(catalogue.figure_slice(PAPER, f"fig{n}"))["title"] for n in range(30, 65)]
    assert len(set(titles)) == 35
    assert all(title.startswith("Batch size 16: ") for title in titles[:5])
    assert all(title.startswith("OLMo-4K: ") for title in titles[20:25])
    assert not [title for title in titles if "{" in title]


def test_the_schematic_has_no_measurements_and_no_scale(config):
    config["scale"] = "demo scale"
    catalogue = catalogue_of(config)
    assert catalogue.figure_aggregate(PAPER, "fig07") == []
    assert json.loads(catalogue.figure_slice(PAPER, "fig07"))["scale"] is None
    others = [target for target in catalogue.targets("figures") if target[1] != "fig07"]
    assert [catalogue.figure_aggregate(*target) for target in others] == [
        [f"results/aggregates/{paper}/{figure}.parquet"] for paper, figure in others
    ]


def test_a_stand_in_says_what_it_stands_for_beside_the_others_of_the_figure(config):
    tasks = config["tasks"]
    tasks["sympy_docs"]["stands_for"] = "gsm8k"  # one name needs no list
    tasks["two_packages"]["stands_for"] = ["mr", "rte"]
    tasks["same_docstring"]["stands_for"] = ["rte", "boolq"]
    catalogue = catalogue_of(config)
    ten = config["task_sets"]["all"]
    assert catalogue.task_titles(["sympy_docs", "mr", "two_packages"], ten) == {
        "sympy_docs": "sympy docs\n(for GSM8K)",
        "mr": "MR",
        "two_packages": "statsmodels or sympy\n(for MR, RTE)",
    }
    assert catalogue.task_titles(["same_docstring", "two_packages"], ten) == {
        "same_docstring": "same docstring?\n(for RTE, BoolQ)",
        "two_packages": "statsmodels or sympy\n(for MR)",
    }
    assert catalogue.task_titles(["same_docstring", "two_packages"], ["boolq"]) == {
        "same_docstring": "same docstring?\n(for BoolQ)",
        "two_packages": "statsmodels or sympy",
    }


def test_a_panel_names_only_tasks_that_the_papers_figure_has(config):
    papers = config["task_sets"]
    config["task_sets"] = papers | {"six": ["six_packages"], "interpolation": ["six_packages"]}
    catalogue = catalogue_of(config)
    titles = [json.loads(catalogue.figure_slice(PAPER, f))["titles"] for f in ("fig05", "fig10")]
    assert [title["six_packages"].split("\n")[1] for title in titles] == [
        "(for TREC)",
        "(for AG News)",
    ]


@pytest.mark.parametrize("tasks", ["six", "all"])
def test_the_demos_stand_ins_cover_the_papers_tasks_once_each(tasks):
    overlay = at_scale("profiles/demo/overlay.yaml")
    papers = CONFIG["task_sets"][tasks]
    titles = catalogue_of(CONFIG).task_titles(overlay["task_sets"][tasks], papers)
    named = " ".join(title.split("\n(for ")[1].rstrip(")") for title in titles.values())
    assert all(len(title.splitlines()) <= 3 for title in titles.values())
    found = named.replace(",", " ").split()
    assert sorted(found) == sorted(" ".join(CONFIG["tasks"][t]["title"] for t in papers).split())


def test_the_noise_figure_asks_for_no_fine_tune(config):
    files = catalogue_of(config).measurements(PAPER, "fig03")
    assert files == [f"results/measurements/OLMo-30M/{b}/gaussian.parquet" for b in BUDGETS]


@pytest.mark.parametrize(
    ("figure", "experiment"),
    [
        ("theory_features", "pretraining"),
        ("theory_noise", "noise"),
        ("theory_sensitivity", "fine_tuning"),
        ("theory_tradeoff", "fine_tuning"),
    ],
)
def test_a_theory_figure_asks_for_its_experiment_and_says_no_scale(config, figure, experiment):
    config["scale"] = "demo scale"
    catalogue = catalogue_of(config)
    files = [f"results/measurements/theory/{experiment}.parquet"]
    assert catalogue.measurements(PAPER, figure) == files
    settings = json.loads(catalogue.figure_slice(PAPER, figure))
    assert settings["scale"] is None
    assert config["figures"][PAPER][figure].items() <= settings.items()


def test_a_theory_figure_knows_the_ratios_of_its_spectra(config):
    for figure in ("theory_sensitivity", "theory_tradeoff"):
        settings = json.loads(catalogue_of(config).figure_slice(PAPER, figure))
        assert set(settings["spectra"]) <= set(settings["ratios"])
        assert settings["ratios"]["alpha3"] == [3.0, 3.0]


def test_the_sharpness_figure_asks_for_every_checkpoint_and_says_the_scale(config):
    config["scale"] = "demo scale"
    catalogue = catalogue_of(config)
    files = catalogue.measurements(PAPER, "theory_sharpness")
    assert files == [f"results/measurements/OLMo-30M/{b}/sharpness.parquet" for b in BUDGETS]
    settings = json.loads(catalogue.figure_slice(PAPER, "theory_sharpness"))
    assert settings["scale"] == "demo scale" and settings["models"] == ["OLMo-30M"]
    assert settings["titles"] == {"OLMo-30M": "OLMo-30M"}


DIRECTIONS = {
    "gaussian": ("interpolation_slice", "OLMo-30M", "gaussian"),
    "fine-tuning": ("interpolation_slice", "OLMo-30M", "fine_tuning"),
    **{f: ("figure_slice", PAPER, f) for f in ("fig09", "fig10")},
    "rows of fig09": ("aggregate_slice", PAPER, "fig09"),
    "run": ("sweep_slice", "ag_news", "direction"),
}


@pytest.mark.parametrize(
    ("path", "value", "changes"),
    [
        ("interpolation.tokens", 9, {"gaussian", "fine-tuning"}),
        ("interpolation.last", 2, {"rows of fig09"}),
        ("interpolation.gaussian.seed", 9, {"gaussian"}),
        ("interpolation.gaussian.wide", [-1, 3], {"gaussian", "fig09"}),
        ("interpolation.gaussian.near", [-0.02, 0.02], {"gaussian", "fig09"}),  # wide has these
        ("interpolation.fine_tuning.near", [0, 0.5], {"fine-tuning", "fig10"}),
        ("recipes.direction.learning_rates", [0.1], {"run"}),
        ("recipes.default.learning_rates", [0.1], set()),
        ("perturbation.gammas", [0.1], set()),
        ("scale", "demo scale", {"fig09", "fig10"}),
    ],
)
def test_a_slice_of_a_direction_holds_its_own_settings_only(config, path, value, changes):
    assert changed_by(config, path, value, DIRECTIONS) == changes


def test_a_lambda_that_another_panel_shows_is_not_measured_again(config):
    slice_ = catalogue_of(config).interpolation_slice("OLMo-30M", "fine_tuning")
    own = config["interpolation"]["fine_tuning"]
    own["near"], own["wide"] = [*own["near"], 0.25], [x for x in own["wide"] if x not in (0, 0.25)]
    assert catalogue_of(config).interpolation_slice("OLMo-30M", "fine_tuning") == slice_
    assert 0.0 in json.loads(slice_)["lambdas"]


def test_the_direction_figures_ask_for_the_last_budgets_of_the_first_seed(config):
    config["models"]["OLMo-30M"]["seeds"] = [0, 1]
    catalogue = catalogue_of(config)
    folder = "results/measurements/OLMo-30M"
    files = [f"{folder}/{b}/interpolation.parquet" for b in ("32B", "64B", "128B")]
    assert catalogue.measurements(PAPER, "fig09") == files
    files = [f"{folder}/{b}/ag_news/direction/interpolation.parquet" for b in BUDGETS[-3:]]
    assert catalogue.measurements(PAPER, "fig10") == files
    config["models"]["OLMo-30M"]["seeds"] = [1]
    config["interpolation"]["last"] = 1
    files = [f"{folder}/128B-seed1/interpolation.parquet"]
    assert catalogue_of(config).measurements(PAPER, "fig09") == files


def test_the_direction_figures_know_their_panels(config):
    for figure, direction in (("fig09", "gaussian"), ("fig10", "fine_tuning")):
        settings = json.loads(catalogue_of(config).figure_slice(PAPER, figure))
        own = config["interpolation"][direction]
        assert (settings["near"], settings["wide"]) == (own["near"], own["wide"])


def test_figure_65_asks_for_noise_alone_on_ours_and_on_released_models_of_one_text(config):
    catalogue = catalogue_of(config)
    files = catalogue.measurements(PAPER, "fig65")
    released = ("OLMo-1B", "OLMo-2-7B", "LLM360-Amber")
    points = {m: BUDGETS for m in ("OLMo-15M", "OLMo-90M")}
    points |= {m: list(config["models"][m]["hub"]["checkpoints"]) for m in released}
    assert sorted(files) == sorted(
        f"results/measurements/{m}/{name}/gaussian.parquet" for m in points for name in points[m]
    )
    settings = json.loads(catalogue.figure_slice(PAPER, "fig65"))
    assert settings["text"] == "C4"  # of three corpora
    assert settings["models"] == list(points)


def test_a_released_models_checkpoints_are_the_hubs_with_their_budgets(config):
    catalogue = catalogue_of(config)
    assert catalogue.checkpoints("OLMo-1B")[-1] == Checkpoint("OLMo-1B", "3.1T", 3094 * 10**9, 0)
    assert json.loads(catalogue.download_slice("OLMo-1B", "3.1T")) == {
        "repository": "allenai/OLMo-1B-hf",
        "revision": "step738000-tokens3094B",
    }
    assert [catalogue.study_of(m) for m in ("OLMo-1B", "OLMo-15M")] == ["released", "controlled"]
    documented = json.loads(catalogue.perturbation_slice("OLMo-1B"))["initialisation"]
    assert documented == {"kind": "mitchell", "cutoff": 3}
    assert "initialisation" not in json.loads(catalogue.perturbation_slice("OLMo-15M"))


def test_a_released_checkpoint_that_is_null_is_left_out(config):
    config["models"]["LLM360-Amber"]["hub"]["checkpoints"]["1.3T"] = None
    catalogue = catalogue_of(config)
    assert [c.name for c in catalogue.checkpoints("LLM360-Amber")][-1] == "1.1T"
    assert "models.LLM360-Amber.hub.checkpoints.1.3T" not in catalogue.sources
    assert "models.LLM360-Amber.hub.checkpoints.1.1T" in catalogue.sources
    printed = json.loads(catalogue.table_slice("overtrained", "table1"))["model_settings"]
    assert "1.3T" not in printed["LLM360-Amber"]["hub"]["checkpoints"]


def test_every_checkpoint_is_made_by_one_rule(config):
    catalogue = catalogue_of(config)
    patterns = [catalogue.models_of(study) for study in ("controlled", "released")]
    for model in [*config["models"], "OLMo-1Bx", "OLMoX1B", "OLMo"]:
        matches = [bool(re.fullmatch(pattern, model)) for pattern in patterns]
        assert sum(matches) == (model in config["models"]), model
    config["models"] = {m: s for m, s in config["models"].items() if "hub" not in s}
    assert not re.search(catalogue_of(config).models_of("released"), "OLMo-1B")


def test_released_models_are_perturbed_with_resources_of_their_own(config):
    catalogue = catalogue_of(config)
    of = {m: catalogue.perturbation_resources(m) for m in ("OLMo-15M", "OLMo-2-7B")}
    assert of["OLMo-15M"].plain() == config["resources"]["perturb"]
    assert of["OLMo-2-7B"].mem_mb >= 29_200 + 5_000  # float32 weights, noise of a tensor


def test_runtime_grows_with_tokens_and_attempts_up_to_the_limit(config):
    config["models"]["OLMo-30M"]["tokens_per_second"] = 4e9 / 60 / 100  # 4B in 100 minutes
    catalogue = catalogue_of(config)

    def minutes(budget: str, attempt: int) -> int:
        return catalogue.pretraining_minutes("OLMo-30M", budget, attempt)

    assert [minutes(*own) for own in (("4B", 1), ("8B", 1), ("4B", 2))] == [180, 330, 360]
    assert minutes("128B", 3) == config["resources"]["pretrain"]["runtime"]


def test_the_catalogue_imports_nothing_heavy():
    code = (
        "import sys, overtrain.configuration, overtrain.config.check;"
        "print({'torch', 'transformers', 'pandas', 'numpy', 'pyarrow'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "scripts", capture_output=True, text=True
    )
    assert found.stdout.strip() == "set()", found.stderr


def test_a_judges_model_is_downloaded_if_a_job_here_loads_or_serves_it(config, tmp_path):
    assert catalogue_of(config).judge_folder() == ["results/judges/llama3_70b"]
    config["judges"]["llama3_70b"]["model"] = str(tmp_path)
    assert catalogue_of(config).judge_folder() == []
    assert not re.fullmatch(catalogue_of(config).fetched_judges(), "llama3_70b")
    for judge in ("endpoint", "answer_overlap"):
        config["evaluations"]["alpaca"]["judge"] = judge
        assert catalogue_of(config).judge_folder() == []
        assert not re.fullmatch(catalogue_of(config).fetched_judges(), judge)

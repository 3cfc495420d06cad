"""A figure asks for its own files and slice only, and prints names and titles of the scale."""

import json
from pathlib import Path

import pytest
from configuration import PAPERS, at_scale, catalogue_of, targets_of

from overtrain.figures.titles import stand_in_titles

PAPER, STUDY = "overtrained", "amuro_char"


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
    targets = targets_of(config)
    only = targets.target(STUDY, name).only(targets.catalogue)
    assert set(only) == {"evaluation", "prompt", "shots"}
    assert set(only["evaluation"]) == evaluations
    assert len(only["evaluation"]) == len(evaluations)
    assert only["prompt"] == prompts and only["shots"] == [4, None]
    rows = json.loads(targets.aggregate_slice(STUDY, name))["rows"]
    assert only.items() <= rows.items() and set(rows) - set(only) == {"metric", "selection"}


def test_only_aggregates_by_tokens_depend_on_the_statistics_settings(config):
    figures = [name for name in config["figures"][PAPER] if name != "fig07"]  # no aggregate
    before = targets_of(config)
    config["statistics"]["bootstrap"] = 500
    after = targets_of(config)
    changed = {
        f for f in figures if len({t.aggregate_slice(PAPER, f) for t in (before, after)}) == 2
    }
    assert changed == {f for f in figures if before.target(PAPER, f).modification}
    assert {"fig03", "fig05", "fig06"} <= changed < set(figures)


def test_aggregates_of_other_papers_keep_every_value(config):
    targets = targets_of(config)
    assert targets.target(PAPER, "fig05").only(targets.catalogue) == {}


@pytest.mark.parametrize(("kind", "name"), [("figures", "fig03"), ("tables", "transfer")])
def test_a_target_takes_released_numbers_ours_or_both(config, kind, name):
    theirs = ["results/measurements/released_numbers/amuro_char.parquet"]
    found = {}
    for source in ("published", "ours", "both"):
        config[kind][STUDY][name]["source"] = source
        found[source] = targets_of(config).measurements(STUDY, name)
    assert found["published"] == theirs and found["both"] == theirs + found["ours"]
    assert found["ours"] and not set(theirs) & set(found["ours"])


def of_ours(config: dict, name: str) -> set[str]:
    """What a target asks for of the first checkpoint and the last, without what all share."""
    files = targets_of(config).measurements(STUDY, name)
    assert len(set(files)) == len(files)
    short = "results/measurements/OLMo-1B-steps/"
    own = {f.removeprefix(short).removesuffix(".parquet") for f in files if f.startswith(short)}
    first = {f.removeprefix("main/") for f in own if f.startswith("main/")}
    assert own == {f"{point}/{f}" for point in config[STUDY]["checkpoints"] for f in first}
    return first


def runs(task: str, rate: str, *files: str, recipe: str = "completion") -> set[str]:
    return {f"{task}/{recipe}/lr{rate}-seed0/{file}" for file in files}


def test_the_base_alone_needs_no_run(config):
    assert of_ours(config, "fig02_ours") == {"tasks", "benchmarks"}
    cells = [{"task": "mnli", "evaluation": "paws"}]  # a task may be named, and is not shown
    config["figures"][STUDY]["fig02_ours"]["groups"] = [{"title": "one", "cells": cells}]
    assert of_ours(config, "fig02_ours") == {"tasks"}


def test_a_figure_of_ours_asks_for_its_own_runs_at_the_papers_rate_and_for_what_it_shows(config):
    chat = runs("tulu_v2", "2e-06", "benchmarks", "c4", recipe="tulu_v2")
    mnli = runs("mnli", "2e-06", "tasks", "c4")
    assert of_ours(config, "fig05_ours") == {"tasks"} | mnli
    both = {"tasks", "benchmarks"} | mnli  # a prompted task's run has no benchmarks
    both |= chat | runs("tulu_v2", "2e-06", "tasks", recipe="tulu_v2")
    assert of_ours(config, "fig03_ours") == both
    config["figures"][STUDY]["fig03_ours"]["cells"] = [{"task": "tulu", "evaluation": "boolq"}]
    assert of_ours(config, "fig03_ours") == {"benchmarks"} | chat


def test_a_figure_by_validation_asks_for_every_rate_and_every_seed(config):
    config["instruction_recipes"]["completion"]["seeds"] = [0, 1]
    rates = ("2e-05", "2e-06", "2e-07")
    own = set().union(*(runs("mnli", rate, "tasks", "c4") for rate in rates))
    own |= {file.replace("seed0", "seed1") for file in own}
    config["figures"][STUDY]["fig05_ours"]["rate"] = "validation"
    assert of_ours(config, "fig05_ours") == {"tasks"} | own
    config["figures"][STUDY]["fig03_ours"] |= {"rate": "validation"}
    config["figures"][STUDY]["fig03_ours"]["cells"] = [{"task": "tulu", "evaluation": "boolq"}]
    assert len(of_ours(config, "fig03_ours")) == 3  # a chat has the paper's


def test_the_rates_are_of_all_runs_that_have_a_validation(config):
    tasks = ("xsum", "socialiqa", "mnli", "paws")
    rates = ("2e-05", "2e-06", "2e-07")
    every = (runs(task, rate, "tasks", "c4") for task in tasks for rate in rates)
    assert of_ours(config, "rates") == set().union(*every)


def test_hours_need_runs_only_to_say_what_they_took(config):
    targets = targets_of(config)
    for name, counted in (("table2", "expected"), ("table2_ours", "spent")):
        files = [f"results/measurements/hours/amuro_char/{counted}.parquet"]
        assert targets.measurements(STUDY, name) == files


def test_only_tables_of_measurements_have_an_aggregate(config):
    targets = targets_of(config)
    found = {
        (paper, table): targets.table_aggregate(paper, table)
        for paper, table in targets.targets("tables")
    }
    measured = {name for (_, name), files in found.items() if files}
    own = {"table5", "transfer", "transfer_cells"}
    own |= {f"{name}_ours" for name in own} | {"table2", "table2_ours", "rates"}
    assert measured == own | {"comparison", "comparison_counts"}
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
    targets = targets_of(config)
    every, here = (list(targets.targets(kind, here=here)) for here in (False, True))
    assert [target for target in every if target in here] == here
    return set(every) - set(here)


def test_what_needs_published_numbers_that_are_not_here_is_left_out_and_only_that(away):
    figures = {f"fig{n:02}" for n in range(2, 14)} | {"fig04_both", "fig09_both"}
    assert left_out(away, "figures") == {(STUDY, name) for name in figures}
    tables = {"table5", "transfer", "transfer_cells", "comparison", "comparison_counts"}
    assert left_out(away, "tables") == {(STUDY, name) for name in tables}
    (line,) = targets_of(away).catalogue.absent.values()
    assert "\n" not in line and line.startswith("the released numbers of amuro_char are not here")
    assert (
        "released_numbers.amuro_char.download is false" in line
        and "OVERTRAIN_RELEASED_NUMBERS" in line
    )


def test_a_figure_of_our_numbers_alone_is_not_left_out(away):
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
    assert targets_of(away).catalogue.absent == {}
    assert left_out(away, "figures") == left_out(away, "tables") == set()


def test_a_folder_that_lacks_a_file_is_none(away, tmp_path):
    away["released_numbers"][STUDY]["local"] = copies(tmp_path, away)
    next((tmp_path / "copies" / STUDY).iterdir()).unlink()
    assert set(targets_of(away).catalogue.absent) == {STUDY}


def test_targets_of_a_study_print_its_order_titles_and_metrics(config):
    settings = printed(config, "fig03", STUDY)
    for key in ("checkpoints", "evaluations", "trained_on"):
        assert settings[key] == config[STUDY][key]
    assert config["figures"][STUDY]["fig03"].items() <= settings.items()


BUDGETS = PAPERS["models"]["OLMo-30M"]["budgets"]
SETS = PAPERS["task_sets"]
PERTURBED = ("OLMo-15M", "OLMo-90M", "OLMo-1B", "OLMo-2-7B", "LLM360-Amber")


def checkpoints(evaluation: str, model: str = "OLMo-30M") -> list[str]:
    own = PAPERS["models"][model]
    names = own["hub"]["checkpoints"] if "hub" in own else own["budgets"]
    return [f"{model}/{name}/{evaluation}" for name in names]


def sweeps(tasks: list[str], evaluations: list[str], recipe: str = "default", **of: str) -> list:
    runs = [f"{task}/{recipe}/{evaluation}" for task in tasks for evaluation in evaluations]
    return [file for run in runs for file in checkpoints(run, **of)]


MEASURED = {
    "fig03": checkpoints("gaussian"),
    "fig04": sweeps(SETS["language"], ["c4"]),
    "fig05": sweeps(SETS["six"], ["c4", "id"]),
    "fig06": sweeps(SETS["six"], ["c4", "id"]),
    "fig07": [],
    "fig08": sweeps(["gsm8k"], ["training"]),
    "fig09": checkpoints("interpolation")[-3:],
    "fig10": sweeps(["ag_news"], ["interpolation"], "direction")[-3:],
    "fig29": sweeps(SETS["all"], ["c4"]),
    "fig65": [file for model in PERTURBED for file in checkpoints("gaussian", model)],
    "theory_features": ["theory/pretraining"],
    "theory_noise": ["theory/noise"],
    "theory_sensitivity": ["theory/fine_tuning"],
    "theory_tradeoff": ["theory/fine_tuning"],
    "theory_sharpness": checkpoints("sharpness"),
}
SCALELESS = [f for f in MEASURED if f == "fig07" or f.startswith("theory")][:-1]


def asked(config: dict, figure: str) -> list[str]:
    """The measurements of a figure, without what all have in common."""
    files = targets_of(config).measurements(PAPER, figure)
    return [file.removeprefix("results/measurements/").removesuffix(".parquet") for file in files]


def printed(config: dict, figure: str, paper: str = PAPER) -> dict:
    return json.loads(targets_of(config).figure_slice(paper, figure))


@pytest.mark.parametrize("figure", MEASURED)
def test_a_figure_asks_for_its_own_measurements_and_says_the_scale_they_depend_on(config, figure):
    assert sorted(asked(config, figure)) == sorted(MEASURED[figure])
    config["scale"] = "demo scale"
    settings = printed(config, figure)
    assert settings["scale"] == (None if figure in SCALELESS else "demo scale")
    if figure in SCALELESS:  # its title has nothing to fill in
        assert config["figures"][PAPER][figure].items() <= settings.items()


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
    settings = printed(config, f"fig{first + column}")
    assert settings["plot"] == plot
    rows = [{"evaluation": shown, "quantity": "absolute"}]
    assert settings.get("rows") == (rows if shown else None)
    assert settings["models"] == [model] and len(settings["tasks"]) == 10
    files = sweeps(SETS["all"], read, recipe, model=model)
    assert sorted(asked(config, f"fig{first + column}")) == sorted(files)


def test_titles_of_figures_30_to_64_differ_and_say_the_setting(config):
    config["recipes"]["batch256"]["batch_size"] = 16
    config["model_sets"]["small"] = ["OLMo-4K"]
    titles = [printed(config, f"fig{n}")["title"] for n in range(30, 65)]
    assert len(set(titles)) == 35
    assert all(title.startswith("Batch size 16: ") for title in titles[:5])
    assert all(title.startswith("OLMo-4K: ") for title in titles[20:25])
    assert not [title for title in titles if "{" in title]


SCHEMATICS = [(PAPER, "fig07"), (STUDY, "fig01"), ("adaptability", "fig04")]


def test_the_schematics_alone_have_no_aggregate(config):
    targets = targets_of(config)
    for paper, figure in targets.targets("figures"):
        files = [f"results/aggregates/{paper}/{figure}.parquet"]
        files = [] if (paper, figure) in SCHEMATICS else files
        assert targets.figure_aggregate(paper, figure) == files


def test_a_stand_in_says_what_it_stands_for_beside_the_others_of_the_figure(config):
    tasks = config["tasks"]
    tasks["sympy_docs"]["stands_for"] = "gsm8k"  # one name needs no list
    tasks["two_packages"]["stands_for"] = ["mr", "rte"]
    tasks["same_docstring"]["stands_for"] = ["rte", "boolq"]
    targets = targets_of(config)
    ten = config["task_sets"]["all"]
    assert stand_in_titles(["sympy_docs", "mr", "two_packages"], ten, targets.catalogue) == {
        "sympy_docs": "sympy docs\n(for GSM8K)",
        "mr": "MR",
        "two_packages": "statsmodels or sympy\n(for MR, RTE)",
    }
    assert stand_in_titles(["same_docstring", "two_packages"], ten, targets.catalogue) == {
        "same_docstring": "same docstring?\n(for RTE, BoolQ)",
        "two_packages": "statsmodels or sympy\n(for MR)",
    }
    assert stand_in_titles(["same_docstring", "two_packages"], ["boolq"], targets.catalogue) == {
        "same_docstring": "same docstring?\n(for BoolQ)",
        "two_packages": "statsmodels or sympy",
    }


def test_a_panel_names_only_tasks_that_the_papers_figure_has(config):
    papers = config["task_sets"]
    config["task_sets"] = papers | {"six": ["six_packages"], "interpolation": ["six_packages"]}
    titles = [printed(config, figure)["titles"] for figure in ("fig05", "fig10")]
    assert [title["six_packages"].split("\n")[1] for title in titles] == [
        "(for TREC)",
        "(for AG News)",
    ]


@pytest.mark.parametrize("tasks", ["six", "all"])
def test_the_demos_stand_ins_cover_the_papers_tasks_once_each(tasks):
    overlay = at_scale("profiles/demo/overlay.yaml")
    papers = PAPERS["task_sets"][tasks]
    titles = stand_in_titles(overlay["task_sets"][tasks], papers, catalogue_of(PAPERS))
    named = " ".join(title.split("\n(for ")[1].rstrip(")") for title in titles.values())
    assert all(len(title.splitlines()) <= 3 for title in titles.values())
    found = named.replace(",", " ").split()
    assert sorted(found) == sorted(" ".join(PAPERS["tasks"][t]["title"] for t in papers).split())


@pytest.mark.parametrize("figure", ["theory_sensitivity", "theory_tradeoff"])
def test_a_theory_figure_knows_the_ratios_of_its_spectra(config, figure):
    settings = printed(config, figure)
    assert set(settings["spectra"]) <= set(settings["ratios"])
    assert settings["ratios"]["alpha3"] == [3.0, 3.0]


def test_a_figure_of_checkpoints_knows_its_models(config):
    settings = printed(config, "theory_sharpness")
    assert settings["models"] == ["OLMo-30M"] and settings["titles"] == {"OLMo-30M": "OLMo-30M"}
    settings = printed(config, "fig65")
    assert settings["text"] == "C4" and settings["models"] == list(PERTURBED)  # of three corpora


def test_the_direction_figures_ask_for_the_last_budgets_of_the_first_seed(config):
    before = [asked(config, figure) for figure in ("fig09", "fig10")]
    config["models"]["OLMo-30M"]["seeds"] = [0, 1]
    assert [asked(config, figure) for figure in ("fig09", "fig10")] == before
    config["models"]["OLMo-30M"]["seeds"] = [1]
    config["interpolation"]["last"] = 1
    assert asked(config, "fig09") == ["OLMo-30M/128B-seed1/interpolation"]


def test_the_direction_figures_know_their_panels(config):
    for figure, direction in (("fig09", "gaussian"), ("fig10", "fine_tuning")):
        own, settings = config["interpolation"][direction], printed(config, figure)
        assert (settings["near"], settings["wide"]) == (own["near"], own["wide"])

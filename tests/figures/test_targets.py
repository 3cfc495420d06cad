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


@pytest.mark.parametrize(
    ("kind", "name", "sources"),
    [
        ("figures", "fig03", ["published", "ours", "both"]),
        ("tables", "transfer", ["published", "ours"]),
    ],
)
def test_a_target_takes_released_numbers_ours_or_both(config, kind, name, sources):
    mine = ["results/measurements/a.parquet", "results/measurements/b.parquet"]
    config[STUDY]["measurements"] = mine
    theirs = ["results/measurements/released_numbers/amuro_char.parquet"]
    found = {}
    for source in sources:
        config[kind][STUDY][name]["source"] = source
        found[source] = targets_of(config).measurements(STUDY, name)
    every = {"published": theirs, "ours": mine, "both": theirs + mine}
    assert found == {source: every[source] for source in sources}


def test_only_tables_of_measurements_have_an_aggregate(config):
    targets = targets_of(config)
    found = {
        (paper, table): targets.table_aggregate(paper, table)
        for paper, table in targets.targets("tables")
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
    targets = targets_of(config)
    every, here = (list(targets.targets(kind, here=here)) for here in (False, True))
    assert [target for target in every if target in here] == here
    return set(every) - set(here)


def test_what_needs_published_numbers_that_are_not_here_is_left_out_and_only_that(away):
    assert left_out(away, "figures") == {(STUDY, name) for name in away["figures"][STUDY]}
    tables = {"table5", "transfer", "transfer_cells"}  # the others are settings
    assert left_out(away, "tables") == {(STUDY, name) for name in tables}
    (line,) = targets_of(away).catalogue.absent.values()
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
    assert targets_of(away).catalogue.absent == {}
    assert left_out(away, "figures") == left_out(away, "tables") == set()


def test_a_folder_that_lacks_a_file_is_none(away, tmp_path):
    away["released_numbers"][STUDY]["local"] = copies(tmp_path, away)
    next((tmp_path / "copies" / STUDY).iterdir()).unlink()
    assert set(targets_of(away).catalogue.absent) == {STUDY}


def test_targets_of_a_study_print_its_order_titles_and_metrics(config):
    settings = json.loads(targets_of(config).figure_slice(STUDY, "fig03"))
    assert settings["checkpoints"] == config[STUDY]["checkpoints"]
    assert settings["evaluations"] == config[STUDY]["evaluations"]
    assert settings["trained_on"] == config[STUDY]["trained_on"]
    assert config["figures"][STUDY]["fig03"].items() <= settings.items()


BUDGETS = PAPERS["models"]["OLMo-30M"]["budgets"]
SIX = PAPERS["task_sets"]["six"]


@pytest.mark.parametrize(
    ("figure", "tasks", "evaluations"),
    [
        ("fig04", PAPERS["task_sets"]["language"], ["c4"]),
        ("fig05", SIX, ["c4", "id"]),
        ("fig06", SIX, ["c4", "id"]),
        ("fig08", ["gsm8k"], ["training"]),
        ("fig29", PAPERS["task_sets"]["all"], ["c4"]),
    ],
)
def test_a_figure_asks_for_its_own_measurements_only(config, figure, tasks, evaluations):
    files = targets_of(config).measurements(PAPER, figure)
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
    targets = targets_of(config)
    settings = json.loads(targets.figure_slice(PAPER, figure))
    assert settings["plot"] == plot
    rows = [{"evaluation": shown, "quantity": "absolute"}]
    assert settings.get("rows") == (rows if shown else None)
    assert settings["models"] == [model] and len(settings["tasks"]) == 10
    files = targets.measurements(PAPER, figure)
    assert len(set(files)) == len(files)
    assert set(files) == {
        f"results/measurements/{model}/{budget}/{task}/{recipe}/{evaluation}.parquet"
        for budget in BUDGETS
        for task in PAPERS["task_sets"]["all"]
        for evaluation in read
    }


def test_titles_of_figures_30_to_64_differ_and_say_the_setting(config):
    config["recipes"]["batch256"]["batch_size"] = 16
    config["model_sets"]["small"] = ["OLMo-4K"]
    targets = targets_of(config)
    titles = [json.loads(targets.figure_slice(PAPER, f"fig{n}"))["title"] for n in range(30, 65)]
    assert len(set(titles)) == 35
    assert all(title.startswith("Batch size 16: ") for title in titles[:5])
    assert all(title.startswith("OLMo-4K: ") for title in titles[20:25])
    assert not [title for title in titles if "{" in title]


def test_the_schematic_has_no_measurements_and_no_scale(config):
    config["scale"] = "demo scale"
    targets = targets_of(config)
    assert targets.figure_aggregate(PAPER, "fig07") == []
    assert json.loads(targets.figure_slice(PAPER, "fig07"))["scale"] is None
    others = [target for target in targets.targets("figures") if target[1] != "fig07"]
    assert [targets.figure_aggregate(*target) for target in others] == [
        [f"results/aggregates/{paper}/{figure}.parquet"] for paper, figure in others
    ]


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
    targets = targets_of(config)
    titles = [json.loads(targets.figure_slice(PAPER, f))["titles"] for f in ("fig05", "fig10")]
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


def test_the_noise_figure_asks_for_no_fine_tune(config):
    files = targets_of(config).measurements(PAPER, "fig03")
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
    targets = targets_of(config)
    files = [f"results/measurements/theory/{experiment}.parquet"]
    assert targets.measurements(PAPER, figure) == files
    settings = json.loads(targets.figure_slice(PAPER, figure))
    assert settings["scale"] is None
    assert config["figures"][PAPER][figure].items() <= settings.items()


def test_a_theory_figure_knows_the_ratios_of_its_spectra(config):
    for figure in ("theory_sensitivity", "theory_tradeoff"):
        settings = json.loads(targets_of(config).figure_slice(PAPER, figure))
        assert set(settings["spectra"]) <= set(settings["ratios"])
        assert settings["ratios"]["alpha3"] == [3.0, 3.0]


def test_the_sharpness_figure_asks_for_every_checkpoint_and_says_the_scale(config):
    config["scale"] = "demo scale"
    targets = targets_of(config)
    files = targets.measurements(PAPER, "theory_sharpness")
    assert files == [f"results/measurements/OLMo-30M/{b}/sharpness.parquet" for b in BUDGETS]
    settings = json.loads(targets.figure_slice(PAPER, "theory_sharpness"))
    assert settings["scale"] == "demo scale" and settings["models"] == ["OLMo-30M"]
    assert settings["titles"] == {"OLMo-30M": "OLMo-30M"}


def test_the_direction_figures_ask_for_the_last_budgets_of_the_first_seed(config):
    config["models"]["OLMo-30M"]["seeds"] = [0, 1]
    targets = targets_of(config)
    folder = "results/measurements/OLMo-30M"
    files = [f"{folder}/{b}/interpolation.parquet" for b in ("32B", "64B", "128B")]
    assert targets.measurements(PAPER, "fig09") == files
    files = [f"{folder}/{b}/ag_news/direction/interpolation.parquet" for b in BUDGETS[-3:]]
    assert targets.measurements(PAPER, "fig10") == files
    config["models"]["OLMo-30M"]["seeds"] = [1]
    config["interpolation"]["last"] = 1
    files = [f"{folder}/128B-seed1/interpolation.parquet"]
    assert targets_of(config).measurements(PAPER, "fig09") == files


def test_the_direction_figures_know_their_panels(config):
    for figure, direction in (("fig09", "gaussian"), ("fig10", "fine_tuning")):
        settings = json.loads(targets_of(config).figure_slice(PAPER, figure))
        own = config["interpolation"][direction]
        assert (settings["near"], settings["wide"]) == (own["near"], own["wide"])


def test_figure_65_asks_for_noise_alone_on_ours_and_on_released_models_of_one_text(config):
    targets = targets_of(config)
    files = targets.measurements(PAPER, "fig65")
    released = ("OLMo-1B", "OLMo-2-7B", "LLM360-Amber")
    points = {m: BUDGETS for m in ("OLMo-15M", "OLMo-90M")}
    points |= {m: list(config["models"][m]["hub"]["checkpoints"]) for m in released}
    assert sorted(files) == sorted(
        f"results/measurements/{m}/{name}/gaussian.parquet" for m in points for name in points[m]
    )
    settings = json.loads(targets.figure_slice(PAPER, "fig65"))
    assert settings["text"] == "C4"  # of three corpora
    assert settings["models"] == list(points)

"""Every number of a table comes from the configuration or the measurements, in three formats."""

import json
import re

import pandas as pd
import pytest
from configuration import PAPERS, changed, targets_of

from overtrain import PipelineError
from overtrain.figures import tables
from overtrain.figures.kinds import TABLES
from overtrain.records.measurements import SCHEMA


def settings(config: dict, table: str, paper: str = "overtrained") -> dict:
    return json.loads(targets_of(config).table_slice(paper, table))


def test_parameters_are_counted_as_built(config):
    table = TABLES["pretraining"].tabulate(None, settings(config, "table3"))
    assert list(table.columns) == ["OLMo-15M", "OLMo-30M", "OLMo-90M"]
    for name in table.columns:
        a = config["models"][name]["architecture"]
        d, m = a["hidden_size"], a["mlp_size"]
        layers = a["layers"] * (4 * d * d + 3 * d * m)
        assert table[name]["Parameters, non-embedding"] == f"{layers:,}"
        assert table[name]["Parameters, total"] == f"{layers + 2 * a['vocabulary'] * d:,}"


MUP = "models.OLMo-30M.architecture"
CHANGES = [
    ("table3", "models.OLMo-30M.architecture.layers", 7, "Layers", "7"),
    ("table3", "models.OLMo-30M.architecture.heads", 12, "Heads", "12"),
    ("table3", "models.OLMo-30M.architecture.vocabulary", 96, "Unique tokens", "96"),
    ("table3", "models.OLMo-30M.architecture.hidden_size", 24, "Hidden dimension", "24"),
    ("table3", "models.OLMo-30M.architecture.mlp_size", 5, "MLP dimension (each matrix)", "5"),
    ("table3", "models.OLMo-30M.architecture.context", 64, "Context length", "64"),
    ("table3", f"{MUP}.base_width", 48, "muP base width", "48"),
    ("table3", f"{MUP}.base_width", None, "muP base width", "standard parameterisation"),
    ("table3", "models.OLMo-30M.budgets", ["1M", "2.5M"], "Token budgets", "1M, 2.5M"),
    ("table3", "models.OLMo-30M.seeds", [0, 1, 2], "Pre-training seeds", "3"),
    ("table3", "pretraining.learning_rate", 0.004, "Learning rate", "0.004"),
    ("table3", "pretraining.betas", [0.8, 0.99], "Betas", "0.8, 0.99"),
    ("table3", "pretraining.weight_decay", 0.3, "Weight decay", "0.3"),
    ("table3", "pretraining.batch_size", 16, "Batch size (windows)", "16"),
    ("table3", "pretraining.warmup", 0.25, "Warm-up", "25% of training"),
    ("table3", "pretraining.dropout.attention", 0.3, "Attention dropout", "0.3"),
    ("table3", "pretraining.dropout.residual", 0.4, "Residual dropout", "0.4"),
    ("table3", "pretraining.dropout.embedding", 0.5, "Embedding dropout", "0.5"),
    ("table4", "recipes.batch32.learning_rates", [1e-5, 0.004], "Learning rates", "1e-05, 0.004"),
    ("table4", "recipes.batch32.batch_size", 8, "Batch size", "8"),
    ("table4", "recipes.batch32.scheduler", "constant", "Scheduler", "constant"),
    ("table4", "recipes.batch32.warmup", 0.0, "Warm-up", "0% of training"),
    ("table4", "recipes.batch32.betas", [0.5, 0.6], "Betas", "0.5, 0.6"),
    ("table4", "recipes.batch32.weight_decay", 0.2, "Weight decay", "0.2"),
    ("table4", "recipes.batch32.clip", 2.5, "Gradient clip (L2)", "2.5"),
    ("table4", "recipes.batch32.clip", None, "Gradient clip (L2)", "none"),
    ("table4", "recipes.batch32.epochs", 9, "Epochs", "9, best on validation"),
    ("table4", "recipes.batch32.seeds", [0, 1], "Seeds", "2"),
]


@pytest.mark.parametrize(("table", "path", "value", "row", "text"), CHANGES)
def test_a_cell_follows_the_configuration(table, path, value, row, text, tmp_path):
    csv = tmp_path / "table.csv"
    found = []
    for config in (PAPERS, changed(path, value)):
        tables.write(settings(config, table), csv)
        found.append(pd.read_csv(csv, index_col=0, dtype=str))
    before, after = found
    column = "OLMo-30M" if table == "table3" else "batch32"
    assert before[column][row] != after[column][row] == text
    if not path.startswith("pretraining"):  # which is the same for every model
        assert after.drop(columns=column).equals(before.drop(columns=column))


INDEX = [f"Figure {n}" for n in range(30, 65)]


def index(config: dict) -> pd.DataFrame:
    return TABLES["figure_index"].tabulate(None, settings(config, "table6"))


def index_cells(config: dict) -> list[str]:
    return index(config).to_numpy().ravel().tolist()


def matching(config: dict) -> dict:
    """Table 6 as an index of whatever figures have the keys of its grid."""
    grid = config["figure_grids"]["overtrained"]["controlled"]
    unmatched = ("title", "row", "column", "caption", "largest_loss")
    parts = {
        key: [
            {
                "title": part.get(name, part["title"]),
                "match": {k: v for k, v in part.items() if k not in unmatched},
            }
            for part in grid[of]
        ]
        for key, of, name in (("rows", "settings", "row"), ("columns", "plots", "column"))
    }
    return {"content": "figure_index", "caption": "Figures."} | parts


def test_the_index_has_the_papers_rows_columns_and_figures(config):
    table = index(config)
    assert index_cells(config) == INDEX
    assert list(table.index) == [
        "Batch size 256",
        "Batch size 32",
        "Constant schedule",
        "Constant schedule with warm-up",
        "OLMo-15M",
        "OLMo-30M (extended)",
        "OLMo-90M",
    ]


def test_the_index_follows_the_figures(config):
    config["tables"]["overtrained"]["table6"] = matching(config)
    assert index_cells(config) == INDEX
    figures = config["figures"]["overtrained"]
    figures["fig30"], figures["fig35"] = figures["fig35"], figures["fig30"]
    figures["fig99"] = dict(figures["fig64"])
    figures["another"] = dict(figures["fig64"])
    figures["fig05"]["tasks"] = "all"  # two rows of panels: no cell's figure
    figures["fig29"]["title"] = "of changes"
    found = index_cells(config)
    expected = ["Figure 35", *INDEX[1:5], "Figure 30", *INDEX[6:-1]]
    assert found == [*expected, "another, Figure 64, Figure 99"]


def test_a_figure_of_the_grid_that_is_left_out_is_a_dash(config):
    config["figures"]["overtrained"]["fig31"] = None
    assert index_cells(config) == [INDEX[0], "-", *INDEX[2:]]


def test_the_index_names_what_the_overlay_makes_of_models_and_recipes(config):
    config["model_sets"]["small"] = ["OLMo-4K"]
    config["recipes"]["batch256"]["batch_size"] = 16
    rows = list(index(config).index)
    assert rows[0] == "Batch size 16" and rows[4] == "OLMo-4K"


def test_an_index_of_other_keys(config):
    """By plot and model, as for the released checkpoints."""
    match = [{"plot": "tuned_by_tokens"}, {"plot": "noise_by_tokens"}]
    config["tables"]["overtrained"]["table6"] = matching(config) | {
        "rows": [{"title": m["plot"], "match": m} for m in match],
        "columns": [{"title": "{models}", "match": {"models": "main"}}],
    }
    table = index(config)
    assert list(table.columns) == ["OLMo-30M"]
    found = [", ".join(cells) for cells in table.to_numpy().tolist()]
    assert found[0].startswith("Figure 6, Figure 32, Figure 33") and found[1] == "Figure 3"


def test_latex_is_escaped_and_every_line_has_every_column():
    frame = pd.DataFrame({"constant_warmup": ["10% & more", "#1"], "b": ["x", "y"]}, ["r_1", "r_2"])
    lines = tables.latex(frame.rename_axis("Hyperparameter"), "50% of a_b").splitlines()
    assert r"\caption{50\% of a\_b}" in lines
    assert r"Hyperparameter & constant\_warmup & b \\" in lines
    assert r"r\_1 & 10\% \& more & x \\" in lines
    assert r"r\_2 & \#1 & y \\" in lines
    assert r"\begin{tabular}{l*{2}{p{0.35\linewidth}}}" in lines


def test_latex_keeps_braces():
    frame = pd.DataFrame({"Default": ["{premise} ### {hypothesis}"]}, ["Inference"])
    lines = tables.latex(frame.rename_axis("Task"), "{x}").splitlines()
    assert r"Inference & \{premise\} \#\#\# \{hypothesis\} \\" in lines
    assert r"\caption{\{x\}}" in lines


# --- Amuro & Char ---------------------------------------------------------------------------------

STUDY = "amuro_char"
CHECKPOINTS = PAPERS[STUDY]["checkpoints"]


def scores(base: float, tuned: float, task: str = "mnli", evaluation: str = "xsum") -> list[dict]:
    """A base and a fine-tuned score at every checkpoint; the second grows by 0.01 at each."""
    where = {"source": "published", "evaluation": evaluation, "metric": "accuracy", "shots": 4}
    rows = []
    for i, checkpoint in enumerate(CHECKPOINTS):
        own = where | {"model": "m", "prompt": "default", "checkpoint": checkpoint}
        more = {"selection": "last", "task": task, "value": tuned + 0.01 * i}
        rows += [own | {"selection": "base", "value": base}, own | more]
    return rows


def measured(*parts: list[dict]) -> pd.DataFrame:
    """Rows of `scores`, the base of an evaluation only once."""
    rows = pd.DataFrame([row for part in parts for row in part], columns=SCHEMA.names)
    keys = ["source", "evaluation", "checkpoint", "selection", "task"]
    return rows.drop_duplicates(keys)


def group(title: str, *cells: tuple[str, str]) -> dict:
    return {"title": title, "cells": [{"task": t, "evaluation": e} for t, e in cells]}


GAINS = {
    "content": "mean_gains",
    "caption": "Gains.",
    "scale": None,
    "checkpoints": CHECKPOINTS,
    "groups": [
        group("once", ("mnli", "xsum"), ("paws", "socialiqa")),
        group("twice", ("mnli", "xsum"), ("paws", "socialiqa"), ("mnli", "xsum")),
    ],
}
PARTS = (scores(0.5, 0.751), scores(0.25, 0.125, "paws", "socialiqa"))
TRANSFER = GAINS | {
    "content": "transfer",
    "directions": [
        {"title": "one way", "tasks": ["mnli", "paws"], "evaluations": ["xsum"]},
        {"title": "back", "tasks": ["xsum", "socialiqa"], "evaluations": ["mnli_matched"]},
    ],
}
PAIRS = (
    scores(0.5, 0.75),
    scores(0.5, 0.25, "paws"),
    scores(0.5, 0.5, "xsum", "mnli_matched"),
    scores(0.5, 0.5, "socialiqa", "mnli_matched"),
)


def test_gains_are_means_by_checkpoint_in_the_order_of_pretraining():
    table = TABLES["mean_gains"].tabulate(measured(*PARTS)[::-1], GAINS)
    assert list(table.index) == CHECKPOINTS and table.index.name == "Checkpoint"
    assert list(table.columns) == ["once", "twice"]
    first, second = [0.251 + 0.01 * i for i in range(8)], [-0.125 + 0.01 * i for i in range(8)]
    pairs = list(zip(first, second, strict=True))
    assert table.once.tolist() == [f"{(a + b) / 2:.3f}" for a, b in pairs]
    assert table.twice.tolist() == [f"{(2 * a + b) / 3:.3f}" for a, b in pairs]


def test_transfer_is_tested_on_one_mean_for_each_pair():
    table = TABLES["transfer"].tabulate(measured(*PAIRS), TRANSFER)
    ratios = [(start + 0.01 * i) / 0.5 for start in (0.25, -0.25) for i in range(8)]
    first, second = sum(ratios[:8]) / 8, sum(ratios[8:]) / 8
    mean, error = (first + second) / 2, abs(first - second) / 2  # of two, sd / sqrt(2)
    found = table["one way"]
    assert found[["Cells", "Pairs"]].tolist() == [16, 2]
    assert found["Mean, %"] == f"{100 * sum(ratios) / 16:.2f}"
    assert found["Median, %"] == f"{50 * sum(sorted(ratios)[7:9]):.2f}"
    assert float(found["t"]) == pytest.approx(mean / error, abs=0.005)
    half = 12.7062047 * error  # Student's t with one degree of freedom
    assert found["95 % interval, %"] == f"{100 * (mean - half):.1f} to {100 * (mean + half):.1f}"
    others = [(sum(ratios) - ratio) / 15 for ratio in ratios]
    assert found["Without one cell, %"] == f"{100 * min(others):.2f} to {100 * max(others):.2f}"
    assert found["Cell that moves it most"].startswith("mnli to xsum, main (+64 %): ")
    assert table["back"]["Mean, %"] == "7.00" and list(table.columns) == ["one way", "back"]


def test_the_cells_of_transfer_are_a_row_for_each_pair():
    table = TABLES["transfer_cells"].tabulate(measured(*PAIRS), TRANSFER)
    assert list(table.columns) == ["direction", *CHECKPOINTS]
    there = ["mnli to xsum", "paws to xsum"]
    assert list(table.index) == [*there, "xsum to mnli_matched", "socialiqa to mnli_matched"]
    assert table.direction.tolist() == ["one way", "one way", "back", "back"]
    assert list(table.loc["paws to xsum"][CHECKPOINTS]) == [f"{2.0 * i - 50:.2f}" for i in range(8)]


@pytest.mark.parametrize("content", ["mean_gains", "transfer", "transfer_cells"])
def test_a_missing_checkpoint_is_one_line_and_no_table(content, tmp_path):
    data = measured(*PARTS, *PAIRS)
    data = data[~((data.task == "mnli") & (data.checkpoint == "main"))]
    with pytest.raises(PipelineError, match=r"^xsum after fine-tuning on mnli, checkpoint main: "):
        tables.write(TRANSFER | {"content": content}, tmp_path / "table.csv", data)
    assert not list(tmp_path.iterdir())


def test_a_base_of_zero_is_one_line(tmp_path):
    with pytest.raises(PipelineError, match=r"^xsum, checkpoint step1000: the base score is zero"):
        tables.write(TRANSFER, tmp_path / "table.csv", measured(scores(0.0, 0.75), *PAIRS[1:]))
    assert not list(tmp_path.iterdir())


def test_the_tasks_of_a_study_stand_in_its_order_with_titles(config):
    table = TABLES["study_tasks"].tabulate(None, settings(config, "table1", STUDY))
    own = config[STUDY]["tasks"]
    assert list(table.index) == [task["title"] for task in own.values()]
    assert table.loc["Natural language inference"].to_dict() == {
        "Training": "MNLI",
        "Test in domain": "MNLI matched, MNLI mismatched",
        "Test out of domain": "RTE, GPT3NLI",
        "Learning rate": "2e-06",
    }
    assert table["Test in domain"]["Instruction tuning"] == "none"
    config[STUDY]["evaluations"]["rte"]["title"] = "R."
    config[STUDY]["trained_on"]["mnli"] = "M."
    config[STUDY]["tasks"]["inference"] |= {"learning_rate": 2.0e-5, "in_domain": ["rte"]}
    table = TABLES["study_tasks"].tabulate(None, settings(config, "table1", STUDY))
    assert list(table.loc["Natural language inference"]) == ["M.", "R.", "R., GPT3NLI", "2e-05"]


def test_the_prompts_of_a_study_are_those_of_the_configuration(config):
    config[STUDY]["tasks"]["inference"]["prompts"]["instruction"] = "So: {premise}?"
    table = TABLES["study_prompts"].tabulate(None, settings(config, "table3", STUDY))
    own = [task for task in config[STUDY]["tasks"].values() if task["prompts"]]
    assert list(table.index) == [task["title"] for task in own] and len(own) == 4
    assert set(table.columns) == {"Default", "Instruction", "Input output", "Expected output"}
    assert table["Instruction"]["Natural language inference"] == "So: {premise}?"
    for task in own:
        assert table["Default"][task["title"]] == task["prompts"]["default"]
        assert table["Input output"][task["title"]] == task["prompts"]["input_output"]
        assert table["Expected output"][task["title"]] == task["output"]


DEMO = PAPERS | {"scale": "demo scale"}
FORMATS = [(settings(DEMO, table), None) for table in ("table3", "table4", "table6")]
FORMATS += [(settings(DEMO, table, STUDY), None) for table in ("table1", "table3")]
FORMATS += [(GAINS, PARTS), (TRANSFER, PAIRS), (TRANSFER | {"content": "transfer_cells"}, PAIRS)]


@pytest.mark.parametrize(("chosen", "parts"), FORMATS, ids=[own["content"] for own, _ in FORMATS])
def test_every_format_holds_every_cell_and_the_caption(chosen, parts, tmp_path):
    csv = tmp_path / "table.csv"
    tables.write(chosen, csv, measured(*parts) if parts else None)
    cells = pd.read_csv(csv, index_col=0, dtype=str)
    markdown, latex = (csv.with_suffix(suffix).read_text() for suffix in (".md", ".tex"))
    rows = [line.strip("|").split("|") for line in markdown.splitlines() if line.startswith("|")]
    wanted = [[cells.index.name, *cells.columns], *map(list, cells.reset_index().to_numpy())]
    assert [[cell.strip() for cell in row] for row in rows[:1] + rows[2:]] == wanted
    lines = [line for line in latex.splitlines() if line.endswith(r" \\")]
    plain = [re.sub(r"\\([_%&#{}])", r"\1", line.removesuffix(r" \\")) for line in lines]
    assert [line.split(" & ") for line in plain] == wanted
    caption = chosen["caption"] + (" (demo scale)" if chosen["scale"] else "")
    assert f"\n\n{caption}\n" in markdown and rf"\caption{{{caption}}}" in latex


def test_a_table_of_published_numbers_says_no_scale_and_one_of_ours_does(config):
    config["scale"] = "demo scale"
    ours = {"table2", "table2_ours", "rates", "comparison", "comparison_counts"}
    ours |= {"table5_ours", "transfer_ours", "transfer_cells_ours"}
    for name in config["tables"][STUDY]:
        expected = "demo scale" if name in ours else None
        assert settings(config, name, STUDY)["scale"] == expected

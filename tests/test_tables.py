"""Tables 3 and 4: every number comes from the configuration, in three formats."""

import copy
import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from overtrain import tables
from overtrain.catalogue import Catalogue

CONFIG = yaml.safe_load((Path(__file__).parent.parent / "config.yaml").read_text())


@pytest.fixture
def config() -> dict:
    return copy.deepcopy(CONFIG)


def settings(config: dict, table: str) -> dict:
    return json.loads(Catalogue(config).table_slice("overtrained", table))


def test_parameters_are_counted_as_built(config):
    table = tables.pretraining(settings(config, "table3"))
    assert list(table.columns) == ["OLMo-15M", "OLMo-30M", "OLMo-90M"]
    for name in table.columns:
        a = config["models"][name]["architecture"]
        d, m = a["hidden_size"], a["mlp_size"]
        layers = a["layers"] * (4 * d * d + 3 * d * m)
        assert table[name]["Parameters, non-embedding"] == f"{layers:,}"
        assert table[name]["Parameters, total"] == f"{layers + 2 * a['vocabulary'] * d:,}"


CHANGES = [
    ("table3", "models.OLMo-30M.architecture.layers", 7, "Layers", "7"),
    ("table3", "models.OLMo-30M.architecture.heads", 12, "Heads", "12"),
    ("table3", "models.OLMo-30M.architecture.vocabulary", 96, "Unique tokens", "96"),
    ("table3", "models.OLMo-30M.architecture.hidden_size", 24, "Hidden dimension", "24"),
    ("table3", "models.OLMo-30M.architecture.mlp_size", 5, "MLP dimension (each matrix)", "5"),
    ("table3", "models.OLMo-30M.architecture.context", 64, "Context length", "64"),
    ("table3", "models.OLMo-30M.architecture.base_width", 48, "muP base width", "48"),
    (
        "table3",
        "models.OLMo-30M.architecture.base_width",
        None,
        "muP base width",
        "standard parameterisation",
    ),
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
def test_a_cell_follows_the_configuration(config, table, path, value, row, text, tmp_path):
    *parents, last = path.split(".")
    level = config
    for key in parents:
        level = level[key]
    assert level[last] != value
    level[last] = value
    csv = tmp_path / "table.csv"
    tables.write(settings(config, table), csv)
    found = pd.read_csv(csv, index_col=0, dtype=str)
    column = "OLMo-30M" if table == "table3" else "batch32"
    assert found[column][row] == text
    if parents[0] != "pretraining":  # which is the same for every model
        others = found.drop(columns=column)
        tables.write(settings(CONFIG, table), csv)
        assert others.equals(pd.read_csv(csv, index_col=0, dtype=str).drop(columns=column))


@pytest.mark.parametrize("table", ["table3", "table4"])
def test_every_format_holds_every_cell_and_the_caption_with_the_scale(config, table, tmp_path):
    config["scale"] = "demo scale"
    chosen = settings(config, table)
    csv = tmp_path / "table.csv"
    tables.write(chosen, csv)
    cells = pd.read_csv(csv, index_col=0, dtype=str)
    markdown, latex = (csv.with_suffix(s).read_text() for s in (".md", ".tex"))
    rows = [line.strip("|").split("|") for line in markdown.splitlines() if line.startswith("|")]
    for (name, values), row in zip(cells.iterrows(), rows[2:], strict=True):
        assert [cell.strip() for cell in row] == [name, *values]
        for value in values:
            assert value.replace("%", r"\%") in latex
    for text in (markdown, latex):
        assert f"{config['tables']['overtrained'][table]['caption']} (demo scale)" in text


def test_latex_is_escaped_and_every_line_has_every_column():
    frame = pd.DataFrame({"constant_warmup": ["10% & more", "#1"], "b": ["x", "y"]}, ["r_1", "r_2"])
    lines = tables.latex(frame.rename_axis("Hyperparameter"), "50% of a_b").splitlines()
    assert r"\caption{50\% of a\_b}" in lines
    assert r"Hyperparameter & constant\_warmup & b \\" in lines
    assert r"r\_1 & 10\% \& more & x \\" in lines
    assert r"r\_2 & \#1 & y \\" in lines
    assert r"\begin{tabular}{l*{2}{p{0.35\linewidth}}}" in lines

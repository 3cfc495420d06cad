"""CONTRIBUTING.md works as it stands: what it adds is added by following it alone, and built."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from configuration import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
FILES = dict(re.findall(r"^```(?:yaml|python)\n# (\S+)\n(.*?)^```", TEXT, re.M | re.S))
COMMANDS = re.findall(r"^(snakemake .* -- (?:mine|spread))$", TEXT, re.M)
KIND = "scripts/overtrain/figures/kinds/spread_by_rate.py"


def test_it_shows_one_of_each():
    assert set(FILES) == {"mine.yaml", "spread.yaml", KIND}
    assert all(f"\n{section}:\n" in f"\n{FILES['mine.yaml']}" for section in SECTIONS)
    assert [command.split()[-1] for command in COMMANDS] == ["mine", "spread"]


SECTIONS = ("models", "tasks", "recipes", "figures")


@pytest.fixture(scope="module")
def built(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in which a person has followed the text."""
    folder = tmp_path_factory.mktemp("contributing") / "clone"
    subprocess.run(["git", "clone", "-q", str(repository), str(folder)], check=True)
    for name, content in FILES.items():
        (folder / name).write_text(content)
    for command in COMMANDS:
        own = [sys.executable, "tools/warm", sys.executable, "-m", *command.split('"')[0].split()]
        if '"' in command:
            quoted, rest = command.split('"')[1:]
            own += [quoted, *rest.split()]
        done = subprocess.run(own, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder / "results/figures/overtrained"


@pytest.mark.slow
def test_a_model_a_task_a_recipe_and_a_figure_are_yaml_alone(built):
    table = pd.read_csv(built / "mine.csv")
    assert set(table.model) == {"OLMo-2K"} and set(table.task) == {"hypothesis_docs"}
    assert set(table.tokens) == {50_000, 100_000}
    assert set(table.learning_rate) == {0, 0.003, 0.01}  # 0: the base
    assert table["mean"].notna().all() and (table[table.learning_rate > 0].seeds == 2).all()
    sources = json.loads((built / "mine.json").read_text())["sources"]
    assert {path.split("/")[2] for path in sources} == {"OLMo-2K"}


@pytest.mark.slow
def test_a_kind_of_figure_is_one_file(built):
    table = pd.read_csv(built / "spread.csv")
    assert len(table) == 4 and (table["std"] > 0).all()
    assert (built / "spread.pdf").stat().st_size > 5000
    of_mine = pd.read_csv(built / "mine.csv").set_index(["tokens", "learning_rate"])["std"]
    own = table.set_index(["tokens", "learning_rate"])["std"]
    assert (own == of_mine[own.index]).all()

"""Slices are stable text, checkpoints keep their names, a figure asks for its own slice only."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from overtrain.catalogue import Catalogue, Checkpoint, tokens_of

ROOT = Path(__file__).parent.parent
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
PAPER = "overtrained"
SLICES = {
    "corpus_slice": ("pydoc",),
    "task_slice": ("rte",),
    "pretraining_slice": ("OLMo-30M", "8B"),
    "sweep_slice": ("rte", "default"),
    "c4_slice": ("OLMo-30M",),
    "perturbation_slice": ("OLMo-30M",),
    "sharpness_slice": ("OLMo-30M",),
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
    slice_ = getattr(Catalogue(config), name)(*arguments)
    assert isinstance(slice_, str) and json.loads(slice_)
    assert getattr(Catalogue(backwards(config)), name)(*arguments) == slice_


def changed_by(config: dict, path: str, value: object, slices: dict[str, tuple]) -> set[str]:
    """Names of the `slices`, {name: (method, *arguments)}, that setting a key changes."""
    before = Catalogue(config)
    *parents, last = path.split(".")
    level = config
    for key in parents:
        level = level[key]
    assert level[last] != value
    level[last] = value
    after = Catalogue(config)
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
        ("figures.overtrained.fig05.title", "other", {"figure_slice"}),
        ("figures.overtrained.fig04.title", "other", set()),
        ("task_sets.six", ["rte"], {"aggregate_slice", "figure_slice"}),
        ("resources.draw.mem_mb", 1, set()),
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


@pytest.mark.parametrize(
    ("budget", "tokens"),
    [("4B", 4_000_000_000), ("0.84M", 840_000), ("13.5M", 13_500_000), ("2T", 2 * 10**12)],
)
def test_tokens_of_a_budgets_name(budget, tokens):
    assert tokens_of(budget) == tokens


def test_seeds_beyond_zero_are_in_the_checkpoints_name_and_rename_no_other(config):
    one = Catalogue(config).checkpoints("OLMo-15M")
    assert [c.name for c in one] == ["4B", "8B", "16B", "32B", "64B", "128B"]
    config["models"]["OLMo-15M"] |= {"seeds": [0, 3], "budgets": ["16B", "8B"]}
    two = Catalogue(config)
    assert two.checkpoints("OLMo-15M") == [
        Checkpoint("OLMo-15M", "8B", 8 * 10**9, 0),
        Checkpoint("OLMo-15M", "8B-seed3", 8 * 10**9, 3),
        Checkpoint("OLMo-15M", "16B", 16 * 10**9, 0),
        Checkpoint("OLMo-15M", "16B-seed3", 16 * 10**9, 3),
    ]
    slices = [two.pretraining_slice("OLMo-15M", name) for name in ("8B", "8B-seed3")]
    assert [json.loads(s)["seed"] for s in slices] == [0, 3]
    assert slices[0] == Catalogue(CONFIG).pretraining_slice("OLMo-15M", "8B")


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
    files = Catalogue(config).measurements(PAPER, figure)
    assert len(set(files)) == len(files)
    assert set(files) == {
        f"results/measurements/OLMo-30M/{budget}/{task}/default/{evaluation}.parquet"
        for budget in BUDGETS
        for task in tasks
        for evaluation in evaluations
    }


def test_the_noise_figure_asks_for_no_fine_tune(config):
    files = Catalogue(config).measurements(PAPER, "fig03")
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
    catalogue = Catalogue(config)
    files = [f"results/measurements/theory/{experiment}.parquet"]
    assert catalogue.measurements(PAPER, figure) == files
    settings = json.loads(catalogue.figure_slice(PAPER, figure))
    assert settings["scale"] is None
    assert config["figures"][PAPER][figure].items() <= settings.items()


def test_a_theory_figure_knows_the_ratios_of_its_spectra(config):
    for figure in ("theory_sensitivity", "theory_tradeoff"):
        settings = json.loads(Catalogue(config).figure_slice(PAPER, figure))
        assert set(settings["spectra"]) <= set(settings["ratios"])
        assert settings["ratios"]["alpha3"] == [3.0, 3.0]


def test_the_sharpness_figure_asks_for_every_checkpoint_and_says_the_scale(config):
    config["scale"] = "demo scale"
    catalogue = Catalogue(config)
    files = catalogue.measurements(PAPER, "theory_sharpness")
    assert files == [f"results/measurements/OLMo-30M/{b}/sharpness.parquet" for b in BUDGETS]
    settings = json.loads(catalogue.figure_slice(PAPER, "theory_sharpness"))
    assert settings["scale"] == "demo scale" and settings["models"] == ["OLMo-30M"]
    assert settings["titles"] == {"OLMo-30M": "OLMo-30M"}


def test_runtime_grows_with_tokens_and_attempts_up_to_the_limit(config):
    config["models"]["OLMo-30M"]["tokens_per_second"] = 4e9 / 60 / 100  # 4B in 100 minutes
    catalogue = Catalogue(config)
    minutes = [catalogue.runtime("OLMo-30M", b, a) for b, a in (("4B", 1), ("8B", 1), ("4B", 2))]
    assert minutes == [180, 330, 360]
    assert catalogue.runtime("OLMo-30M", "128B", 3) == config["resources"]["pretrain"]["runtime"]


def test_the_catalogue_imports_nothing_heavy():
    code = (
        "import sys, overtrain.catalogue, overtrain.config;"
        "print({'torch', 'transformers', 'pandas', 'numpy', 'pyarrow'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "scripts", capture_output=True, text=True
    )
    assert found.stdout.strip() == "set()", found.stderr

"""Slices are stable text, checkpoints keep their names, a figure asks for its own slice only."""

import copy
import json
import re
import subprocess
import sys

import pytest
from configuration import PAPERS, ROOT, catalogue_of, changed, targets_of

from overtrain.config.models import Checkpoint
from overtrain.figures.targets import Targets

CONFIG = PAPERS
PAPER = "overtrained"
OTHER = {"revision": "main", "tokens": "1B"}
POINTS = CONFIG["models"]["OLMo-1B"]["hub"]["checkpoints"]
# {name: (method, *arguments)}: of the controlled study, the theory, directions, published numbers.
CONTROLLED = [
    ("corpus_slice", "pydoc"),
    ("tokenising_slice", "c4"),
    ("task_slice", "rte"),
    ("pretraining_slice", "OLMo-30M", "8B"),
    ("download_slice", "OLMo-1B", "0.5T"),
    ("download_judge_slice", "llama3_70b"),
    ("alpaca_slice", "OLMo-1B", "instruct"),
    ("generation_slice",),
    ("sweep_slice", "rte", "default"),
    ("c4_slice", "OLMo-30M"),
    ("perturbation_slice", "OLMo-30M"),
    ("on_text_slice", "sharpness", "OLMo-30M"),
    ("interpolation_slice", "OLMo-30M", "gaussian"),
    ("theory_slice", "fine_tuning"),
    ("aggregate_slice", PAPER, "fig05"),
    ("figure_slice", PAPER, "fig05"),
    ("table_slice", PAPER, "table3"),
]
SLICES = {own[0]: own for own in CONTROLLED}
THEORY = {
    **{name: ("theory_slice", name) for name in ("pretraining", "noise", "fine_tuning")},
    "sharpness": ("on_text_slice", "sharpness", "OLMo-30M"),
    "aggregate": ("aggregate_slice", PAPER, "theory_tradeoff"),
    "figure": ("figure_slice", PAPER, "theory_tradeoff"),
    "sharpness figure": ("figure_slice", PAPER, "theory_sharpness"),
}
DIRECTIONS = {
    "gaussian": ("interpolation_slice", "OLMo-30M", "gaussian"),
    "fine-tuning": ("interpolation_slice", "OLMo-30M", "fine_tuning"),
    **{f: ("figure_slice", PAPER, f) for f in ("fig09", "fig10")},
    "rows of fig09": ("aggregate_slice", PAPER, "fig09"),
    "run": ("sweep_slice", "ag_news", "direction"),
}
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
ALL = [*SLICES.values(), *THEORY.values(), *DIRECTIONS.values(), *PUBLISHED.values()]
EXPERIMENTS = {"pretraining", "noise", "fine_tuning"}
CELLS = [{"task": "mnli", "evaluation": "qqp"}]
DRAWN = {"figure", "table"}


def backwards(value: object) -> object:
    """The same mapping with the keys of every level in reverse order, as an overlay may do."""
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return value


@pytest.fixture
def config() -> dict:
    return copy.deepcopy(CONFIG)


@pytest.mark.parametrize("own", dict.fromkeys(ALL), ids=" ".join)
def test_a_slice_is_text_that_no_order_of_keys_changes(config, own):
    slice_ = slice_of(targets_of(config), *own)
    assert isinstance(slice_, str) and json.loads(slice_)
    turned = backwards(config)
    turned[STUDY]["tasks"] = config[STUDY]["tasks"]  # whose order is the paper's
    assert slice_of(targets_of(turned), *own) == slice_


def slice_of(targets: Targets, method: str, *arguments: str) -> str:
    """A slice of a figure or table, or of the catalogue."""
    owner = targets if hasattr(targets, method) else targets.catalogue
    return getattr(owner, method)(*arguments)


def changed_by(config: dict, path: str, value: object, slices: dict[str, tuple]) -> set[str]:
    """Names of the `slices`, {name: (method, *arguments)}, that setting a key changes."""
    other = changed(path, value, config)
    assert other != config
    before, after = targets_of(config), targets_of(other)
    return {
        name
        for name, (method, *own) in slices.items()
        if slice_of(before, method, *own) != slice_of(after, method, *own)
    }


@pytest.mark.parametrize(
    ("path", "value", "changes"),
    [
        ("scale", "demo scale", {"figure_slice", "table_slice"}),
        ("corpora.pydoc.held_out", 41, {"corpus_slice"}),
        ("corpora.pydoc.title", "other", set()),  # no model of this figure reads it
        ("corpora.c4.title", "web", {"figure_slice"}),
        ("corpora.c4.held_out", 41, {"tokenising_slice"}),
        ("corpora.c4.train_tokens", 10**9, set()),  # nor how many files: shards stay
        ("corpora.c4.source.file_count", 900, set()),
        ("corpora.c4.source.files_per_part", 8, set()),
        ("models.OLMo-1B.hub.repository", "other", {"download_slice"}),
        ("models.OLMo-1B.hub.checkpoints", POINTS | {"0.5T": OTHER}, {"download_slice"}),
        ("models.OLMo-1B.hub.checkpoints", POINTS | {"1.5T": OTHER}, set()),
        ("models.OLMo-1B.window", 1024, set()),
        ("tasks.rte.title", "RTE!", {"figure_slice"}),
        ("tasks.rte.prompt", "{sentence1}", {"task_slice"}),
        ("tasks.rte.loss_on", "all", {"sweep_slice"}),
        ("models.OLMo-30M.title", "30M", {"figure_slice", "table_slice"}),
        ("hardware.bf16", 1.0, set()),
        ("tasks.gsm8k.tokens", 1, set()),
        ("models.OLMo-30M.budgets", ["8B"], {"aggregate_slice", "table_slice"}),
        ("pretraining.clip", 2.0, {"pretraining_slice", "table_slice"}),
        ("recipes.default.epochs", 5, {"sweep_slice"}),
        ("recipes.batch32.epochs", 5, set()),
        ("evaluations.c4.tokens", 5, {"c4_slice", "perturbation_slice"}),
        ("evaluations.batch_tokens", 5, set()),
        ("perturbation.seeds", [7], {"perturbation_slice"}),
        ("sharpness.tokens", 5, {"on_text_slice"}),
        ("sharpness.gammas", [0.1], {"on_text_slice"}),
        ("sharpness.seeds", [7], {"on_text_slice"}),
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
    assert changed_by(config, path, value, SLICES) == changes


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
        ("amuro_char.ours.tuned.mnli.learning_rate", 2.0e-5, set()),  # of ours alone
        ("amuro_char.hours.preliminary", 1, set()),
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
    targets = targets_of(config)
    assert "models.LLM360-Amber.hub.checkpoints.1.3T" not in targets.sources
    assert "models.LLM360-Amber.hub.checkpoints.1.1T" in targets.sources
    rows = json.loads(targets.table_slice("overtrained", "table1"))["rows"]
    assert [row[2] for row in rows if row[0] == "LLM360-Amber"][-1] == "1.1T"


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


def test_a_runs_slice_holds_its_own_rate_and_seed_only(config):
    catalogue = catalogue_of(config)
    assert len(catalogue.runs("instruct")) == 21
    own = json.loads(catalogue.instruct_slice("instruct", "lr5e-06-seed2"))["recipe"]
    assert (own["learning_rate"], own["seed"]) == (5e-6, 2)
    config["instruction_recipes"]["instruct"]["learning_rates"].append(1.0)
    again = catalogue_of(config).instruct_slice("instruct", "lr5e-06-seed2")
    assert json.loads(again)["recipe"] == own


def test_every_run_is_compared_with_one_run_of_its_model_and_task(config):
    catalogue = catalogue_of(config)
    path = "results/responses/OLMo-2-7B/3.9T/tulu/instruct/lr1e-05-seed0.parquet"
    assert catalogue.reference_responses("OLMo-2-7B", "tulu", "instruct") == path
    assert path in catalogue.responses("OLMo-2-7B", "3.9T", "tulu", "instruct")


def test_runs_of_visual_tuning_share_a_projector_unless_each_seed_has_its_own(config):
    own = catalogue_of(config)
    folder = "results/projectors/OLMo-1B/3.1T/llava"
    runs = own.runs("llava")
    assert len(runs) == 5 * 3 and runs["lr8e-06-seed2"] == {"learning_rate": 8e-6, "seed": 2}
    assert {own.projector("OLMo-1B", "3.1T", "llava", run) for run in runs} == {f"{folder}/seed0"}
    config["visual_recipes"]["llava"]["alignment"]["seeds"] = "each"
    own = catalogue_of(config)
    found = {run: own.projector("OLMo-1B", "3.1T", "llava", run) for run in runs}
    assert found["lr8e-06-seed2"] == found["lr0.0001-seed2"] == f"{folder}/seed2"
    assert len({*found.values()}) == 3


def test_a_visual_run_is_evaluated_about_images_first_and_is_its_own_study(config):
    own = catalogue_of(config)
    names = ("OLMo-1B", "3.1T", "llava_instructions", "llava", "lr8e-06-seed0")
    folder = "/".join(names)
    file = f"results/measurements/{folder}/vision.parquet"
    assert own.before("benchmarks", *names) == [file] and own.before("vision", *names) == []
    instruct = ("OLMo-1B", "3.1T", "tulu", "instruct", "lr1e-06-seed0")
    file = f"results/responses/{'/'.join(instruct)}.parquet"
    assert own.before("benchmarks", *instruct) == [file]
    studies = [own.identity("OLMo-1B", "3.1T", r)["study"] for r in ("llava", "instruct", None)]
    assert studies == ["vision", "released", "released"]
    assert [own.tuned_by(r) for r in ("llava", "instruct")] == [
        "finetune_vision",
        "finetune_instruct",
    ]

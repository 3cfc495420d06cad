"""Every kind of fault in a configuration is one line: the key, its value, and what is allowed."""

import copy
import json
from functools import reduce
from pathlib import Path

import pytest
import yaml

from overtrain import PipelineError
from overtrain.aggregate import READS
from overtrain.config import SCHEMA, check

ROOT = Path(__file__).parent.parent
BASE = json.loads(json.dumps(yaml.safe_load((ROOT / "config.yaml").read_text())))  # no shared parts
DELETE = object()


def changed(path: str, value: object) -> dict:
    """config.yaml with one key, written as a/b/c, set or deleted."""
    config = copy.deepcopy(BASE)
    *parents, last = [int(key) if key.isdigit() else key for key in path.split("/")]
    level = reduce(lambda level, key: level[key], parents, config)
    if value is DELETE:
        del level[last]
    else:
        level[last] = value
    return config


def merged(base: dict, overlay: dict) -> dict:
    """What Snakemake makes of a configuration file laid over another."""
    result = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = merged(base[key], value) if both else value
    return result


def message(config: dict, overlay: dict | None = None) -> str:
    with pytest.raises(PipelineError) as caught:
        check(config, BASE, overlay or {})
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_papers_configuration_is_valid():
    check(BASE, BASE, {})


@pytest.mark.parametrize("names", [["profiles/demo/overlay.yaml"], ["tests/tiny.yaml"]])
def test_overlays_are_valid(names):
    for name in names:
        overlay = yaml.safe_load((ROOT / name).read_text())
        check(merged(BASE, overlay), BASE, overlay)


FIG05 = "figures/overtrained/fig05"
FAULTS = {
    # fault: (key, value, what the line must say)
    "wrong key": ("pretraining/batch_sise", 3, ["pretraining: ", "'batch_sise'", "'batch_size'"]),
    "wrong key at the top": ("seed", 3, ["'seed'", "allowed: ", "recipes"]),
    "missing key": ("pretraining/clip", DELETE, ["pretraining: ", "'clip' is missing"]),
    "missing section": ("evaluations", DELETE, ["'evaluations' is missing"]),
    "text for an integer": (
        "pretraining/batch_size",
        "many",
        ["pretraining.batch_size is ", '"many"', "integer"],
    ),
    "exponent without a point": (
        "recipes/default/learning_rates/2",
        yaml.safe_load("1e-5"),
        ["recipes.default.learning_rates.2 is ", '"1e-5"', "number", "1.0e-5"],
    ),
    "number for a section": ("tasks", 3, ["tasks is 3", "object"]),
    "above the range": ("pretraining/warmup", 1.5, ["pretraining.warmup is 1.5", "at most 1"]),
    "below the range": ("resources/draw/gpu", -1, ["resources.draw.gpu is -1", "at least 0"]),
    "zero rate": (
        "pretraining/learning_rate",
        0,
        ["pretraining.learning_rate is 0", "greater than 0"],
    ),
    "not below one": (
        "pretraining/betas/1",
        1.0,
        ["pretraining.betas.1 is 1.0", "less than 1"],
    ),
    "budget without a unit": (
        "models/OLMo-15M/budgets/0",
        "4 billion",
        ["models.OLMo-15M.budgets.0", '"4 billion"', "KMBT", "4B"],
    ),
    "no seeds": ("recipes/default/seeds", [], ["recipes.default.seeds is []", "at least 1"]),
    "a rate twice": (
        "recipes/batch32/learning_rates",
        [0.1, 0.1],
        ["recipes.batch32.learning_rates is [0.1, 0.1]", "differ"],
    ),
    "unknown scheduler": (
        "recipes/constant/scheduler",
        "linear",
        ["recipes.constant.scheduler is ", '"linear"', "cosine", "constant"],
    ),
    "odd head size": (
        "models/OLMo-15M/architecture/heads",
        64,
        ["models.OLMo-15M.architecture.hidden_size is 192", "even multiple of heads (64)"],
    ),
    "more labels than choices": (
        "tasks/mr/label/values",
        [0, 1, 2],
        ["tasks.mr.label.values has 3", "choices has 2"],
    ),
    "unknown corpus": (
        "models/OLMo-15M/corpus",
        "c5",
        ["models.OLMo-15M.corpus is 'c5'", "not in corpora", "c4, pydoc"],
    ),
    "unknown task stood for": (
        "tasks/six_packages/stands_for",
        "terc",
        ["tasks.six_packages.stands_for is 'terc'", "'trec'"],
    ),
    "unknown model in a set": (
        "model_sets/main",
        ["OLMo-31M"],
        ["model_sets.main is 'OLMo-31M'", "not in models", "OLMo-30M"],
    ),
    "unknown task in a set": (
        "task_sets/six/1",
        "starcoder",
        ["task_sets.six is 'starcoder'", "not in tasks", "starcoder_python"],
    ),
    "unknown plot": (
        f"{FIG05}/plot",
        "by_tokens",
        ["figures.overtrained.fig05.plot is ", '"by_tokens"', "learning_rates_by_tokens"],
    ),
    "unknown evaluation": (
        f"{FIG05}/rows/0/evaluation",
        "c5",
        ["figures.overtrained.fig05.rows.0.evaluation is ", '"c5"', "c4, id"],
    ),
    "unknown set of models": (
        f"{FIG05}/models",
        "mian",
        ["figures.overtrained.fig05.models is 'mian'", "not in model_sets", "'main'"],
    ),
    "unknown set of tasks": (
        f"{FIG05}/tasks",
        "sixx",
        ["figures.overtrained.fig05.tasks is 'sixx'", "not in task_sets", "'six'"],
    ),
    "unknown model in a figure": (
        f"{FIG05}/models",
        ["OLMo-1B"],
        ["figures.overtrained.fig05.models is 'OLMo-1B'", "not in models", "OLMo-90M"],
    ),
    "unknown task in a figure": (
        f"{FIG05}/tasks",
        ["mrr"],
        ["figures.overtrained.fig05.tasks is 'mrr'", "not in tasks", "'mr'"],
    ),
    "unknown recipe in a figure": (
        f"{FIG05}/recipe",
        "defualt",
        ["figures.overtrained.fig05.recipe is 'defualt'", "not in recipes", "'default'"],
    ),
    "wrong key of a figure": (
        f"{FIG05}/row",
        [],
        ["figures.overtrained.fig05: ", "'row'", "'rows'"],
    ),
    "unknown content": (
        "tables/overtrained/table3/content",
        "pretrain",
        ["tables.overtrained.table3.content is ", '"pretrain"', "pretraining, finetuning"],
    ),
    "unknown recipe in a table": (
        "tables/overtrained/table4/recipes",
        ["batch64"],
        ["tables.overtrained.table4.recipe", "'batch64'", "not in recipes", "batch256"],
    ),
    "unknown set in a table": (
        "tables/overtrained/table3/models",
        "control",
        ["tables.overtrained.table3.models is 'control'", "not in model_sets", "'controlled'"],
    ),
}


@pytest.mark.parametrize(("path", "value", "parts"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_line_with_key_value_and_what_is_allowed(path, value, parts):
    text = message(changed(path, value))
    missing = [part for part in parts if part not in text]
    assert not missing, f"{text!r} lacks {missing}"


@pytest.mark.parametrize(
    ("overlay", "parts"),
    [
        ({"scal": "demo"}, ["'scale'", "scal,"]),
        ({"models": {"OLMo-1B": BASE["models"]["OLMo-15M"]}}, ["models.OLMo-1B", "OLMo-15M"]),
        ({"recipes": {"default": {"epoch": 1}}}, ["recipes.default.epoch", "'epochs'"]),
        ({"figures": {"overtrained": {"fig7": {}}}}, ["figures.overtrained.fig7", "fig03"]),
    ],
)
def test_an_overlay_adds_no_key(overlay, parts):
    text = message(merged(BASE, overlay), overlay)
    assert all(part in text for part in ["overlay adds", *parts]), text


def test_an_overlay_replaces_whole_lists_and_leaves_their_neighbours():
    overlay = {"recipes": {"default": {"learning_rates": [0.1]}}, "task_sets": {"six": ["mr"]}}
    check(merged(BASE, overlay), BASE, overlay)


def alternatives(schema: object, key: str) -> set[str]:
    """Every allowed value of `key`, wherever the schema speaks of it."""
    if isinstance(schema, list):
        return set().union(*(alternatives(part, key) for part in schema))
    if not isinstance(schema, dict):
        return set()
    own = schema.get("properties", {}).get(key, {})
    found = set(own.get("enum", [])) | ({own["const"]} if "const" in own else set())
    return found.union(*(alternatives(part, key) for part in schema.values()))


def test_schema_and_library_know_the_same_plots_and_tables():
    from overtrain.plots import PLOTS
    from overtrain.tables import CONTENTS

    schema = json.loads(SCHEMA.read_text())["properties"]
    assert alternatives(schema["figures"], "plot") == set(PLOTS) == set(READS)
    assert alternatives(schema["tables"], "content") == set(CONTENTS)

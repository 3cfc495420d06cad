"""What every rule has, and what its jobs ask for."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from rule_files import rules_of

from overtrain.config.asked import Ask
from overtrain.config.files import load
from overtrain.configuration import catalogue_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ask() -> Ask:
    return Ask(catalogue_of(load(ROOT, {}).config))


def wildcards(model: str) -> SimpleNamespace:
    return SimpleNamespace(model=model)


def test_every_rule_names_its_files_and_has_a_log_an_environment_and_resources():
    rules = [rule for rule in rules_of(ROOT) if rule.script]
    assert len(rules) > 20
    for rule in rules:
        for files in (rule.input, rule.output):
            assert files._get_names is not None
            named = [name for name, _ in files._get_names()]
            assert len(files) == 0 or named, rule.name
        assert rule.log and rule.benchmark and rule.conda_env, rule.name
        assert {"_cores", "mem_mb", "runtime", "gpu"} <= set(rule.resources), rule.name
        assert set(dict(rule.params.items())) == {"config"}, rule.name


def test_what_runs_on_the_head_node_says_its_threads_and_fits():
    rules = [rule for rule in rules_of(ROOT) if rule.script]
    local = {rule.name for rule in rules if rule.name in rule.workflow._localrules}
    assert {"check_sources", "download_checkpoint", "prepare_task", "figure"} <= local
    for rule in rules:
        assert ("head_cores" in set(rule.resources)) == (rule.name in local), rule.name
        if rule.name in local:
            asked = rule.resources["head_cores"].value
            assert asked == rule.resources["_cores"].value <= 2, rule.name


def test_a_stage_asks_for_what_the_configuration_says_and_again_as_long_each_attempt(ask):
    asked = ask("finetune")
    assert {k: v for k, v in asked.items() if k != "runtime"} == {"mem_mb": 96000, "gpu": 1}
    assert [asked["runtime"](wildcards("any"), attempt) for attempt in (1, 2)] == [720, 1440]
    assert ask.threads("finetune") == 8


def test_a_stage_by_size_asks_for_the_model_s_own(ask):
    asked, small, large = ask("finetune_instruct"), wildcards("OLMo-1B"), wildcards("OLMo-2-7B")
    assert set(asked) == {"mem_mb", "gpu", "disk_mb", "runtime"}
    assert (asked["gpu"](small), asked["gpu"](large)) == (1, 4)
    assert (asked["disk_mb"](small), asked["disk_mb"](large)) == (40000, 250000)
    assert [asked["runtime"](small, 1), asked["runtime"](large, 2)] == [720, 2880]
    threads = ask.threads("finetune_instruct")
    assert (threads(small), threads(large)) == (8, 16)


def test_a_function_of_the_model_may_say_what_is_asked_for(ask):
    asked = ask(ask.catalogue.perturbation_resources)
    assert set(asked) == {"mem_mb", "gpu", "runtime"}
    assert [asked["mem_mb"](wildcards(m)) for m in ("OLMo-15M", "OLMo-2-7B")] == [32000, 64000]
    assert asked["runtime"](wildcards("OLMo-2-7B"), 3) == 3 * 720


def test_a_rule_may_have_its_own_minutes(ask):
    assert ask("pretrain", runtime=5)["runtime"] == 5

"""What every rule has, and what its jobs ask for."""

from pathlib import Path

from rule_files import rules_of

ROOT = Path(__file__).parents[2]


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

"""Hours of a study's runs: which jobs they are of, what is expected, and what was spent."""

import copy
import json
from pathlib import Path

import pytest
from configuration import PAPERS, ROOT, catalogue_of
from rule_files import rules_of

from overtrain.planning.asked import Ask
from overtrain.planning.hours import OF_BASE, OF_RUNS, Hours, rows_of, stage_of
from overtrain.planning.stages import STAGES

STUDY = "amuro_char"


@pytest.fixture
def config() -> dict:
    """Two checkpoints."""
    config = copy.deepcopy(PAPERS)
    points = config["models"]["OLMo-1B-steps"]["hub"]["checkpoints"]
    for name in [*points][1:-1]:
        del points[name]
    return config


def hours(config: dict) -> Hours:
    return Hours(Ask(catalogue_of(config)), STUDY)


def entries(config: dict) -> dict[tuple, dict]:
    return {(e["part"], e["task"]): e for e in json.loads(hours(config).slice())["rows"]}


def test_hours_are_of_base_models_and_of_runs_at_the_papers_rate(config):
    found = entries(config)
    tasks = [own["task"] for own in PAPERS[STUDY]["ours"]["tuned"].values()]
    parts = [("training", task) for task in tasks] + [("evaluation", task) for task in tasks]
    assert set(found) == {("evaluation", None), *parts}
    files = [job["benchmark"] for job in found["training", "xsum"]["jobs"]]
    folder = "results/benchmarks/finetune_instruct/OLMo-1B-steps"
    run = "xsum/completion/lr2e-07-seed0.tsv"
    assert files == [f"{folder}/step1000/{run}", f"{folder}/main/{run}"]
    assert len(found["evaluation", "xsum"]["jobs"]) == 2 * 2  # tasks, held-out text
    assert len(found["evaluation", "tulu_v2"]["jobs"]) == 2 * 3  # and benchmarks
    assert len(found["evaluation", None]["jobs"]) == 2 * 2


def test_what_is_expected_is_seconds_times_gpus_of_all_seeds(config):
    ask = hours(config).ask
    _, rule, names = next(job for job in hours(config).jobs() if job[1] == "finetune_instruct")
    gpus = ask.resources("finetune_instruct", names).gpu
    one = gpus * ask.estimator.need(rule, names, gpus).seconds / 3600
    assert one > 0
    expected = entries(config)["training", "xsum"]["expected"]
    assert expected == pytest.approx(2 * one)  # checkpoints
    config["instruction_recipes"]["completion"]["seeds"] = [0, 1, 2]
    assert entries(config)["training", "xsum"]["expected"] == pytest.approx(6 * one)


def test_every_file_that_a_job_leaves_is_waited_for_once(config):
    files = hours(config).files()
    base = "results/measurements/OLMo-1B-steps/main"
    own = [f.removeprefix(f"{base}/") for f in files if f.startswith(base)]
    assert len(set(files)) == len(files) == 2 * (2 + 4 * 2 + 3)
    run = "tulu_v2/tulu_v2/lr2e-06-seed0"
    assert {"tasks.parquet", "benchmarks.parquet"} <= set(own)
    assert {f"{run}/{name}.parquet" for name in ("tasks", "benchmarks", "c4")} <= set(own)


def test_rules_and_stages_are_those_that_there_are():
    rules = {rule for parts in (OF_BASE, OF_RUNS) for own in parts.values() for rule in own}
    assert rules <= {rule.name for rule in rules_of(ROOT)}
    for rule in rules & STAGES.keys():
        assert STAGES[rule] == stage_of(rule)


def test_what_was_spent_is_seconds_times_devices_and_needs_every_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jobs = [{"benchmark": f"{name}.tsv", "devices": 2} for name in ("a", "b")]
    entry = {"part": "training", "task": "xsum", "recipe": "completion", "expected": 3.0}
    slice_ = {"study": STUDY, "model": "m", "rows": [entry | {"jobs": jobs}]}
    Path("a.tsv").write_text("s\n3600\n")
    (row,) = rows_of(slice_, spent=True)
    assert (row["metric"], row["value"], row["n"]) == ("gpu_hours_expected", 3.0, 2)
    Path("b.tsv").write_text("s\n1800\n")
    _, spent = rows_of(slice_, spent=True)
    assert (spent["metric"], spent["value"]) == ("gpu_hours_spent", 3.0)
    assert (spent["task"], spent["selection"], spent["evaluation"]) == ("xsum", "last", "training")
    assert [r["metric"] for r in rows_of(slice_, spent=False)] == ["gpu_hours_expected"]

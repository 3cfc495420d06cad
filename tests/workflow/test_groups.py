"""Which jobs a cluster runs as one, what it holds for them, and what it calls them."""

import pytest
from rule_files import jobs_of
from snakemake.resources import GroupResources
from snakemake_executor_plugin_slurm.utils import get_job_wildcards

RUN = "OLMo-2-7B/3.9T/anthropic_hh/instruct/lr1e-05-seed0"


@pytest.fixture(scope="module")
def jobs(repository) -> list:
    """For tuned models of 7B, for a figure of sweeps, and for directions of fine-tuning."""
    return jobs_of(repository, "fig13", "fig05", "fig10")


@pytest.fixture(scope="module")
def groups(jobs) -> dict:
    found = [job for job in jobs if job.is_group()]
    by_name = {group.groupid: group for group in found}
    assert not any("/" in name for name in by_name)  # most engines make it the name of a file
    assert len(by_name) == len(found)  # jobs of a group that no file links are two
    return by_name


def rules(group) -> list[str]:
    return [job.rule.name for job in group]


def asked(group) -> dict:
    """What a cluster is asked for; a dry run counts as one machine."""
    return GroupResources.basic_layered(group.toposorted, group.global_resources, run_local=False)


def test_no_job_of_a_cluster_holds_a_gpu_that_one_of_its_members_does_not_use(groups):
    assert len(groups) == 126 + 36 + 3  # runs; sweeps of six tasks and checkpoints; directions
    for name, group in groups.items():
        used = {job.rule.name: job.resources["gpu"] for job in group}
        assert set(used.values()) == {asked(group)["gpu"]}, (name, used)


def test_a_run_is_evaluated_on_one_gpu_after_it_was_trained_on_four(jobs, groups):
    group = groups["tuned_run," + RUN.replace("/", ",")]
    assert rules(group) == ["generate_responses", "evaluate_benchmarks", "evaluate_c4_instruct"]
    resources = asked(group)
    assert (resources["gpu"], resources["runtime"]) == (1, 23 + 66 + 27)
    trainings = [job for job in jobs if job.name == "finetune_instruct"]
    assert len(trainings) == 126
    assert {(t.resources["gpu"], t.resources["runtime"]) for t in trainings} == {(4, 104)}


def test_weights_wait_in_the_room_that_their_training_gives_back(jobs, groups):
    """Evaluations first, and within disk_mb: so no limit of the profile is ever passed."""
    training = next(job for job in jobs if job.name == "finetune_instruct")
    group = groups["tuned_run," + RUN.replace("/", ",")]
    assert all(job.priority > training.priority for job in group)  # one by one on one machine
    weights = 4 * 7.3e9 / 1e6  # MB of float32
    assert weights < asked(group)["disk_mb"] < training.resources["disk_mb"]


def test_a_sweep_and_what_reads_it_are_one_job(groups):
    sweeps = [group for name, group in groups.items() if name.startswith("sweep,")]
    assert len(sweeps) == 39
    chains = {tuple(rules(group)) for group in sweeps}
    assert chains == {
        ("finetune", "evaluate_id", "evaluate_c4"),
        ("finetune", "interpolate_finetuning"),
    }


def test_a_judge_is_asked_for_once_a_model_and_as_long_as_all_sweeps_take(jobs):
    (judging,) = (job for job in jobs if job.name == "evaluate_alpaca")
    assert len(judging.input.responses) == 126
    # 203,000 questions are 268 minutes of four GPUs; 1.5 of it, and 45 to load the judge
    assert judging.resources["runtime"] == 447 and judging.resources["gpu"] == 4


def test_the_scheduler_s_comment_says_which_run_or_sweep_a_job_is_of(jobs, groups):
    """The plugin writes a job's wildcards there, and of a group only its name."""
    single = {get_job_wildcards(job) for job in jobs if not job.is_group()}
    assert RUN.replace("/", "_") in single and "OLMo-2-7B_anthropic_hh_instruct" in single
    for name, group in groups.items():
        of_group = {tuple(job.wildcards_dict.values()) for job in group}
        assert {name.split(",", 1)[1]} == {",".join(own) for own in of_group}
        assert get_job_wildcards(group) == "" and group.name.startswith(f"{name}_")

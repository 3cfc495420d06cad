"""What rules ask for: by stage and size, minutes from the work, and a site's limit."""

from types import SimpleNamespace

import pytest
from configuration import PAPERS, ROOT, catalogue_of, changed
from rule_files import rules_of

from overtrain.planning.asked import Ask
from overtrain.planning.stages import FOLLOWERS, STAGES


@pytest.fixture(scope="module")
def ask() -> Ask:
    return Ask(catalogue_of())


def limited(minutes: int) -> Ask:
    return Ask(catalogue_of(changed("resources.limit", minutes)))


def of(model: str, checkpoint: str = "4B", **names: str) -> SimpleNamespace:
    return SimpleNamespace(model=model, checkpoint=checkpoint, **names)


SWEEP = {"task": "gsm8k", "recipe": "default"}
RUN = {"task": "tulu", "recipe": "instruct", "run": "lr1e-06-seed0"}


def test_a_stage_asks_for_what_the_configuration_says(ask):
    asked = ask("evaluate")
    assert {k: v for k, v in asked.items() if k != "runtime"} == {"mem_mb": 64000, "gpu": 1}
    assert ask.threads("evaluate") == 8
    assert ask("draw", local=True)["head_cores"] == 1


def test_a_stage_by_size_asks_for_the_model_s_own(ask):
    small, large = of("OLMo-1B", "3.1T", **RUN), of("OLMo-2-7B", "3.9T", **RUN)
    asked, threads = ask("finetune_instruct"), ask.threads("finetune_instruct")
    assert set(asked) == {"mem_mb", "gpu", "disk_mb", "runtime"}
    assert (asked["gpu"](small), asked["gpu"](large)) == (1, 4)
    assert (threads(small), threads(large)) == (8, 16)
    disk = [asked["disk_mb"](names, rulename="finetune_instruct") for names in (small, large)]
    assert disk == [33_050, 233_639]


def test_a_function_of_the_model_may_say_what_is_asked_for(ask):
    asked = ask(ask.catalogue.perturbation_resources)
    assert set(asked) == {"mem_mb", "gpu", "runtime"}
    assert [asked["mem_mb"](of(m)) for m in ("OLMo-15M", "OLMo-2-7B")] == [32000, 64000]


def test_minutes_are_the_work_with_a_margin_and_the_stage_s_own_and_grow_by_attempt(ask):
    """90M to 128B tokens: 44.25 GPU-hours on 8 GPUs are 332 minutes; 15 + 1.5 x 332."""
    runtime = ask("pretrain")["runtime"]
    asked = [runtime(of("OLMo-90M", "128B"), attempt=n, rulename="pretrain") for n in (1, 2)]
    assert asked == [513, 1026]
    assert runtime(of("OLMo-15M", "4B"), attempt=1, rulename="pretrain") == 18


def test_a_rule_without_work_asks_for_its_stage_s_minutes(ask):
    runtime = ask("draw")["runtime"]
    assert runtime(SimpleNamespace(), attempt=1, rulename="figure") == 20


def test_a_limit_caps_what_goes_on_and_adds_attempts_until_it_is_done(ask):
    """513 minutes in attempts of 120, of which 15 and a state are lost each time."""
    site = limited(120)
    names = of("OLMo-90M", "128B")
    assert [site("pretrain")["runtime"](names, n, "pretrain") for n in (1, 2, 3)] == [120] * 3
    assert site.retries("pretrain") == 5 - 1 + 2
    assert ask.retries("pretrain") is None  # the profile's
    assert limited(513).retries("pretrain") == 0 + 2


def test_a_limit_holds_for_a_group_whose_minutes_add_up():
    site, names = limited(60), of("OLMo-90M", **SWEEP)
    members = {rule: site(STAGES[rule])["runtime"](names, 3, rule) for rule in GROUP}
    assert sum(members.values()) == 60
    assert members["evaluate_c4"] == 22 and members["finetune"] == 60 - 22 - 12


GROUP = ("finetune", "evaluate_id", "evaluate_c4")


def test_jobs_that_a_limit_does_not_let_end_are_named_before_anything_runs(ask):
    assert ask.beyond_limit() is None
    assert limited(500).beyond_limit() is None
    line = limited(200).beyond_limit()
    assert line == (
        "resources.limit is 200 minutes; more is needed by perturb_gaussian of LLM360-Amber "
        "(418 minutes), perturb_gaussian of OLMo-2-7B (418 minutes)"
    )


def test_what_goes_on_from_a_state_needs_little_and_what_does_not_its_whole_time(ask):
    assert ask.least("pretrain", of("OLMo-90M", "128B")) == 15 + 1 + 1
    # a state of 88 GB, written and read at 1 GB/s
    assert ask.least("finetune_instruct", of("OLMo-2-7B", "3.9T", **RUN)) == 30 + 3 + 1
    assert ask.least("perturb_gaussian", of("OLMo-2-7B", "3.9T")) == 418


def test_rules_ask_for_the_stages_and_share_the_groups_that_a_limit_is_checked_by():
    rules = {rule.name: rule for rule in rules_of(ROOT) if rule.script}
    chain = {rule for first, rest in FOLLOWERS.items() for rule in (first, *rest)}
    for first, rest in FOLLOWERS.items():
        assert len({rules[name]._group for name in (first, *rest)}) == 1
    alone = {name for name, rule in rules.items() if rule._group} - chain
    assert alone == {"interpolate_finetuning"}  # in place of a sweep's evaluations, and shorter
    resources = catalogue_of().settings.resources
    for name, stage in STAGES.items():
        own = getattr(resources, stage)
        if not isinstance(own, dict) and name != "perturb_gaussian":
            asked = rules[name].resources
            assert asked["mem_mb"].value == own.mem_mb and asked["gpu"].value == own.gpu, name


def test_an_unknown_size_of_the_judge_is_one_line():
    from configuration import checked

    from overtrain import PipelineError

    with pytest.raises(PipelineError, match=r"resources\.judge\.size is '71B', not in shapes"):
        checked(changed("resources.judge.size", "71B", PAPERS))

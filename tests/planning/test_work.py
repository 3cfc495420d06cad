"""What jobs cost: a pre-training and a fine-tune by hand, disk, and an entry for every rule."""

from types import SimpleNamespace

import pytest
from configuration import ROOT, at_scale, catalogue_of, changed
from rule_files import rules_of

from overtrain.planning.calibration import Calibration, Piece
from overtrain.planning.estimate import Estimator
from overtrain.planning.work import RULES, Work


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator(catalogue_of())


def of(model: str, checkpoint: str = "4B", **names: str) -> SimpleNamespace:
    return SimpleNamespace(model=model, checkpoint=checkpoint, **names)


def sweep(task: str, model: str = "OLMo-30M", recipe: str = "default") -> SimpleNamespace:
    return of(model, task=task, recipe=recipe)


RUN = {"task": "tulu", "recipe": "instruct", "run": "lr1e-06-seed0"}


@pytest.mark.parametrize(
    ("model", "hours"), [("OLMo-15M", 12.8), ("OLMo-30M", 38.0), ("OLMo-90M", 87.1)]
)
def test_all_budgets_of_a_size_at_forty_percent_of_an_h100(estimator, model, hours):
    """252 billion tokens in six budgets."""
    points = estimator.catalogue.checkpoints(model)
    needs = [estimator.need("pretrain", of(model, point.name), 8) for point in points]
    assert sum(8 * need.seconds for need in needs) / 3600 == pytest.approx(hours, abs=0.05)


def test_a_pretraining_by_hand(estimator):
    """OLMo-15M to 4B tokens: 72,105,984 FLOPs a token (test_formulas) on 8 H100s at 40 %."""
    need = estimator.need("pretrain", of("OLMo-15M"), 8)
    assert need.work.flops == 4e9 * 72_105_984
    assert need.seconds == pytest.approx(2.8842e17 / (0.4 * 989e12) / 8, rel=1e-4)
    assert need.seconds == pytest.approx(91.1, abs=0.1)


def test_a_fine_tuning_by_hand(estimator):
    """OLMo-30M on GSM8K: 7,000 texts of 170 tokens, 4 epochs, 27 rates x 3 seeds."""
    trunk, head = 6 * (4 * 384**2 + 3 * 384 * 1536), 50304 * 384
    forward = 2 * (trunk + head) + 2 * 6 * 384 * 170
    runs = 27 * 3
    flops = runs * 4 * (7000 * 170 * 3 * forward + 400 * 170 * forward)
    steps = runs * 4 * 110  # batches of 64
    traffic = steps * 60 * (trunk + 2 * head)
    need = estimator.need("finetune", sweep("gsm8k"), 1)
    assert (need.work.flops, need.work.traffic) == (flops, traffic)
    seconds = flops / (0.2 * 989e12) + traffic / (0.6 * 3.35e12)
    assert need.seconds == pytest.approx(seconds)
    assert need.seconds / 60 == pytest.approx(7.7, abs=0.1)


def test_a_choice_has_logits_at_its_answer_alone(estimator):
    """TREC: 20 tokens of which two are the answer, six choices to score, one to learn."""
    trunk, head = 6 * (4 * 384**2 + 3 * 384 * 1536), 50304 * 384
    forward = 2 * (trunk + 0.1 * head) + 2 * 6 * 384 * 20
    learned, scored = 4900 * 20 * 3 * forward, 500 * 6 * 20 * forward
    need = estimator.need("finetune", sweep("trec"), 1)
    assert need.work.flops == pytest.approx(81 * 4 * (learned + scored))


def test_a_loss_on_the_whole_text_has_logits_everywhere_in_training():
    trunk, head = 6 * (4 * 384**2 + 3 * 384 * 1536), 50304 * 384
    answer = 2 * (trunk + 0.1 * head) + 2 * 6 * 384 * 20
    learned, scored = 4900 * 20 * 3 * (answer + 0.9 * 2 * head), 500 * 6 * 20 * answer
    own = Estimator(catalogue_of(changed("tasks.trec.loss_on", "all")))
    assert own.need("finetune", sweep("trec"), 1).work.flops == pytest.approx(
        81 * 4 * (learned + scored)
    )


def test_an_evaluation_scores_the_base_and_two_snapshots_of_each_run(estimator):
    work = estimator.need("evaluate_c4", sweep("gsm8k"), 1).work
    trunk, head = 6 * (4 * 384**2 + 3 * 384 * 1536), 50304 * 384
    assert work.flops == 163 * 2097152 * (2 * (trunk + head) + 2 * 6 * 384 * 1024)
    assert work.precision == "tf32"


def test_a_run_of_instruction_tuning_by_hand(estimator):
    """OLMo-2-7B on TULU: 200,000 conversations of 600 tokens; 8 N and attention, four GPUs."""
    trunk = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    forward = 2 * (trunk + 100352 * 4096) + 2 * 32 * 4096 * 600
    weights = trunk + 2 * 100352 * 4096
    need = estimator.need("finetune_instruct", of("OLMo-2-7B", "3.9T", **RUN), 4)
    assert need.work.flops == 120e6 * 4 * forward
    disk = 4 * 4 * weights / 1e9  # the base twice, what is trained, what is handed on
    updates = 781 * 60 * weights / (0.6 * 3.35e12) / 4
    products = need.work.flops / (0.25 * 989e12) / 4
    assert need.seconds == pytest.approx(products + updates + disk)


def test_an_evaluation_of_prompted_tasks_by_hand():
    """OLMo-1B on MNLI alone: 500 questions of 70 tokens with four shots, in three formats.

    vLLM reads a prompt for each of the three labels, and to generate five tokens.
    """
    trunk, head = 16 * (4 * 2048**2 + 3 * 2048 * 8192), 50304 * 2048
    forward = 2 * (trunk + head) + 2 * 16 * 2048 * 350
    one = {"mnli_matched": {"task": "mnli"}}
    config = changed("task_suites.amuro_char.evaluations", one)
    config["task_suites"]["amuro_char"]["questions"] = 500
    own = Estimator(catalogue_of(config))
    work = own.need("evaluate_task_base", of("OLMo-1B-steps", "main"), 1).work
    assert work.flops == 1500 * (4 * 350 + 5) * forward
    cache = 256 * 350 * 2 * 16 * 2048 * 2
    assert work.decoded == 6 * 5 * (2 * (trunk + head) + cache) and work.waits == 0
    seconds = work.flops / (0.25 * 989e12) + work.decoded / (0.4 * 3.35e12)
    assert own.seconds(work, 1) == pytest.approx(seconds + work.moved / 1e9)
    names = {"task": "mnli", "recipe": "completion", "run": "lr2e-06-seed0"}
    run = own.need("evaluate_task", of("OLMo-1B-steps", "main", **names), 1).work
    assert run.flops == 2000 * (4 * 350 + 5) * forward  # and its own 500 of validation
    assert run.waits == 4 * (trunk + head)
    other = names | {"task": "paws"}
    run = own.need("evaluate_task", of("OLMo-1B-steps", "main", **other), 1).work
    assert run.flops < 2000 * (4 * 350 + 5) * forward  # another domain: one format


def test_programs_of_a_run_are_written_by_its_last_weights_and_by_those_kept_at_steps(estimator):
    """Gemma-2B on TinyGSM: 200 questions, 32 at a time, 256 new tokens; kept after three steps."""
    trunk = 18 * (2 * 2048**2 + 2 * 2048 * 256 + 3 * 2048 * 16384)
    head = 256000 * 2048  # tied: the embedding is the head
    forward = 2 * (trunk + head) + 2 * 18 * 2048 * 300
    names = {"task": "tinygsm", "recipe": "programs"}
    base = estimator.need("evaluate_programs_base", of("Gemma-2B", "6T", **names), 1).work
    steps, cache = 7 * 256, 32 * 128 * 2 * 18 * 256 * 2  # half of the new tokens
    assert base.flops == 200 * 300 * forward
    assert base.decoded == steps * (2 * (trunk + head) + cache)
    assert base.layers == steps * 18
    assert base.moved == 2 * 4 * (trunk + head) and base.waits == 0
    names |= {"run": "lr1e-06-seed0"}
    run = estimator.need("evaluate_programs", of("Gemma-2B", "6T", **names), 1).work
    each = ("flops", "decoded", "layers", "moved")
    assert [getattr(run, name) for name in each] == [4 * getattr(base, name) for name in each]
    assert run.waits == 4 * 4 * (trunk + head)
    plain = Estimator(catalogue_of(changed("instruction_recipes.programs.snapshots", None)))
    alone = plain.need("evaluate_programs", of("Gemma-2B", "6T", **names), 1).work
    assert [getattr(alone, name) for name in each] == [getattr(base, name) for name in each]
    assert alone.waits == 4 * (trunk + head)
    # The tuning itself holds them twice: in its state, and in what it hands on.
    kept, none = (
        own.need("finetune_instruct", of("Gemma-2B", "6T", **names), 1)
        for own in (estimator, plain)
    )
    assert kept.work.flops == none.work.flops
    assert kept.work.disk - none.work.disk == 2 * 3 * 4 * (trunk + head)


VISUAL = {"task": "llava_instructions", "recipe": "llava", "run": "lr8e-06-seed0"}
PROJECTOR = {"recipe": "llava", "projector": "seed0"}
ENCODER = 3.81e11  # FLOPs of CLIP-L/14's 577 tokens: 24 layers of 12 x 1,024 squared, and attention


def test_an_image_costs_what_its_encoder_does():
    products, attention = 2 * 24 * 12 * 1024**2 * 577, 4 * 24 * 1024 * 577**2
    assert products + attention == pytest.approx(ENCODER, rel=2e-3)


def test_a_run_of_visual_tuning_by_hand(estimator):
    """OLMo-1B: 664,298 conversations of 250 tokens behind an image of 576, one GPU."""
    trunk, head = 16 * (4 * 2048**2 + 3 * 2048 * 8192), 50304 * 2048
    forward = 2 * (trunk + head) + 2 * 16 * 2048 * 826
    need = estimator.need("finetune_vision", of("OLMo-1B", "3.1T", **VISUAL), 1)
    assert need.work.flops == 664_298 * (826 * 4 * forward + ENCODER)
    disk = 4 * 4 * (trunk + head) / 1e9
    updates = 664_298 // 256 * 60 * (trunk + head) / (0.6 * 3.35e12)
    assert need.seconds == pytest.approx(need.work.flops / (0.25 * 989e12) + updates + disk)


def test_a_projector_needs_no_gradient_of_the_language_model_s_weights(estimator):
    """557,128 captions of 20 tokens: a pass, the same again, and back."""
    trunk, head = 16 * (4 * 2048**2 + 3 * 2048 * 8192), 50304 * 2048
    forward = 2 * (trunk + head) + 2 * 16 * 2048 * 596
    work = estimator.need("align_projector", of("OLMo-1B", "3.1T", **PROJECTOR), 1).work
    assert work.flops == 557_128 * (596 * 3 * forward + ENCODER) and work.temporary == 0


@pytest.mark.parametrize(
    ("rule", "names", "gigabytes"),
    [
        # 81 runs x 2 snapshots x 2 bytes; two states of 16 bytes for each of 41 runs, or of 27
        ("finetune", sweep("gsm8k"), (81 * 4 + 2 * 41 * 16) * 52_789_248 / 1e9),
        ("finetune", sweep("gsm8k", "OLMo-90M"), (81 * 4 + 2 * 27 * 16) * 105_726_528 / 1e9),
        # weights, and two states of 12 bytes
        ("pretrain", of("OLMo-90M"), 28 * 105_726_528 / 1e9),
        ("finetune_instruct", of("OLMo-1B", "3.1T", **RUN), 28 * 1_176_764_416 / 1e9),
        ("finetune_instruct", of("OLMo-2-7B", "3.9T", **RUN), 32 * 7.298e9 / 1e9),
        ("finetune_vision", of("OLMo-2-7B", "3.9T", **VISUAL), 32 * 7.298e9 / 1e9),
        ("generate_responses", of("OLMo-2-7B", "3.9T", **RUN), 29.2),
        ("evaluate_vision", of("OLMo-2-7B", "3.9T", **VISUAL), 29.2),
        ("evaluate_benchmarks_base", of("OLMo-2-7B", "3.9T"), 0),
        ("download_judge", SimpleNamespace(judge="llama3_70b"), 141.1),
        ("download_checkpoint", of("OLMo-1B", "3.1T"), 2 * 4.707),
        ("build_corpus", SimpleNamespace(corpus="c4"), 256.3),
        # archives, and the one made of them; the vision half, and the whole model beside it
        ("prepare_image_task", SimpleNamespace(task="llava_captions"), 2 * 27.0),
        ("prepare_image_task", SimpleNamespace(task="llava_instructions"), 2 * 72.377),
        ("download_encoder", SimpleNamespace(encoder="clip_l14_336"), 1.214 + 1.711),
    ],
)
def test_the_disk_that_a_job_holds(estimator, rule, names, gigabytes):
    need = estimator.need(rule, names, 1)
    assert need.disk_mb / 1000 == pytest.approx(gigabytes, rel=2e-3, abs=1e-3)


@pytest.mark.parametrize(
    ("rule", "names", "gigabytes"),
    [
        ("prepare_image_task", {"task": "llava_captions"}, 27.0),
        ("prepare_image_task", {"task": "llava_instructions"}, 72.377),
        ("download_encoder", {"encoder": "clip_l14_336"}, 1.711),
    ],
)
def test_images_and_their_encoder_are_downloads(estimator, rule, names, gigabytes):
    need = estimator.need(rule, SimpleNamespace(**names), 1)
    assert need.work.downloaded == pytest.approx(gigabytes * 1e9)
    assert need.seconds >= need.work.downloaded / estimator.hardware.network


def test_digits_are_no_download():
    demo = Estimator(catalogue_of(at_scale("profiles/demo/overlay.yaml")))
    for task in ("digit_captions", "digit_questions"):
        need = demo.need("prepare_image_task", SimpleNamespace(task=task), 0)
        assert need.work == Work() and need.disk_mb == 0


def test_archives_that_are_here_are_not_fetched_and_sizes_rerun_nothing():
    archive = "tasks.llava_captions.source.archives.images"
    own = catalogue_of(changed(f"{archive}.repository", "/data/llava"))
    work = Estimator(own).need("prepare_image_task", SimpleNamespace(task="llava_captions"), 1).work
    assert (work.downloaded, work.scratch, work.kept) == (0, 0, 27e9)
    plain, other = catalogue_of(), catalogue_of(changed(f"{archive}.mb", 5))
    assert plain.task_slice("llava_captions") == other.task_slice("llava_captions")
    assert plain.encoder_slice("clip_l14_336") == catalogue_of(
        changed("encoders.clip_l14_336.mb", 5)
    ).encoder_slice("clip_l14_336")


def test_what_asks_for_a_gpu_has_an_entry():
    rules = [rule for rule in rules_of(ROOT) if rule.script]
    with_gpu = {rule.name for rule in rules if rule.resources["gpu"]._value != 0}
    assert "finetune_instruct" in with_gpu
    assert with_gpu <= RULES.keys() <= {rule.name for rule in rules}


def test_jobs_of_a_rule_that_cost_the_same_are_computed_once(estimator):
    one, other = (of("OLMo-1B", point, **RUN) for point in ("3.1T", "0.5T"))
    needs = [estimator.need("finetune_instruct", names, 1) for names in (one, other)]
    assert needs[0] is needs[1]
    assert estimator.need("pretrain", of("OLMo-15M", "8B"), 8) is not estimator.need(
        "pretrain", of("OLMo-15M", "4B"), 8
    )


def test_a_measured_speed_takes_the_place_of_the_assumed_one():
    piece = Piece("pretraining", "OLMo-15M", 1e6, 1e14, 0.1, 9.0, "windows")
    measured = Calibration("H100", "", (piece,))
    estimator = Estimator(catalogue_of(), measured)
    flops = 4e9 * 72_105_984
    assert estimator.need("pretrain", of("OLMo-15M"), 8).seconds == flops / 1e14 / 8
    assumed = estimator.need("pretrain", of("OLMo-30M"), 8)
    assert assumed.seconds == Estimator(catalogue_of()).need("pretrain", of("OLMo-30M"), 8).seconds


def test_a_gpu_s_speed_says_nothing_of_a_job_on_the_cpu():
    piece = Piece("pretraining", "OLMo-10K", 1e6, 1e14, 0.1, 9.0, "windows")
    demo = catalogue_of(at_scale("profiles/demo/overlay.yaml"))
    names = of("OLMo-10K", "0.84M")
    seconds = [
        Estimator(demo, own).need("pretrain", names, 0).seconds
        for own in (
            Calibration(),
            Calibration("H100", "", (piece,)),
            Calibration("cpu", "", (piece,)),
        )
    ]
    assert seconds[0] == seconds[1] != seconds[2]

"""What a job of each rule computes, downloads, holds while it runs, and leaves.

A rule's entry is a function of the catalogue and the job's wildcards. `RULES` has all of them: the
time that jobs ask for and the plan are both made of it. Rules without an entry (aggregates,
figures, tasks of text) compute nothing to speak of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from overtrain.config.catalogue import Catalogue
from overtrain.config.corpora import TOKEN_BYTES
from overtrain.config.encoders import HubEncoder
from overtrain.config.hub import is_local
from overtrain.config.judges import LocalJudge, ServedJudge
from overtrain.config.models import PretrainedModel
from overtrain.config.tasks import Classification, ImageArchives, Prompted
from overtrain.planning.formulas import BFLOAT16, FLOAT32, STATE, UPDATE, Size

SNAPSHOTS = 2  # that are kept of a sweep's run: its best epoch and its last
ANSWER = 2  # tokens of a choice's answer, which alone has logits
REQUEST = 450  # tokens of a benchmark's request with five examples
ASKED = 50  # tokens of a question about an image, with the template's
QUESTION = 900  # tokens a judge is asked: 300 of template, 100 of instruction, 250 of each answer
ORDERS = 2  # that a judge sees two answers in
ANSWERED = 0.5  # of the new tokens that an answer may have: what the cache holds on average
VLLM_BATCH = 256  # sequences that vLLM decodes at a time
FREE = 0.85  # of a GPU's memory, which stacks may take (scripts/job.py)
MB, GB = 1e6, 1e9

Precision = Literal["bf16", "tf32", "fp32"]


@dataclass(frozen=True)
class Work:
    """Of one job. Bytes and FLOPs are of all its GPUs together.

    kind: which of hardware.utilisation; model: a model's name, or a released model's size.
    """

    kind: str = ""
    model: str = ""
    precision: Precision = "bf16"
    flops: float = 0
    traffic: float = 0  # bytes of GPU memory that weights' updates move
    decoded: float = 0  # bytes of GPU memory that generation reads
    layers: float = 0  # layers that steps of generation go through, one after the other
    host: float = 0  # numbers of noise that the host draws
    tokenised: float = 0  # tokens, by each thread
    moved: float = 0  # bytes to and from the disk
    downloaded: float = 0  # bytes
    kept: float = 0  # bytes of outputs
    temporary: float = 0  # bytes of outputs that are removed when they have been read
    scratch: float = 0  # bytes beside outputs, while it runs
    waits: float = 0  # bytes of temporary inputs, which lie there for it
    state: float = 0  # bytes of a state that it goes on from; none: it starts anew
    whole: bool = True  # it cannot go on from where a limit stopped it

    @property
    def disk(self) -> float:
        return self.kept + self.temporary + self.scratch + self.waits


Wildcards = Any  # a job's names, as attributes
Rule = Callable[[Catalogue, Wildcards], Work]
RULES: dict[str, Rule] = {}


def of(*rules: str) -> Callable[[Rule], Rule]:
    """The function is the entry of these rules."""

    def enter(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(rules, function))
        return function

    return enter


# --- text and checkpoints -------------------------------------------------------------------------


@of("download_text")
def download_text(catalogue: Catalogue, names: Wildcards) -> Work:
    size = MB * catalogue.of_hub(names.corpus).texts_mb(names.part)
    return Work(temporary=size, downloaded=size)


@of("tokenise")
def tokenise(catalogue: Catalogue, names: Wildcards) -> Work:
    """Its threads share a part's files."""
    size = MB * catalogue.of_hub(names.corpus).shards_mb(names.part)
    threads = catalogue.settings.resources.tokenise.threads
    return Work(temporary=size, tokenised=size / TOKEN_BYTES / threads)


@of("build_corpus")
def corpus(catalogue: Catalogue, names: Wildcards) -> Work:
    size = MB * catalogue.settings.corpora[names.corpus].disk_mb
    return Work(kept=size, moved=size)  # read once, to verify; linked, not copied


@of("download_checkpoint")
def checkpoint(catalogue: Catalogue, names: Wildcards) -> Work:
    """Weights in float32, as the hub has these; pickled ones lie beside their copy for a while."""
    size = released(catalogue, names.model)
    if catalogue.stands_in(names.model, names.checkpoint):
        return Work(kept=FLOAT32 * size.weights)
    weights = FLOAT32 * size.weights
    return Work(kept=weights, scratch=weights, downloaded=weights)


@of("download_judge")
def judge_weights(catalogue: Catalogue, names: Wildcards) -> Work:
    weights = BFLOAT16 * judge_size(catalogue).weights
    return Work(kept=weights, downloaded=weights)


@of("prepare_image_task")
def image_task(catalogue: Catalogue, names: Wildcards) -> Work:
    """Archives of the hub lie beside the one that is made of them, which has most of their images.

    The others are not counted: a column of images is not known in advance, digits are small.
    """
    source = catalogue.settings.tasks[names.task].source
    if not isinstance(source, ImageArchives):
        return Work()
    archives = source.archives.values()
    size = MB * sum(own.mb for own in archives)
    fetched = MB * sum(own.mb for own in archives if not is_local(own.repository))
    return Work(kept=size, scratch=fetched, downloaded=fetched, moved=size)


@of("download_encoder")
def encoder(catalogue: Catalogue, names: Wildcards) -> Work:
    """The whole CLIP model is fetched; its vision half stays."""
    own = catalogue.settings.encoders[names.encoder]
    assert isinstance(own, HubEncoder)
    fetched = 0 if is_local(own.repository) else MB * own.download_mb
    return Work(kept=MB * own.mb, scratch=fetched, downloaded=fetched)


@of("pretrain")
def pretrain(catalogue: Catalogue, names: Wildcards) -> Work:
    """6 N, and attention, a token. A state replaces the last one when it is whole."""
    own, size = pretrained(catalogue, names.model)
    tokens = catalogue.checkpoint(names.model, names.checkpoint).tokens
    return Work(
        kind="pretraining",
        model=names.model,
        flops=tokens * size.training(own.architecture.context),
        kept=FLOAT32 * size.weights,
        scratch=2 * STATE * size.weights,
        state=STATE * size.weights,
        whole=False,
    )


# --- sweeps of small models -----------------------------------------------------------------------


@of("finetune")
def finetune(catalogue: Catalogue, names: Wildcards) -> Work:
    """Every run of a sweep: 6 N a token, and AdamW's traffic, which small batches do not hide.

    After each epoch the validation split is scored. Its state is that of the stack in training,
    and two lie there while one replaces the other; stacks that are done are the output's bytes.
    """
    settings, (_, size) = catalogue.settings, pretrained(catalogue, names.model)
    recipe, task = settings.recipes[names.recipe], settings.tasks[names.task]
    length, choices, scored = example(catalogue, names)
    runs, examples = len(recipe.runs()), task.examples
    learned = 1.0 if getattr(task, "loss_on", "all") == "all" else scored
    flops = examples.train * length * size.training(length, learned)
    flops += examples.validation * choices * length * size.forward(length, scored)
    steps = -(-examples.train // recipe.batch_size)
    changes = SNAPSHOTS * BFLOAT16 * size.weights  # of a run
    room = FREE * GB * settings.hardware.memory_gb
    stacks = math.ceil(runs / max(1, room // ((STATE + FLOAT32) * size.weights + changes)))
    state = math.ceil(runs / stacks) * (STATE * size.weights + changes)
    return Work(
        kind="sweep",
        model=names.model,
        flops=runs * recipe.epochs * flops,
        traffic=runs * recipe.epochs * steps * UPDATE * size.weights,
        temporary=runs * changes,
        scratch=2 * state,
        state=state,
        whole=False,
    )


@of("evaluate_id")
def evaluate_id(catalogue: Catalogue, names: Wildcards) -> Work:
    """The base and every snapshot on the task's validation and test splits."""
    examples = catalogue.settings.tasks[names.task].examples
    length, choices, scored = example(catalogue, names)
    _, size = pretrained(catalogue, names.model)
    tokens = (examples.validation + examples.test) * choices * length
    return losses(names, members(catalogue, names) * tokens * size.forward(length, scored))


@of("evaluate_c4")
def evaluate_c4(catalogue: Catalogue, names: Wildcards) -> Work:
    """The base and every snapshot on held-out text: 2 N a token."""
    own, size = pretrained(catalogue, names.model)
    tokens = members(catalogue, names) * catalogue.settings.evaluations.c4.tokens
    return losses(names, tokens * size.forward(own.architecture.context))


# --- noise and curvature --------------------------------------------------------------------------


@of("perturb_gaussian")
def perturb(catalogue: Catalogue, names: Wildcards) -> Work:
    """The base and each size x draw of the noise on held-out text; the host draws the noise."""
    settings = catalogue.settings
    noisy = len(settings.perturbation.gammas) * len(settings.perturbation.seeds)
    tokens = (1 + noisy) * settings.evaluations.c4.tokens
    if catalogue.study_of(names.model) == "released":
        own, size = catalogue.released(names.model), released(catalogue, names.model)
        return Work(
            kind="released",
            model=own.size,
            precision="tf32",
            flops=tokens * size.forward(own.window),
            host=noisy * size.weights,
            moved=FLOAT32 * size.weights,
        )
    model, size = pretrained(catalogue, names.model)
    flops = tokens * size.forward(model.architecture.context)
    return losses(names, flops, host=noisy * size.weights)


@of("measure_sharpness")
def sharpness(catalogue: Catalogue, names: Wildcards) -> Work:
    """A Hessian-vector product for each draw; a pass at plus and minus each size of each draw."""
    own, (_, size) = catalogue.settings.sharpness, pretrained(catalogue, names.model)
    draws = len(own.seeds)
    points = 1 + 2 * len(own.gammas) * draws
    work = along(catalogue, names, draws, points, own.tokens)
    return replace(work, host=points * size.weights)


@of("interpolate_gaussian", "interpolate_finetuning")
def interpolate(catalogue: Catalogue, names: Wildcards) -> Work:
    """One Hessian-vector product, and a pass at each lambda."""
    own = catalogue.settings.interpolation
    which = "fine_tuning" if hasattr(names, "task") else "gaussian"
    return along(catalogue, names, 1, len(own.slice(which)["lambdas"]), own.tokens)


def along(catalogue: Catalogue, names: Wildcards, directions: int, points: int, text: int) -> Work:
    """Curvature along directions and losses at points, all in float32, on `text` tokens."""
    own, size = pretrained(catalogue, names.model)
    context = own.architecture.context
    flops = text * (size.curvature(context, directions) + points * size.forward(context))
    return Work(kind="curvature", model=names.model, precision="fp32", flops=flops)


# --- instruction tuning and what it is measured on ------------------------------------------------


@of("finetune_instruct")
def finetune_instruct(catalogue: Catalogue, names: Wildcards) -> Work:
    """8 N a token. States of 12 bytes a weight, two while one replaces the other.

    On several GPUs the weights are gathered beside what is handed on.
    """
    recipe = catalogue.settings.instruction_recipes[names.recipe]
    task, size = catalogue.settings.tasks[names.task], released(catalogue, names.model)
    length = min(task.tokens, recipe.max_length)
    work = tuned(catalogue, names, "finetune_instruct", length * size.recomputed(length))
    kept = len(recipe.snapshots or ()) * FLOAT32 * size.weights
    return replace(work, temporary=work.temporary + kept, scratch=work.scratch + kept)


@of("align_projector")
def align_projector(catalogue: Catalogue, names: Wildcards) -> Work:
    """Forward and backward through the language model without its weights' gradients: 6 N a token.

    Passes are computed again for the backward one. The projector and its states are small.
    """
    recipe = catalogue.visual(names.recipe)
    own, size = catalogue.released(names.model), released(catalogue, names.model)
    task = catalogue.settings.tasks[recipe.alignment.task]
    length, encoder = with_image(catalogue, names.recipe, task.tokens)
    examples = recipe.alignment.epochs * task.examples.train
    return Work(
        kind="instruction",
        model=own.size,
        precision="bf16" if recipe.alignment.precision == "bf16" else "tf32",
        flops=examples * (length * 3 * size.forward(length) + encoder),
        moved=FLOAT32 * size.weights,
        whole=False,
    )


@of("finetune_vision")
def finetune_vision(catalogue: Catalogue, names: Wildcards) -> Work:
    """As instruction tuning, with an image before each text, and the encoder's pass over it."""
    task, size = catalogue.settings.tasks[names.task], released(catalogue, names.model)
    length, encoder = with_image(catalogue, names.recipe, task.tokens)
    return tuned(catalogue, names, "finetune_vision", length * size.recomputed(length) + encoder)


@of("evaluate_vision")
def evaluate_vision(catalogue: Catalogue, names: Wildcards) -> Work:
    """2 N a token of the suite's questions and images, in bfloat16; answers are a few tokens."""
    own, size = catalogue.released(names.model), released(catalogue, names.model)
    length, encoder = with_image(catalogue, names.recipe, ASKED)
    questions = (catalogue.vision_suite.tokens or 0) / length
    return Work(
        kind="benchmarks",
        model=own.size,
        flops=questions * (length * size.forward(length) + encoder),
        moved=FLOAT32 * size.weights,
        waits=FLOAT32 * size.weights,
    )


@of("generate_responses")
def generate(catalogue: Catalogue, names: Wildcards) -> Work:
    """A step of a batch reads the weights and the cache of keys and values, all in bfloat16."""
    own, size = catalogue.settings.evaluations.alpaca, released(catalogue, names.model)
    count = catalogue.settings.prompts[own.prompts].count
    batch = min(count, VLLM_BATCH if own.backend == "vllm" else own.batch_size)
    steps = -(-count // batch) * own.max_new_tokens
    cache = batch * ANSWERED * own.max_new_tokens * size.cache()
    return Work(
        kind="decoding",
        model=catalogue.released(names.model).size,
        decoded=steps * (BFLOAT16 * size.weights + cache),
        layers=0 if own.backend == "vllm" else steps * size.layers,
        moved=FLOAT32 * size.weights,
        waits=FLOAT32 * size.weights,
    )


@of("evaluate_task", "evaluate_task_base")
def evaluate_task(catalogue: Catalogue, names: Wildcards) -> Work:
    """2 N a token of each prompt, and of what is generated; each step of generation reads weights.

    A prompt is a question with its shots, or what the context holds of it. It is read to generate;
    where the answer is one of some choices it is read again: once by transformers, whose logits
    serve all of them, and by vLLM once for each.
    """
    own, size = catalogue.released(names.model), released(catalogue, names.model)
    suite = catalogue.task_suite
    several = suite.backend == "vllm"
    flops = decoded = steps = 0.0
    for task, count in questions(catalogue, getattr(names, "task", None)):
        length = min((suite.shots + 1) * task.tokens, own.window - task.new_tokens)
        choices = len(task.choices or ())
        passes = 1 + (choices if several else min(1, choices))
        flops += count * (passes * length + task.new_tokens) * size.forward(length)
        batch = min(count, VLLM_BATCH if several else suite.batch_size)
        taken = -(-count // batch) * task.new_tokens
        decoded += taken * (BFLOAT16 * size.weights + batch * length * size.cache())
        steps += taken
    return Work(
        kind="benchmarks",
        model=own.size,
        flops=flops,
        decoded=decoded,
        layers=0 if several else steps * size.layers,
        moved=FLOAT32 * size.weights,
        waits=waiting(names, size),
    )


@of("evaluate_programs", "evaluate_programs_base")
def evaluate_programs(catalogue: Catalogue, names: Wildcards) -> Work:
    """Programs by transformers, step by step, of each of a run's weights; their validation loss."""
    own, size = catalogue.released(names.model), released(catalogue, names.model)
    asked, task = catalogue.settings.evaluations.programs, catalogue.prompted(names.task)
    recipe = catalogue.settings.instruction_recipes[names.recipe]
    weights = 1 + (len(recipe.snapshots or ()) if hasattr(names, "run") else 0)
    count = min(task.examples.test, asked.questions)
    steps = weights * -(-count // asked.batch_size) * task.new_tokens
    cache = asked.batch_size * ANSWERED * task.new_tokens * size.cache()
    return Work(
        kind="decoding",
        model=own.size,
        flops=weights * task.examples.validation * task.tokens * size.forward(task.tokens),
        decoded=steps * (BFLOAT16 * size.weights + cache),
        layers=steps * size.layers,
        moved=2 * weights * FLOAT32 * size.weights,
        waits=waiting(names, size) * weights,
    )


def questions(catalogue: Catalogue, tuned: str | None) -> Iterator[tuple[Prompted, int]]:
    """Tasks that a base (None), or a run on a task, is asked, and how often, over all formats."""
    suite = catalogue.task_suite
    for name, asked in suite.evaluations.items():
        task = catalogue.prompted(asked.task)
        count = min(task.examples.test, suite.questions or task.examples.test)
        yield task, count * len(catalogue.formats_asked(name, tuned))
    if tuned and catalogue.own_files(tuned):
        task = catalogue.prompted(tuned)
        yield task, min(task.examples.validation, suite.validation)


@of("evaluate_benchmarks", "evaluate_benchmarks_base")
def benchmarks(catalogue: Catalogue, names: Wildcards) -> Work:
    """2 N a token of the suite's requests, in bfloat16."""
    size = released(catalogue, names.model)
    tokens = catalogue.suite_of(names.model).tokens or 0
    return Work(
        kind="benchmarks",
        model=catalogue.released(names.model).size,
        flops=tokens * size.forward(REQUEST),
        moved=FLOAT32 * size.weights,
        waits=waiting(names, size),
    )


@of("evaluate_c4_base", "evaluate_c4_instruct")
def evaluate_c4_released(catalogue: Catalogue, names: Wildcards) -> Work:
    """2 N a token of held-out text, in float32."""
    own, size = catalogue.released(names.model), released(catalogue, names.model)
    return Work(
        kind="released",
        model=own.size,
        precision="tf32",
        flops=catalogue.settings.evaluations.c4.tokens * size.forward(own.window),
        moved=FLOAT32 * size.weights,
        waits=waiting(names, size),
    )


@of("evaluate_alpaca")
def alpaca(catalogue: Catalogue, names: Wildcards) -> Work:
    """2 N of the judge a token of its questions, whose answers are one token; its weights are read.

    The sweeps of all of a model's checkpoints. Verdicts are kept as they come.
    """
    if not isinstance(catalogue.judge, (ServedJudge, LocalJudge)):
        return Work()  # asked elsewhere, or no model
    size = judge_size(catalogue)
    runs = len(catalogue.checkpoints(names.model)) * len(catalogue.runs(names.recipe))
    count = catalogue.settings.prompts[catalogue.settings.evaluations.alpaca.prompts].count
    return Work(
        kind="judge",
        model=catalogue.settings.resources.judge.size,
        flops=runs * count * ORDERS * QUESTION * size.forward(QUESTION, 1 / QUESTION),
        moved=BFLOAT16 * size.weights,
        whole=False,
    )


# --- what they share ------------------------------------------------------------------------------


def pretrained(catalogue: Catalogue, model: str) -> tuple[PretrainedModel, Size]:
    found = catalogue.settings.models[model]
    assert isinstance(found, PretrainedModel)
    return found, Size.of(found.architecture)


def released(catalogue: Catalogue, model: str) -> Size:
    return Size.of(catalogue.settings.shapes[catalogue.released(model).size])


def tuned(catalogue: Catalogue, names: Wildcards, stage: str, flops: float) -> Work:
    """Of a run whose weights all move. flops: of an example."""
    recipe, task = catalogue.recipe(names.recipe), catalogue.settings.tasks[names.task]
    own, size = catalogue.released(names.model), released(catalogue, names.model)
    several = getattr(catalogue.settings.resources, stage)[own.size].gpu > 1
    weights = FLOAT32 * size.weights
    return Work(
        kind="instruction",
        model=own.size,
        precision="bf16" if recipe.precision == "bf16" else "tf32",
        flops=recipe.epochs * task.examples.train * flops,
        traffic=recipe.epochs * (task.examples.train // recipe.batch_size) * UPDATE * size.weights,
        moved=4 * weights,  # the base, twice; the tuned weights, written and handed on
        temporary=weights,
        scratch=2 * STATE * size.weights + (weights if several else 0),
        state=STATE * size.weights,
        whole=False,
    )


def with_image(catalogue: Catalogue, recipe: str, tokens: int) -> tuple[int, float]:
    """Tokens of a text behind its image, and FLOPs of the encoder's pass over that."""
    own = catalogue.visual(recipe)
    encoder = catalogue.settings.encoders[own.encoder]
    return min(encoder.image_tokens + tokens, own.max_length), encoder.flops


def judge_size(catalogue: Catalogue) -> Size:
    return Size.of(catalogue.settings.shapes[catalogue.settings.resources.judge.size])


def waiting(names: Wildcards, size: Size) -> float:
    """Bytes of a run's weights, which are removed after its last evaluation; none of a base's."""
    return FLOAT32 * size.weights if hasattr(names, "run") else 0


def members(catalogue: Catalogue, names: Wildcards) -> int:
    """The base and the snapshots of a sweep, if no run's best epoch is its last."""
    return 1 + SNAPSHOTS * len(catalogue.settings.recipes[names.recipe].runs())


def example(catalogue: Catalogue, names: Wildcards) -> tuple[int, int, float]:
    """Tokens of a task's sequence, sequences of an example, and the share that has logits."""
    task, (own, _) = catalogue.settings.tasks[names.task], pretrained(catalogue, names.model)
    length = min(task.tokens, own.architecture.context)
    if isinstance(task, Classification):
        return length, len(task.choices), min(1.0, ANSWER / length)
    return length, 1, 1.0


def losses(names: Wildcards, flops: float, host: float = 0) -> Work:
    """Of a stack of small models: products are TF32."""
    return Work(kind="stacks", model=names.model, precision="tf32", flops=flops, host=host)

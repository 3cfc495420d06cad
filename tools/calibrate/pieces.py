"""Short pieces of each expensive stage, at the configuration's shapes, on one device.

Each is the pipeline's own code on random tokens; time does not depend on what they say. Released
models are random weights in a released shape. Where one does not fit, it has as many of its layers
as do: `shape` says so. FLOPs are counted as the plan counts them, so that its rates are these.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch

from overtrain.config.catalogue import Catalogue
from overtrain.config.models import PretrainedModel, ReleasedModel
from overtrain.measuring.curvature import second_order_on_text
from overtrain.model.architecture import Architecture
from overtrain.model.dropout import Dropout, Rates
from overtrain.model.examples import Examples
from overtrain.model.losses import language_modelling
from overtrain.model.memory import Room, most_resident
from overtrain.model.olmo import Olmo
from overtrain.model.released import Released
from overtrain.planning.calibration import Piece
from overtrain.planning.formulas import BFLOAT16, FLOAT32, Size
from overtrain.planning.work import ANSWERED, QUESTION, REQUEST
from overtrain.training.finetune import Recipe, Stack
from overtrain.training.finetune import Run as RunOf
from overtrain.training.optimizer import FlatAdamW

WARM = 2  # calls that are not timed: compiling, the first use of memory
LEAST = 3  # calls that are
TUNING = 4 * FLOAT32  # bytes a weight: itself, gradient and two moments
SEQUENCE = 512  # tokens of a conversation


@dataclass(frozen=True)
class Bench:
    """Where and how long: seconds for the timed part of each piece, memory in bytes."""

    catalogue: Catalogue
    device: torch.device
    seconds: float
    memory: float

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def piece(
        self,
        names: tuple[str, str],
        work: Callable[[], None],
        amount: tuple[float, float],
        peak: float,
        shape: str,
    ) -> Piece:
        """names: kind and model; amount: tokens, and FLOPs or bytes, of a call of `work`."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        for _ in range(WARM):
            work()
        self.synchronise()
        started, calls = time.perf_counter(), 0
        while calls < LEAST or time.perf_counter() - started < self.seconds:
            work()
            self.synchronise()
            calls += 1
        each = (time.perf_counter() - started) / calls
        most = torch.cuda.max_memory_allocated() if self.cuda else most_resident()
        tokens, size = amount
        return Piece(*names, tokens / each, size / each, size / each / peak, most / 1e9, shape)

    def synchronise(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def autocast(self):
        return torch.autocast("cuda", torch.bfloat16) if self.cuda else nullcontext()

    def random(self, *shape: int, below: int) -> torch.Tensor:
        return torch.randint(below, shape, device=self.device)


def all_pieces(bench: Bench) -> Iterator[tuple[str, str, Piece | None]]:
    """Kind, model and what was measured of every model and size that the sets of models name.

    None where a piece did not fit in the GPU's memory.
    """
    settings = bench.catalogue.settings
    named = dict.fromkeys(name for own in settings.model_sets.values() for name in own)
    found: list[tuple[Callable[[Bench, str], Piece], str]] = []
    sizes = []
    for name in named:
        model = settings.models[name]
        if isinstance(model, PretrainedModel):
            found += [(piece, name) for piece in (pretraining, sweep, stacks, curvature)]
        else:
            sizes.append(model.size)
    for size in dict.fromkeys(sizes):
        found += [(piece, size) for piece in (released, instruction, benchmarks, decoding)]
    if bench.cuda:
        found.append((judge, settings.resources.judge.size))
    for piece, name in found:
        try:
            yield piece.__name__, name, piece(bench, name)
        except torch.cuda.OutOfMemoryError:
            yield piece.__name__, name, None
        gc.collect()
        if bench.cuda:
            torch.cuda.empty_cache()


# --- models that are pre-trained here -------------------------------------------------------------


def own(bench: Bench, name: str) -> tuple[Architecture, Size]:
    model = bench.catalogue.settings.models[name]
    assert isinstance(model, PretrainedModel)
    return Architecture(**model.architecture.plain()), Size.of(model.architecture)


def pretraining(bench: Bench, name: str) -> Piece:
    """Whole steps of one GPU's share of a batch, as `training.pretrain.train` has them."""
    a, size = own(bench, name)
    settings, asked = (
        bench.catalogue.settings.pretraining,
        bench.catalogue.settings.resources.pretrain,
    )
    windows = max(1, settings.batch_size // max(1, asked.gpu))
    torch.set_float32_matmul_precision("highest")
    model = Olmo(a).initialise(0).to(bench.device)
    betas = (settings.betas[0], settings.betas[1])
    optimizer = FlatAdamW(
        model, settings.learning_rate, betas, settings.weight_decay, settings.clip
    )
    losses = torch.compile(model.losses) if bench.cuda else model.losses
    rates = Rates(**settings.dropout.plain())
    drop = Dropout(rates) if rates else None
    batch = bench.random(windows, a.context + 1, below=a.vocabulary)

    def step() -> None:
        for part in batch.split(asked.micro_batch):
            with bench.autocast():
                each = losses(part[:, :-1], part[:, 1:], drop, chunk=part.numel())
                loss = each.sum() / (windows * a.context)
            loss.backward()
        optimizer.step(1e-6)

    tokens = windows * a.context
    shape = f"{windows} windows of {a.context}, {asked.micro_batch} at a time"
    amount = (tokens, tokens * size.training(a.context))
    return bench.piece(("pretraining", name), step, amount, peak(bench, "bf16"), shape)


def text_of(bench: Bench, length: int, windows: int, vocabulary: int) -> Examples:
    tokens = np.random.default_rng(0).integers(0, vocabulary, (windows, length + 1))
    return Examples(tokens[:, :-1], tokens[:, 1:], np.full(windows, length))


def width_of(bench: Bench, size: Size, runs: int) -> int:
    """Members of a stack that take less than half of the memory."""
    return max(1, min(runs, int(0.4 * bench.memory / (6 * FLOAT32 * size.weights))))


def sweep(bench: Bench, name: str) -> Piece:
    """Steps of a stack on texts, as `training.finetune` has them."""
    a, size = own(bench, name)
    settings = bench.catalogue.settings
    recipe = Recipe.from_config("default", settings.recipes["default"].plain())
    runs = [RunOf(rate, seed) for seed in recipe.seeds for rate in recipe.learning_rates]
    runs = runs[: width_of(bench, size, len(runs))]
    tasks = settings.task_sets["language"]
    length = min(a.context, settings.tasks[tasks[0]].tokens)
    torch.set_float32_matmul_precision("high")
    weights = Olmo(a).initialise(0).state_dict()
    room = Room(bench.device, int(bench.memory), settings.evaluations.batch_tokens)
    stack = Stack(a, weights, runs, recipe, tasks[0], room)
    examples = text_of(bench, length, recipe.batch_size, a.vocabulary)
    chosen = np.tile(np.arange(recipe.batch_size), (len(stack.seeds), 1))
    tokens = len(runs) * recipe.batch_size * length
    shape = f"{len(runs)} runs, batches of {recipe.batch_size} x {length}"
    return bench.piece(
        ("sweep", name),
        lambda: stack.step(examples, chosen, 1e-6),
        (tokens, tokens * size.training(length)),
        peak(bench, "bf16"),
        shape,
    )


def stacks(bench: Bench, name: str) -> Piece:
    """Losses of a stack on held-out text, as `measuring.stacks` has them."""
    a, size = own(bench, name)
    settings = bench.catalogue.settings
    runs = width_of(bench, size, 1 + 2 * len(settings.recipes["default"].runs()))
    batch = settings.evaluations.batch_tokens
    windows = max(1, batch // (runs * a.context))
    torch.set_float32_matmul_precision("high")
    model = Olmo(a, runs).to(bench.device).load(Olmo(a).initialise(0).state_dict())
    text = text_of(bench, a.context, windows, a.vocabulary)
    tokens = runs * windows * a.context
    return bench.piece(
        ("stacks", name),
        lambda: language_modelling(model, text, batch),
        (tokens, tokens * size.forward(a.context)),
        peak(bench, "tf32"),
        f"{runs} models, {windows} windows of {a.context}",
    )


def curvature(bench: Bench, name: str) -> Piece:
    """A gradient and two Hessian-vector products."""
    a, size = own(bench, name)
    torch.set_float32_matmul_precision("highest")
    model = Olmo(a).initialise(0).to(bench.device)
    directions = [{n: torch.randn_like(p) for n, p in model.named_parameters()} for _ in range(2)]
    windows = 4
    text = text_of(bench, a.context, windows, a.vocabulary)
    batch = bench.catalogue.settings.evaluations.batch_tokens
    tokens = windows * a.context
    return bench.piece(
        ("curvature", name),
        lambda: second_order_on_text(model, text, directions, batch),
        (tokens, tokens * size.curvature(a.context, len(directions))),
        peak(bench, "fp32"),
        f"{windows} windows of {a.context}, {len(directions)} directions",
    )


# --- released shapes ------------------------------------------------------------------------------


def shaped(bench: Bench, name: str, each: float, beside: float = 0) -> tuple[Size, str]:
    """A released shape with as many layers as 0.7 of the memory hold, at so many bytes a weight."""
    whole = Size.of(bench.catalogue.settings.shapes[name])
    room = 0.7 * bench.memory - beside
    layers = next(
        (n for n in range(whole.layers, 0, -1) if each * replace(whole, layers=n).weights < room), 1
    )
    told = (
        "" if layers == whole.layers else f", {layers} of {whole.layers} layers, as memory allows"
    )
    return replace(whole, layers=layers), told


def window_of(bench: Bench, name: str) -> int:
    """Tokens of held-out text in a sequence of the first model of a size."""
    models = bench.catalogue.settings.models.values()
    return next(m.window for m in models if isinstance(m, ReleasedModel) and m.size == name)


def random_model(bench: Bench, size: Size, dtype: torch.dtype) -> torch.nn.Module:
    """transformers' Llama of a shape; its heads are 128 wide where the width allows it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    head = next(h for h in (128, 64, 32, 16, 8, 4, 2) if size.key_value % h == 0 == size.width % h)
    config = LlamaConfig(
        hidden_size=size.width,
        intermediate_size=size.mlp,
        num_hidden_layers=size.layers,
        num_attention_heads=size.width // head,
        num_key_value_heads=size.key_value // head,
        vocab_size=size.vocabulary,
        max_position_embeddings=4096,
        tie_word_embeddings=size.tied,
        pad_token_id=None,
        eos_token_id=None,
    )
    with torch.device(bench.device):
        return LlamaForCausalLM(config).to(dtype).eval()


def released(bench: Bench, name: str) -> Piece:
    """Losses on held-out text in float32, with TF32's products."""
    settings, window = bench.catalogue.settings, window_of(bench, name)
    size, told = shaped(bench, name, FLOAT32, beside=0.1 * bench.memory)
    torch.set_float32_matmul_precision("high")
    model = Released(random_model(bench, size, torch.float32))
    batch = model.batch_tokens(settings.evaluations.batch_tokens)
    windows = max(1, batch // window)
    text = text_of(bench, window, windows, size.vocabulary)
    tokens = windows * window
    return bench.piece(
        ("released", name),
        lambda: language_modelling(model, text, batch),
        (tokens, tokens * size.forward(window)),
        peak(bench, "tf32"),
        f"{windows} windows of {window}, float32{told}",
    )


def instruction(bench: Bench, name: str) -> Piece:
    """Steps of AdamW on accumulated micro-batches, the forward pass computed again."""
    asked = bench.catalogue.settings.resources.finetune_instruct[name]
    recipe = bench.catalogue.settings.instruction_recipes["instruct"]
    size, told = shaped(bench, name, TUNING)
    passes = max(1, recipe.batch_size // (asked.micro_batch * max(1, asked.gpu)))
    length = min(SEQUENCE, recipe.max_length)
    torch.set_float32_matmul_precision("high")
    model = random_model(bench, size, torch.float32).train()
    if bench.cuda:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    batch = bench.random(asked.micro_batch, length, below=size.vocabulary)

    def step() -> None:
        for _ in range(passes):
            with bench.autocast():
                loss = model(input_ids=batch, labels=batch, use_cache=False).loss / passes
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    tokens = passes * batch.numel()
    flops = tokens * (size.recomputed(length) if bench.cuda else size.training(length))
    shape = f"{passes} passes of {asked.micro_batch} x {length}{told}"
    return bench.piece(("instruction", name), step, (tokens, flops), peak(bench, "bf16"), shape)


def benchmarks(bench: Bench, name: str) -> Piece:
    """Forward passes of a batch of requests."""
    rows = bench.catalogue.suite.batch_size
    length = min(REQUEST, window_of(bench, name))
    return forward(bench, ("benchmarks", name), rows, length, 0)


def judge(bench: Bench, name: str) -> Piece:
    """Forward passes of questions, with the logits of the last token, by one of its GPUs."""
    return forward(bench, ("judge", name), 8, QUESTION, 1)


def forward(bench: Bench, names: tuple[str, str], rows: int, length: int, logits: int) -> Piece:
    """logits: positions of a row that have some; 0: all."""
    size, told = shaped(bench, names[1], BFLOAT16, beside=0.1 * bench.memory)
    model = random_model(bench, size, torch.bfloat16 if bench.cuda else torch.float32)
    batch = bench.random(rows, length, below=size.vocabulary)

    @torch.inference_mode()
    def work() -> None:
        model(input_ids=batch, use_cache=False, logits_to_keep=logits)

    flops = batch.numel() * size.forward(length, (logits or length) / length)
    shape = f"{rows} x {length}{told}"
    return bench.piece(names, work, (batch.numel(), flops), peak(bench, "bf16"), shape)


def decoding(bench: Bench, name: str) -> Piece:
    """Greedy steps of a batch whose cache is as full as it is on average; bytes, not FLOPs."""
    own = bench.catalogue.settings.evaluations.alpaca
    size, told = shaped(bench, name, BFLOAT16, beside=0.3 * bench.memory)
    rows, prompt, steps = own.batch_size, max(1, int(ANSWERED * own.max_new_tokens)), 32
    model = random_model(bench, size, torch.bfloat16 if bench.cuda else torch.float32)
    batch = bench.random(rows, prompt, below=size.vocabulary)
    mask = torch.ones_like(batch)

    @torch.inference_mode()
    def work() -> None:
        model.generate(
            batch, attention_mask=mask, do_sample=False, min_new_tokens=steps, max_new_tokens=steps
        )

    read = steps * (BFLOAT16 * size.weights + rows * (prompt + steps / 2) * size.cache())
    bandwidth = bench.catalogue.settings.hardware.bandwidth
    shape = f"{rows} x {steps} tokens after {prompt}{told}"
    return bench.piece(("decoding", name), work, (rows * steps, read), bandwidth, shape)


def peak(bench: Bench, precision: str) -> float:
    return getattr(bench.catalogue.settings.hardware, precision)

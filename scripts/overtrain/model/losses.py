"""Losses of a stack of models: language modelling, classification by likelihood, web text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from overtrain import PipelineError
from overtrain.data.corpora import Corpus
from overtrain.data.tasks import read_split
from overtrain.data.tokenizer import TextEncoder
from overtrain.model.architecture import IGNORE
from overtrain.model.examples import ENCODERS, Choices, Examples
from overtrain.records.measurements import loss_rows, row


class Scored(Protocol):
    """A stack of models (`Olmo`), or one that has its face (`Released`)."""

    runs: int
    lm_head: Any  # whose weight is on the device

    def losses(self, tokens: Tensor, targets: Tensor, where: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Score:
    """Loss of each run in nats: mean and standard error over n units; accuracy or None."""

    loss: np.ndarray
    stderr: np.ndarray
    n: int
    accuracy: np.ndarray | None = None

    def rows(self, identity: dict, run: int) -> list[dict]:
        """The measurements of one run of the stack."""
        loss, stderr = float(self.loss[run]), float(self.stderr[run])
        rows = loss_rows(identity, loss, stderr, self.n)
        if self.accuracy is not None:
            p = float(self.accuracy[run]) if np.isfinite(loss) else float("nan")
            rows.append(row(identity, "accuracy", p, float(np.sqrt(p * (1 - p) / self.n)), self.n))
        return rows

    def placed(self, places: np.ndarray, runs: int) -> Score:
        """The same at `places` of a larger stack, whose other runs are NaN."""

        def spread(values: np.ndarray | None) -> np.ndarray | None:
            if values is None:
                return None
            full = np.full(runs, np.nan)
            full[places] = values
            return full

        return Score(spread(self.loss), spread(self.stderr), self.n, spread(self.accuracy))


@torch.inference_mode()
def sequence_losses(model: Scored, examples: Examples, batch_tokens: int) -> np.ndarray:
    """Summed negative log likelihood (runs, n) of each sequence, in nats, float64.

    `batch_tokens` of the whole stack are in a pass, at least a sequence of each run. Sequences are
    taken by length, so that a batch is hardly padded; each batch is shared by all runs.
    """
    device = model.lm_head.weight.device
    order = np.argsort(examples.lengths, kind="stable")
    sums = np.zeros((model.runs, len(examples)))
    for batch in batches(examples.lengths[order], batch_tokens // model.runs):
        chosen = order[batch]
        length = int(examples.lengths[chosen].max())
        targets = examples.targets[chosen, :length]
        where = target_positions(targets[None])
        if where is not None:
            targets = targets.reshape(-1)[where]
        inputs = torch.from_numpy(examples.inputs[chosen, :length]).to(device)
        wanted = torch.from_numpy(targets).to(device)
        places = None if where is None else torch.from_numpy(where).to(device)
        losses = model.losses(
            inputs.expand(model.runs, *inputs.shape),
            wanted.expand(model.runs, *wanted.shape[-2 if places is None else -1 :]).contiguous(),
            where=None if places is None else places.expand(model.runs, -1),
        )
        losses = losses.flatten(1).double()
        sequence = torch.arange(len(chosen), device=device).repeat_interleave(length)
        sequence = sequence if places is None else sequence[places[0]]
        total = losses.new_zeros(model.runs, len(chosen)).index_add_(1, sequence, losses)
        sums[:, chosen] = total.cpu().numpy()
    return sums


def target_positions(targets: np.ndarray) -> np.ndarray | None:
    """Positions (rows, most targets) that hold the targets of (rows, sequences, length).

    A row with fewer targets is filled up with positions that have none. None if most positions hold
    a target: then all are computed.
    """
    mask = targets.reshape(len(targets), -1) != IGNORE
    most = mask.sum(1).max()
    if most > 0.75 * mask.shape[1]:
        return None
    return np.sort(np.argsort(~mask, axis=1, kind="stable")[:, :most], axis=1)


def batches(lengths: np.ndarray, batch_tokens: int) -> Iterator[slice]:
    """Slices over sorted lengths such that rows x longest row stays within `batch_tokens`."""
    start = 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or (end + 1 - start) * lengths[end] > batch_tokens:
            yield slice(start, end)
            start = end


def language_modelling(model: Scored, examples: Examples, batch_tokens: int) -> Score:
    """Mean loss per token of each run."""
    sums = sequence_losses(model, examples, batch_tokens)
    return mean_loss(sums, (examples.targets != IGNORE).sum(axis=1))


def mean_loss(sums: np.ndarray, counts: np.ndarray) -> Score:
    """Of each run's sums (runs, n) over sequences' tokens, and their counts (n,).

    Sequences, not tokens, are the units of the standard error.
    """
    loss = sums.sum(axis=1) / counts.sum()
    residuals = sums - loss[:, None] * counts  # linearised ratio estimator
    n = len(counts)
    return Score(loss, np.sqrt((residuals**2).sum(axis=1)) / counts.sum(), n)


def classification(model: Scored, choices: Choices, batch_tokens: int) -> Score:
    """Loss of the right class by softmax over length-normalised log likelihoods (C.1)."""
    sums = sequence_losses(model, choices.examples, batch_tokens)
    counts = (choices.examples.targets != IGNORE).sum(axis=1)
    n = len(choices.labels)
    scores = torch.from_numpy(-sums / counts).view(model.runs, n, choices.answers)
    losses = -scores.log_softmax(dim=-1)[:, torch.arange(n), torch.from_numpy(choices.labels)]
    right = scores.argmax(dim=-1) == torch.from_numpy(choices.labels)
    stderr = losses.std(dim=1) / n**0.5 if n > 1 else torch.zeros(model.runs)
    accuracy = right.double().mean(dim=1).numpy()
    return Score(losses.mean(dim=1).numpy(), stderr.numpy(), n, accuracy)


class TaskSplit:
    """One split of a task as token arrays, and the loss that its kind calls for."""

    def __init__(self, folder: Path, split: str, kind: str, encoder: TextEncoder, context: int):
        rows = read_split(folder, split, kind)
        self.data = ENCODERS[kind](rows, encoder, context)

    @property
    def examples(self) -> Examples:
        return self.data.examples if isinstance(self.data, Choices) else self.data

    def score(self, model: Scored, batch_tokens: int) -> Score:
        if isinstance(self.data, Choices):
            return classification(model, self.data, batch_tokens)
        return language_modelling(model, self.data, batch_tokens)


def held_out_text(corpus: Path, context: int, tokens: int) -> Examples:
    """About `tokens` tokens of a corpus's held-out split, its first windows, verified."""
    text = Corpus(corpus)
    text.verify("held_out")
    windows = text.windows("held_out", context)
    count = tokens // context
    if not 0 < count <= len(windows):
        raise PipelineError(
            f"{corpus}: held-out text has {len(windows) * context:,} tokens in windows of "
            f"{context}; the configuration asks for {tokens:,}"
        )
    rows = windows[np.arange(count)]
    return Examples(rows[:, :-1], rows[:, 1:], np.full(count, context))

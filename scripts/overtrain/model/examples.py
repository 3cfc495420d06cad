"""Examples of a task as padded token arrays, with the positions that carry loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from overtrain import PipelineError
from overtrain.data.tokenizer import TextEncoder
from overtrain.model.architecture import IGNORE


@dataclass(frozen=True)
class Examples:
    """Padded inputs and targets (n, length), IGNORE where no loss; lengths (n,)."""

    inputs: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    def longest(self, tokens: int) -> Examples:
        """The longest of them, padded to within `tokens`; at least one."""
        chosen = np.argsort(-self.lengths)[: max(1, tokens // self.lengths.max())]
        return Examples(self.inputs[chosen], self.targets[chosen], self.lengths[chosen])


@dataclass(frozen=True)
class Choices:
    """Every answer to every question: examples (n x answers), right answers (n,)."""

    examples: Examples
    labels: np.ndarray
    answers: int


def pad(sequences: Sequence[np.ndarray], first_target: Sequence[int], padding: int) -> Examples:
    """Inputs and targets of sequences; the first target of each is at `first_target`."""
    length = max(1, max(len(s) for s in sequences) - 1)
    inputs = np.full((len(sequences), length), padding, dtype=np.int64)
    targets = np.full((len(sequences), length), IGNORE, dtype=np.int64)
    for i, (ids, first) in enumerate(zip(sequences, first_target, strict=True)):
        inputs[i, : len(ids) - 1] = ids[:-1]
        targets[i, first - 1 : len(ids) - 1] = ids[first:]
    return Examples(inputs, targets, np.array([max(1, len(s) - 1) for s in sequences]))


def encode_texts(rows: list[dict], encoder: TextEncoder, context: int) -> Examples:
    """Language modelling: loss on all tokens but the first; the end of text closes them."""
    end = np.array([encoder.end_of_text], dtype=encoder.type)
    ids = [
        np.concatenate([e, end])[: context + 1] for e in encoder.encode([r["text"] for r in rows])
    ]
    return pad(ids, [1] * len(ids), encoder.end_of_text)


def encode_choices(rows: list[dict], encoder: TextEncoder, context: int) -> Choices:
    """Prompts with each answer, loss on the answer; long prompts lose their start."""
    answers = len(rows[0]["choices"])
    prompts = encoder.encode([row["prompt"] for row in rows])
    choices = encoder.encode([choice for row in rows for choice in row["choices"]])
    end = np.array([encoder.end_of_text], dtype=encoder.type)
    sequences, first = [], []
    for i, prompt in enumerate(prompts):
        own = choices[i * answers : (i + 1) * answers]
        longest = max(len(choice) for choice in own)
        if longest >= context:
            raise PipelineError(
                f"an answer of {longest} tokens leaves no room in a context of {context}"
            )
        room = context + 1 - longest
        kept = np.concatenate([end, prompt])[-room:]
        for choice in own:
            sequences.append(np.concatenate([kept, choice]))
            first.append(len(kept))
    labels = np.array([row["label"] for row in rows])
    return Choices(pad(sequences, first, encoder.end_of_text), labels, answers)


def right_answers(choices: Choices, loss_on: str) -> Examples:
    """The right answers' sequences, to train on, with loss on the "answer" or on "all" tokens."""
    chosen = np.arange(len(choices.labels)) * choices.answers + choices.labels
    e = choices.examples
    inputs, targets, lengths = e.inputs[chosen], e.targets[chosen], e.lengths[chosen]
    if loss_on == "all":
        prompt = (targets == IGNORE) & (np.arange(inputs.shape[1]) < lengths[:, None])
        targets = np.where(prompt, np.roll(inputs, -1, axis=1), targets)
    return Examples(inputs, targets, lengths)


Encoder = Callable[[list[dict], TextEncoder, int], Examples | Choices]
ENCODERS: dict[str, Encoder] = {  # by a task's kind
    "language_modelling": encode_texts,
    "classification": encode_choices,
}

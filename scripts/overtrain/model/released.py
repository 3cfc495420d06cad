"""Released models through transformers (Olmo, Olmo2, Llama), with the face of a stack of one.

Weights and products are float32 (TF32 where the device has it): bfloat16 would round each weight
by up to 2^-9 of its size, 1e-4 for one of 0.05, which is gamma = 0.005 times a std of 0.02.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from overtrain import PipelineError
from overtrain.model.architecture import IGNORE
from overtrain.model.examples import Examples
from overtrain.model.olmo import LOGITS

# In the folder of a run that diverged, instead of weights. training/instruct.py writes it; what
# evaluates such runs need not import its trainer to know the name.
DIVERGED = "diverged.json"
# In a run's folder: a model's folder for each step after which it was kept, too; their number.
STEPS, ALL_STEPS = "steps", "steps.json"


class Released:
    """A model that `evaluate` can score: tokens and targets (1, batch, length)."""

    runs = 1

    def __init__(self, model: nn.Module):
        self.model = model.eval()
        self.lm_head = model.get_output_embeddings()

    def losses(self, tokens: Tensor, targets: Tensor, where: Tensor | None = None) -> Tensor:
        """Negative log likelihood in nats of each target, as `Olmo.losses`: float32."""
        logits = self.model(input_ids=tokens[0], use_cache=False).logits.float().flatten(0, 1)
        logits = logits if where is None else logits[where[0]]
        loss = F.cross_entropy(logits, targets.flatten(), reduction="none", ignore_index=IGNORE)
        return loss.view(targets.shape)

    def batch_tokens(self, wanted: int) -> int:
        """Tokens in one pass such that its logits stay within LOGITS elements."""
        return min(wanted, LOGITS // self.model.config.vocab_size)


def load_released(checkpoint: Path, text: Examples) -> Released:
    """The model of a checkpoint directory, on the CPU, checked to be whole and to fit `text`."""
    model = load_model(checkpoint)
    longest, largest = model.config.max_position_embeddings, model.config.vocab_size
    if text.inputs.shape[1] > longest:
        raise PipelineError(
            f"{checkpoint}: its context is {longest}; models.*.window asks for "
            f"{text.inputs.shape[1]}"
        )
    if (found := int(max(text.inputs.max(), text.targets.max()))) >= largest:
        raise PipelineError(
            f"{checkpoint}: its vocabulary is {largest}; its corpus holds token {found}, so that "
            "the corpus's tokenizer is not the model's"
        )
    return Released(model)


def diverged(run: Path) -> bool:
    return (run / DIVERGED).exists()


def load_model(checkpoint: str | Path, dtype: torch.dtype = torch.float32) -> nn.Module:
    """transformers' model of a checkpoint directory, on the CPU, checked to be whole.

    checkpoint: its path, or the name of a hub repository that is in the hub's cache here.
    """
    from transformers import AutoModelForCausalLM

    return whole(AutoModelForCausalLM, checkpoint, dtype)


def whole(kind: Any, folder: str | Path, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A model of a `kind` of transformers, with no weight missing; PipelineError if one is."""
    try:
        model, report = kind.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            output_loading_info=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except Exception as error:  # transformers and safetensors raise what they like
        reason = " ".join(str(error).split())
        raise PipelineError(f"{folder}: not a readable model ({reason[:200]})") from error
    for fault in ("missing_keys", "mismatched_keys"):
        if report[fault]:  # transformers would have drawn them at random
            raise PipelineError(f"{folder}: {fault.replace('_', ' ')}: {sorted(report[fault])}")
    return model


def load_tokenizer(checkpoint: str | Path):
    """transformers' tokenizer of a checkpoint directory."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            checkpoint, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers and tokenizers raise what they like
        reason = " ".join(str(error).split())
        raise PipelineError(f"{checkpoint}: no readable tokenizer ({reason[:200]})") from error

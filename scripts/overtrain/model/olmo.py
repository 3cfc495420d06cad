"""The OLMo model: one alone, or a stack of equal models in one batched computation.

A stack of R models holds every weight as (R, out, in) and maps tokens (R, batch, length) to logits
(R, batch, length, vocabulary) with batched matrix products. Nothing in it crosses the leading
dimension, so each member computes what it would alone, and one that diverges to NaN leaves the
others as they were. Without a stack the weights are (out, in) and tokens (batch, length).

Parameters carry transformers' names, one matrix each: on a CPU the halves of a fused product are
strided, and the elementwise work on them costs more than the fusion saves. A checkpoint is a
Hugging Face directory (`OlmoForCausalLM`, safetensors) with muP's table beside the weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from overtrain import PipelineError
from overtrain.model.architecture import IGNORE, Architecture
from overtrain.model.dropout import Dropout

WEIGHTS = "model.safetensors"
MUP = "mup.json"
LOGITS = 2**28  # elements of the logits of a stack that exist at a time, 1 GiB in float32


@dataclass(frozen=True)
class MadeWhenAsked:
    """Tensors by name, each made when it is asked for: a whole stack is then in memory once."""

    make: Callable[[str], Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.make(name)


class Matrix(nn.Module):
    """A linear map without bias: weight (out, in), or (runs, out, in) on x (runs, ..., in)."""

    def __init__(self, stack: tuple[int, ...], rows: int, columns: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(*stack, rows, columns))

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.dim() == 2:
            return F.linear(x, self.weight)
        y = torch.bmm(x.reshape(x.shape[0], -1, x.shape[-1]), self.weight.transpose(1, 2))
        return y.view(*x.shape[:-1], self.weight.shape[1])


class Attention(nn.Module):
    def __init__(self, a: Architecture, stack: tuple[int, ...]):
        super().__init__()
        self.heads, self.head_size = a.heads, a.head_size
        self.q_proj = Matrix(stack, a.hidden_size, a.hidden_size)
        self.k_proj = Matrix(stack, a.hidden_size, a.hidden_size)
        self.v_proj = Matrix(stack, a.hidden_size, a.hidden_size)
        self.o_proj = Matrix(stack, a.hidden_size, a.hidden_size)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, drop: Dropout | None) -> Tensor:
        length = x.shape[-2]

        def split(y: Tensor) -> Tensor:  # (runs x batch, heads, length, head_size)
            return y.view(-1, length, self.heads, self.head_size).transpose(1, 2)

        def rotate(y: Tensor) -> Tensor:
            cosine, sine = cos[:length].to(y.dtype), sin[:length].to(y.dtype)
            return torch.addcmul(y * cosine, y.roll(self.head_size // 2, dims=-1), sine)

        q, k, v = (
            rotate(split(self.q_proj(x))),
            rotate(split(self.k_proj(x))),
            split(self.v_proj(x)),
        )
        if drop:
            y = drop.attend(q, k, v)
        else:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(x.shape))


class Mlp(nn.Module):
    def __init__(self, a: Architecture, stack: tuple[int, ...]):
        super().__init__()
        self.gate_proj = Matrix(stack, a.mlp_size, a.hidden_size)
        self.up_proj = Matrix(stack, a.mlp_size, a.hidden_size)
        self.down_proj = Matrix(stack, a.hidden_size, a.mlp_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, a: Architecture, stack: tuple[int, ...]):
        super().__init__()
        self.width = (a.hidden_size,)
        self.self_attn = Attention(a, stack)
        self.mlp = Mlp(a, stack)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, drop: Dropout | None) -> Tensor:
        y = self.self_attn(F.layer_norm(x, self.width), cos, sin, drop)
        x = x + (drop.residual(y) if drop else y)
        y = self.mlp(F.layer_norm(x, self.width))
        return x + (drop.residual(y) if drop else y)


class Trunk(nn.Module):
    """Embedding and layers: tokens (..., length) to hidden states (..., length, hidden_size)."""

    def __init__(self, a: Architecture, stack: tuple[int, ...]):
        super().__init__()
        self.architecture = a
        self.embed_tokens = Matrix(stack, a.vocabulary, a.hidden_size)
        self.layers = nn.ModuleList(Layer(a, stack) for _ in range(a.layers))
        cos, sin = rotary_tables(a)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, tokens: Tensor, drop: Dropout | None) -> Tensor:
        table = self.embed_tokens.weight
        if (
            table.dim() == 3
        ):  # one lookup in the joined table: run r's token t is row r * vocabulary + t
            runs, vocabulary, _ = table.shape
            tokens = tokens + (torch.arange(runs, device=tokens.device) * vocabulary).view(-1, 1, 1)
            table = table.flatten(0, 1)
        x = F.embedding(tokens, table)
        if drop:
            x = drop.embedding(x)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin, drop)
        return F.layer_norm(x, (self.architecture.hidden_size,))


class Olmo(nn.Module):
    """OLMo with weights (out, in), or with `runs` a stack of them with weights (runs, out, in)."""

    def __init__(self, architecture: Architecture, runs: int | None = None):
        super().__init__()
        self.architecture = architecture
        self.runs = runs
        stack = () if runs is None else (runs,)
        self.model = Trunk(architecture, stack)
        self.lm_head = Matrix(stack, architecture.vocabulary, architecture.hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (..., length, vocabulary)."""
        return self.lm_head(self.model(tokens, None))

    def losses(
        self,
        tokens: Tensor,
        targets: Tensor,
        drop: Dropout | None = None,
        chunk: int | None = None,
        where: Tensor | None = None,
    ) -> Tensor:
        """Negative log likelihood in nats of each target: float32, as `targets`, 0 where IGNORE.

        With `where`, numbers (..., targets) of the positions of a run that hold its targets, only
        those have logits; `targets` and the result are (..., targets) then. Logits exist for
        `chunk` positions of each run at a time (default: LOGITS in the whole stack) and are
        computed again in the backward pass: a large vocabulary's memory stays bounded.
        """
        h = self.model(tokens, drop).flatten(-3, -2)  # (..., batch x length, hidden_size)
        if where is not None:
            h = h.gather(-2, where.unsqueeze(-1).expand(*where.shape, h.shape[-1]))
        t = targets.reshape(h.shape[:-1])
        chunk = chunk or max(1, LOGITS // (self.architecture.vocabulary * (self.runs or 1)))
        if t.shape[-1] <= chunk:
            return self._nll(h, t).view(targets.shape)
        parts = [
            checkpoint(self._nll, hc, tc, use_reentrant=False)
            for hc, tc in zip(h.split(chunk, dim=-2), t.split(chunk, dim=-1), strict=True)
        ]
        return torch.cat(parts, dim=-1).view(targets.shape)

    def _nll(self, h: Tensor, targets: Tensor) -> Tensor:
        logits = self.lm_head(h).float().flatten(0, -2)
        loss = F.cross_entropy(logits, targets.flatten(), reduction="none", ignore_index=IGNORE)
        return loss.view(targets.shape)

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor] | MadeWhenAsked) -> Olmo:
        """Copy weights in; a tensor without a leading dimension goes to every run of a stack."""
        for name, parameter in self.named_parameters():
            parameter.copy_(tensors[name])
        return self

    @torch.no_grad()
    def initialise(self, seed: int) -> Olmo:
        """Draw initial weights at muP's std; a seed gives the same ones on every device."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            std = self.architecture.initial_std(name)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
        return self


def rotary_tables(a: Architecture) -> tuple[Tensor, Tensor]:
    """RoPE's cos and sin, (context, head_size); half of sin carries the rotation's minus."""
    frequency = 1.0 / a.rope_theta ** (torch.arange(0, a.head_size, 2).float() / a.head_size)
    angle = torch.outer(torch.arange(a.context).float(), frequency)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


# --- Hugging Face directories ---------------------------------------------------------------------


def save_checkpoint(model: Olmo, folder: Path, end_of_text: int) -> None:
    """Write config.json, model.safetensors (float32) and mup.json into `folder`."""
    a = model.architecture
    tensors = {n: p.detach().float().cpu().contiguous() for n, p in model.named_parameters()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = a.transformers_config(end_of_text)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    mup = {"base_width": a.base_width, "tensors": a.mup_table()}
    (folder / MUP).write_text(json.dumps(mup, indent=2) + "\n")


def read_architecture(folder: Path) -> Architecture:
    """The architecture of a checkpoint directory; PipelineError if it is not such an OLMo."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise PipelineError(f"{path}: not readable as JSON ({error})") from error
    required = {
        "architectures": ["OlmoForCausalLM"],
        "clip_qkv": None,
        "attention_bias": False,
        "tie_word_embeddings": False,
    }
    for key, value in required.items():
        if config.get(key) != value:
            raise PipelineError(f"{path}: {key} is {config.get(key)!r}; it must be {value!r}")
    mup = folder / MUP
    return Architecture(
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        hidden_size=config["hidden_size"],
        mlp_size=config["intermediate_size"],
        context=config["max_position_embeddings"],
        vocabulary=config["vocab_size"],
        base_width=json.loads(mup.read_text())["base_width"] if mup.exists() else None,
        rope_theta=config["rope_parameters"]["rope_theta"],
    )


def load_tensors(folder: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint directory, float32, checked against its config.json."""
    shapes = read_architecture(folder).shapes()
    path = folder / WEIGHTS
    try:
        tensors = load_file(path)
    except Exception as error:  # safetensors raises its own type for a damaged file
        raise PipelineError(f"{path}: not a readable safetensors file ({error})") from error
    for name, shape in shapes.items():
        found = tuple(tensors[name].shape) if name in tensors else "missing"
        if found != shape:
            raise PipelineError(f"{path}: {name} is {found}; config.json says {shape}")
    return {name: tensors[name].float() for name in shapes}


def load_checkpoint(folder: Path, runs: int | None = None) -> Olmo:
    """The model of a checkpoint directory, or a stack of `runs` copies of it."""
    return Olmo(read_architecture(folder), runs).load(load_tensors(folder))

"""Gaussian perturbation, theta + gamma * std_init * noise by tensor (paper, eq. 1 and C.2).

Models pre-trained here are measured several at a time, with the stds saved beside their weights;
released models one at a time, with those of their documented initialisation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from overtrain import PipelineError
from overtrain.measuring.stacks import Stacks
from overtrain.model import initialisation
from overtrain.model.examples import Examples
from overtrain.model.losses import Score, language_modelling
from overtrain.model.memory import Room
from overtrain.model.olmo import MUP, MadeWhenAsked, Olmo, load_tensors, read_architecture
from overtrain.model.released import load_released
from overtrain.records.provenance import seed_of


@dataclass(frozen=True)
class Noise:
    """Sizes and draws of the noise: each gamma with each seed."""

    gammas: list[float]
    seeds: list[int]

    def members(self) -> list[tuple[float, int]]:
        """(gamma, seed) of all that is measured: the base first, as gamma 0."""
        return [(0.0, -1)] + [(gamma, seed) for gamma in self.gammas for seed in self.seeds]


def initial_std(checkpoint: Path) -> dict[str, float]:
    """Every tensor's standard deviation at initialisation, as saved beside the weights."""
    path = checkpoint / MUP
    try:
        table = json.loads(path.read_text())["tensors"]
    except (OSError, json.JSONDecodeError, KeyError) as error:
        raise PipelineError(
            f"{path}: the initial std of each tensor is missing ({error})"
        ) from error
    return {name: values["init_std"] for name, values in table.items()}


def unit_noise(model: str, name: str, seed: int, shape: torch.Size) -> Tensor:
    """Unit Gaussian noise of one tensor: the same at every budget and gamma of a model and seed."""
    generator = torch.Generator().manual_seed(seed_of("gaussian", model, name, seed))
    return torch.randn(shape, generator=generator)


def gaussian_direction(checkpoint: Path, model: str, seed: int) -> dict[str, Tensor]:
    """Noise of gamma 1 for a checkpoint's tensors (C.2)."""
    std, shapes = initial_std(checkpoint), read_architecture(checkpoint).shapes()
    return {
        name: std[name] * unit_noise(model, name, seed, torch.Size(shape))
        for name, shape in shapes.items()
    }


def perturbed(
    weights: dict[str, Tensor], std: dict[str, float], model: str, members: list[tuple[float, int]]
) -> MadeWhenAsked:
    """Weights (members, out, in) of each (gamma, seed)."""

    def make(name: str) -> Tensor:
        tensor = weights[name]
        draws = {seed: unit_noise(model, name, seed, tensor.shape) for _, seed in members}
        return torch.stack([tensor + gamma * std[name] * draws[seed] for gamma, seed in members])

    return MadeWhenAsked(make)


def perturb_gaussian(
    checkpoint: Path, text: Examples, noise: Noise, stacks: Stacks, identity: dict
) -> list[dict]:
    """Measurement rows: loss on held-out text of the base (gamma 0) and each gamma x seed."""
    a = read_architecture(checkpoint)
    weights, std = load_tensors(checkpoint), initial_std(checkpoint)
    members = noise.members()
    rows = []
    for start in tqdm(range(0, len(members), stacks.width), desc="perturb", mininterval=5):
        own = members[start : start + stacks.width]
        model = Olmo(a, len(own)).to(stacks.device)
        model.load(perturbed(weights, std, identity["model"], own))
        score = language_modelling(model, text, stacks.batch_tokens)
        del model  # before the next takes its memory
        for place, member in enumerate(own):
            rows += rows_of(score, place, member, identity)
    return rows


@torch.no_grad()
def perturb_released(
    checkpoint: Path,
    text: Examples,
    noise: Noise,
    room: Room,
    identity: dict,
    documented: dict,
) -> list[dict]:
    """The same for a released model; `documented` is its initialisation (see that module).

    One at a time: the base stays on the host, and the device holds one member's weights.
    """
    released = load_released(checkpoint, text)
    base = {name: p.detach() for name, p in released.model.named_parameters()}
    released.model.to(room.device)
    batch_tokens = released.batch_tokens(room.batch_tokens)
    rows = []
    for gamma, seed in tqdm(noise.members(), desc="perturb", mininterval=5):
        for name, parameter in released.model.named_parameters():
            std = initialisation.initial_std(documented, name, parameter.shape)
            if gamma and std:
                own = unit_noise(identity["model"], name, seed, parameter.shape)
                parameter.data = (base[name] + gamma * std * own).to(room.device)
        score = language_modelling(released, text, batch_tokens)
        rows += rows_of(score, 0, (gamma, seed), identity)
    return rows


def rows_of(score: Score, place: int, member: tuple[float, int], identity: dict) -> list[dict]:
    gamma, seed = member
    selection = "noise" if gamma else "base"
    return score.rows(identity | {"gamma": gamma, "seed": seed, "selection": selection}, place)

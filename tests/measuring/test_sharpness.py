"""Curvature against exact Hessians and differences of losses; Proposition D.1 on small models."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel

from overtrain.measuring.curvature import second_order, second_order_on_text
from overtrain.measuring.perturb import Noise, gaussian_direction, initial_std, perturb_gaussian
from overtrain.measuring.sharpness import sharpness
from overtrain.measuring.stacks import Stacks
from overtrain.model.architecture import Architecture
from overtrain.model.examples import Examples
from overtrain.model.losses import held_out_text
from overtrain.model.olmo import Olmo, load_checkpoint, save_checkpoint

CPU = torch.device("cpu")
IDENTITY = {"model": "tiny", "tokens": 7, "evaluation": "c4", "split": "held_out"}


@dataclass
class Tiny:
    """A model of 576 parameters, trained a little so that the curvature is mostly positive."""

    model: Olmo
    text: Examples
    folder: Path
    weights: torch.Tensor  # all of them, flat, float64
    loss: Callable[[torch.Tensor], torch.Tensor]  # of flat weights, all in float64

    def split(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        parameters = dict(self.model.named_parameters())
        parts = flat.split([p.numel() for p in parameters.values()])
        return {n: x.view(p.shape) for (n, p), x in zip(parameters.items(), parts, strict=True)}

    def directions(self, count: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        # exact in float32 too
        return torch.randn((count, len(self.weights)), generator=generator).double()

    def curvatures(self, directions: torch.Tensor, batch_tokens: int = 10**9) -> np.ndarray:
        own = [self.split(v.float()) for v in directions]
        return second_order_on_text(self.model, self.text, own, batch_tokens)[:, 1]

    def exactly(self, direction: torch.Tensor) -> np.ndarray:
        """Slope and curvature in float64."""
        double = copy.deepcopy(self.model).double()
        return second_order_on_text(double, self.text, [self.split(direction)], 48)[0]

    def along(self, direction: torch.Tensor, *steps: float) -> np.ndarray:
        """The loss at the weights + step x direction, float64."""
        return np.array([self.loss(self.weights + x * direction).item() for x in steps])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    a = Architecture(1, 1, 8, 8, context=6, vocabulary=8, base_width=16)
    model = Olmo(a).initialise(0)
    steps = np.random.default_rng(0).choice([1, 2, 5], p=[0.6, 0.3, 0.1], size=(17, 7))
    tokens = steps.cumsum(axis=1) % 8
    text = Examples(tokens[:, :-1], tokens[:, 1:], np.full(len(tokens), 6))
    inputs, targets = torch.from_numpy(text.inputs), torch.from_numpy(text.targets)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(50):
        optimizer.zero_grad()
        model.losses(inputs, targets).mean().backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("sharpness")
    save_checkpoint(model, folder, end_of_text=0)
    double = Olmo(a).double()

    def loss(flat: torch.Tensor) -> torch.Tensor:
        logits = functional_call(double, made.split(flat), (inputs,))
        return F.cross_entropy(logits.flatten(0, -2), targets.flatten())

    weights = torch.cat([p.detach().double().flatten() for p in model.parameters()])
    made = Tiny(model, text, folder, weights, loss)
    return made


@pytest.fixture(scope="module")
def hessian(tiny) -> torch.Tensor:
    with sdpa_kernel(SDPBackend.MATH):
        return jacrev(jacrev(tiny.loss))(tiny.weights)


@pytest.fixture(scope="module")
def covariance(tiny) -> torch.Tensor:
    """The diagonal of C.2's covariance: every weight's variance at initialisation."""
    std = initial_std(tiny.folder)
    parts = tiny.split(torch.ones_like(tiny.weights))
    return torch.cat([(std[name] * part).flatten() ** 2 for name, part in parts.items()])


def test_a_quadratic_loss_is_its_second_order_exactly():
    """Slope included, for any loss of several tensors: L(theta + v) follows to the last digits."""
    generator = torch.Generator().manual_seed(1)
    h = torch.randn((7, 7), generator=generator, dtype=torch.float64)
    b, *points = torch.randn((5, 7), generator=generator, dtype=torch.float64)

    def split(flat: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"matrix": flat[:6].view(2, 3), "scalar": flat[6]}

    def loss(own: dict[str, torch.Tensor]) -> torch.Tensor:
        x = torch.cat([own["matrix"].flatten(), own["scalar"][None]])
        return x @ h @ x / 2 + b @ x + 3

    theta, *directions = points
    found = second_order(loss, split(theta), [split(v) for v in directions])
    assert found.shape == (3, 2) and found.dtype == np.float64
    for v, (slope, curvature) in zip(directions, found, strict=True):
        hessian = (h + h.T) / 2  # h itself is not symmetric
        assert slope == pytest.approx(((hessian @ theta + b) @ v).item(), rel=1e-13)
        assert curvature == pytest.approx((v @ hessian @ v).item(), rel=1e-13)
        moved = loss(split(theta + 5 * v)).item()
        expanded = loss(split(theta)).item() + 5 * slope + 12.5 * curvature
        assert moved == pytest.approx(expanded, rel=1e-13)


def test_slope_and_curvature_are_the_differences_of_the_loss(tiny):
    h, slopes = 1e-4, []
    for v in tiny.directions(6):
        slope, curvature = tiny.exactly(v)
        at = tiny.along(v, -2 * h, -h, 0, h, 2 * h)  # errors of order h^4
        assert slope == pytest.approx(np.dot([1, -8, 0, 8, -1], at) / (12 * h), rel=1e-6)
        second = np.dot([-1, 16, -30, 16, -1], at) / (12 * h**2)
        assert curvature == pytest.approx(second, rel=1e-6)
        slopes.append(abs(slope))
    assert max(slopes) > 0.3


def test_what_the_second_order_misses_is_of_third_order(tiny):
    for v in tiny.directions(4):
        slope, curvature = tiny.exactly(v)
        steps = np.array([2e-4, 1e-4, 5e-5])
        start, *moved = tiny.along(v, 0, *steps)
        missed = moved - start - steps * slope - steps**2 * curvature / 2
        assert missed[:2] / missed[1:] == pytest.approx([8, 8], rel=0.05)


def test_curvature_is_the_second_difference_of_the_loss(tiny):
    directions, h = tiny.directions(6), 1e-3
    found = tiny.curvatures(directions)
    for v, curvature in zip(directions, found, strict=True):
        at = [tiny.loss(tiny.weights + k * h * v).item() for k in (-2, -1, 0, 1, 2)]
        difference = np.dot([-1, 16, -30, 16, -1], at) / (12 * h**2)  # error of order h^4
        assert curvature == pytest.approx(difference, rel=1e-3)
    assert np.abs(found).min() > 1


def test_curvature_is_that_of_the_exact_hessian(tiny, hessian):
    directions = tiny.directions(20)
    exact = torch.einsum("ni,ij,nj->n", directions, hessian, directions)
    np.testing.assert_allclose(tiny.curvatures(directions), exact, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["embed_tokens", "q_proj", "up_proj", "lm_head"])
def test_curvature_along_one_tensor_is_its_block_of_the_hessian(tiny, hessian, name):
    """Attention and the norms bend the loss in ways of their own; a sum could hide one."""
    parts = tiny.split(torch.arange(len(tiny.weights)))
    (own,) = [part.flatten() for key, part in parts.items() if name in key]
    directions = torch.zeros(3, len(tiny.weights)).double()
    directions[:, own] = tiny.directions(3)[:, own]
    exact = torch.einsum("ni,ij,nj->n", directions, hessian, directions)
    np.testing.assert_allclose(tiny.curvatures(directions), exact, rtol=1e-4, atol=1e-4)
    assert exact.abs().max() > 0.01


def test_curvature_is_quadratic_in_the_direction(tiny):
    v = tiny.directions(1)[0]
    one, minus, double, none = tiny.curvatures(torch.stack([v, -v, 2 * v, 0 * v]))
    assert minus == pytest.approx(one, rel=1e-6) and double == pytest.approx(4 * one, rel=1e-6)
    assert none == 0


@pytest.mark.parametrize("batch_tokens", [1, 16 * 13, 16 * 48, 16 * 17 * 6])
def test_how_much_text_is_taken_at_once_changes_nothing(tiny, batch_tokens):
    directions = tiny.directions(3)
    whole = tiny.curvatures(directions)
    np.testing.assert_allclose(tiny.curvatures(directions, batch_tokens), whole, rtol=1e-5)


def values(rows: list[dict], metric: str) -> dict[tuple, float]:
    return {(r.get("gamma"), r["seed"]): r["value"] for r in rows if r["metric"] == metric}


def test_the_mean_of_half_curvatures_is_half_the_trace_of_h_sigma(tiny, hessian, covariance):
    """Proposition D.1 for noise that is not isotropic, on average over 250 draws."""
    gamma, seeds = 0.003, list(range(250))
    noise = Noise([gamma], seeds)
    rows = sharpness(tiny.folder, tiny.text, noise, Stacks(200, 10**6, CPU), IDENTITY)
    halves = np.array([*values(rows, "half_curvature").values()])
    changes = np.array([*values(rows, "loss_change").values()])
    expected = (hessian.diagonal() * covariance).sum().item() / 2
    spread = (hessian**2 * torch.outer(covariance, covariance)).sum().item()
    error = math.sqrt(spread / 2 / len(seeds))  # of Hutchinson's mean, Gaussian draws
    assert halves.mean() == pytest.approx(expected, abs=4 * error)
    assert halves.std() / len(seeds) ** 0.5 == pytest.approx(error, rel=0.3)
    assert changes.mean() / gamma**2 == pytest.approx(halves.mean(), rel=0.01)
    isotropic = (hessian.trace() * covariance.mean()).item() / 2
    assert abs(isotropic - expected) > 8 * error  # Sigma's shape matters, and would be seen


def test_small_noise_raises_the_loss_by_the_curvature_draw_by_draw(checkpoint, corpus):
    text, gammas, seeds = held_out_text(corpus, 32, 32 * 32), [0.005, 0.01, 0.2], [0, 1, 2]
    rows = sharpness(checkpoint, text, Noise(gammas, seeds), Stacks(5, 512, CPU), IDENTITY)
    half, change = values(rows, "half_curvature"), values(rows, "loss_change")
    assert list(half) == [(None, seed) for seed in seeds]
    assert list(change) == [(gamma, seed) for gamma in gammas for seed in seeds]
    assert len(rows) == len(half) + len(change)
    own = IDENTITY | {"selection": "noise", "diverged": False}
    assert all(own.items() <= row.items() for row in rows)
    for (gamma, seed), value in change.items():
        ratio = value / gamma**2 / half[None, seed]
        if gamma < 0.1:
            assert ratio == pytest.approx(1, abs=0.002), (gamma, seed)
        else:  # the loss is not quadratic: the agreement above is no matter of course
            assert abs(ratio - 1) > 0.02, (gamma, seed)
    assert len({round(value, 3) for value in half.values()}) == len(seeds)


def test_the_draws_are_those_of_the_gaussian_measurements(checkpoint, corpus):
    text = held_out_text(corpus, 32, 32 * 32)
    rows = sharpness(checkpoint, text, Noise([0.1], [0, 1]), Stacks(3, 512, CPU), IDENTITY)
    own = perturb_gaussian(
        checkpoint, text, Noise([0.1, -0.1], [0, 1]), Stacks(5, 512, CPU), IDENTITY
    )
    loss = values(own, "loss")
    for seed in (0, 1):
        mean = (loss[0.1, seed] + loss[-0.1, seed]) / 2
        found = values(rows, "loss_change")[0.1, seed]
        assert found == pytest.approx(mean - loss[0.0, -1], abs=1e-6) and found > 0.01
        v = gaussian_direction(checkpoint, "tiny", seed)
        half = second_order_on_text(load_checkpoint(checkpoint), text, [v], 512)[0, 1] / 2
        assert values(rows, "half_curvature")[None, seed] == pytest.approx(half, rel=1e-5)


def test_noise_that_overflows_is_a_diverged_row(tiny):
    rows = sharpness(tiny.folder, tiny.text, Noise([0.1, 1e38], [0]), Stacks(2, 512, CPU), IDENTITY)
    assert [(row.get("gamma"), row["diverged"]) for row in rows] == [
        (None, False),
        (0.1, False),
        (1e38, True),
    ]
    assert math.isnan(rows[-1]["value"])

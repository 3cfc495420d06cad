"""FlatAdamW against torch's AdamW and clipping: one model, muP's groups, each run of a stack."""

import pytest
import torch
from torch.nn.utils import clip_grad_norm_

from overtrain.model.architecture import Architecture
from overtrain.model.olmo import Olmo
from overtrain.training.optimizer import FlatAdamW

STEPS = 8
SCALES = [0.25, 0.5, 1.0, 1.0, 0.8, 0.5, 0.2, 0.0]
RATES = [1e-3, 4e-3, 2e-2]


def architecture(base_width: int | None) -> Architecture:
    return Architecture(2, 2, 32, 48, context=16, vocabulary=40, base_width=base_width)


def batch(a: Architecture, step: int, *runs: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randint(a.vocabulary, (*runs, 4, a.context + 1), generator=generator)


def torch_adamw(model: Olmo, rate: float, decay: float) -> torch.optim.AdamW:
    """torch's AdamW with a group for each tensor: muP's rate, and its inverse on the decay."""
    groups = []
    for name, parameter in model.named_parameters():
        factor = model.architecture.lr_multiplier(name)
        groups.append(
            {"params": [parameter], "peak": rate * factor, "weight_decay": decay / factor}
        )
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), eps=1e-8)


def torch_step(model: Olmo, adamw: torch.optim.AdamW, tokens, scale: float, clip: float | None):
    adamw.zero_grad()
    model.losses(tokens[:, :-1], tokens[:, 1:]).mean().backward()
    if clip is not None:
        clip_grad_norm_(model.parameters(), clip)
    for group in adamw.param_groups:
        group["lr"] = group["peak"] * scale
    adamw.step()


def assert_equal_weights(found: dict, expected: dict) -> None:
    for name, tensor in expected.items():
        assert (found[name] - tensor).abs().max() < 1e-6, name


@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize("base_width", [None, 8])
def test_one_model_takes_the_steps_of_torchs_adamw(base_width, clip):
    a = architecture(base_width)
    ours, theirs = Olmo(a).initialise(0), Olmo(a).initialise(0)
    optimizer = FlatAdamW(ours, 2e-3, weight_decay=0.1, clip=clip)
    adamw = torch_adamw(theirs, 2e-3, 0.1)
    for step, scale in zip(range(STEPS), SCALES, strict=True):
        tokens = batch(a, step)
        ours.losses(tokens[:, :-1], tokens[:, 1:]).mean().backward()
        optimizer.step(scale)
        torch_step(theirs, adamw, tokens, scale, clip)
        assert_equal_weights(dict(ours.named_parameters()), dict(theirs.named_parameters()))
    start = dict(Olmo(a).initialise(0).named_parameters())
    assert max((p - start[n]).abs().max() for n, p in ours.named_parameters()) > 1e-3


def test_each_run_of_a_stack_has_its_own_rate_and_clip():
    a = architecture(8)
    start = dict(Olmo(a).initialise(0).named_parameters())
    stack = Olmo(a, len(RATES)).load(start)
    optimizer = FlatAdamW(stack, torch.tensor(RATES), weight_decay=0.1, clip=0.3)
    singles = [Olmo(a).load(start) for _ in RATES]
    adamws = [torch_adamw(m, rate, 0.1) for m, rate in zip(singles, RATES, strict=True)]
    for step, scale in zip(range(STEPS), SCALES, strict=True):
        tokens = batch(a, step, len(RATES))
        losses = stack.losses(tokens[..., :-1], tokens[..., 1:])
        losses.mean(dim=(1, 2)).sum().backward()
        optimizer.step(scale)
        for r, (single, adamw) in enumerate(zip(singles, adamws, strict=True)):
            torch_step(single, adamw, tokens[r], scale, 0.3)
    for r, single in enumerate(singles):
        found = {name: p[r] for name, p in stack.named_parameters()}
        assert_equal_weights(found, dict(single.named_parameters()))


def test_a_run_whose_gradient_is_nan_does_not_touch_the_others():
    a = architecture(8)
    stack = Olmo(a, 3).load(dict(Olmo(a).initialise(0).named_parameters()))
    optimizer = FlatAdamW(stack, torch.tensor(RATES), weight_decay=0.1)
    gradient = torch.randn(3, a.parameter_counts()["total"], generator=torch.Generator())
    before = optimizer.weights.clone()
    gradient[1, 7] = float("nan")
    sizes = [p.numel() // 3 for p in stack.parameters()]
    for p, part in zip(stack.parameters(), gradient.split(sizes, -1), strict=True):
        p.grad = part.reshape(p.shape)
    optimizer.step(1.0)
    assert optimizer.weights[1].isnan().all()  # the clip's norm is NaN
    assert optimizer.weights[[0, 2]].isfinite().all()
    assert (optimizer.weights[[0, 2]] != before[[0, 2]]).any(dim=1).all()


def test_the_model_sees_the_flat_weights_and_its_gradients_are_gathered():
    a = architecture(None)
    model = Olmo(a).initialise(0)
    optimizer = FlatAdamW(model, 1e-3, clip=None)
    optimizer.weights.mul_(2)
    for name, p in Olmo(a).initialise(0).named_parameters():
        assert torch.equal(dict(model.named_parameters())[name], 2 * p)
    tokens = batch(a, 0)
    model.losses(tokens[:, :-1], tokens[:, 1:]).mean().backward()
    flat = torch.cat([p.grad.flatten() for p in model.parameters()])
    optimizer.step(1.0, average=lambda gradient: gradient.mul_(0.5))
    assert flat.norm() > 0 and torch.equal(optimizer.gradient, 0.5 * flat)
    assert all(p.grad is None for p in model.parameters())

"""Shapes, parameter counts and muP as numbers; the coordinate check of muP by training."""

import pytest
import torch

from overtrain.model.architecture import Architecture
from overtrain.model.olmo import Olmo
from overtrain.training.optimizer import FlatAdamW

# model: layers (= heads), width, MLP; then millions of parameters, non-embedding and total
TABLE_3 = {
    "OLMo-15M": (3, 192, 768, 1.8, 21.1),
    "OLMo-30M": (6, 384, 1536, 14.2, 52.8),
    "OLMo-90M": (9, 576, 2304, 47.8, 105.7),
}


def olmo(layers: int, width: int, mlp: int, **more: int) -> Architecture:
    return Architecture(layers, layers, width, mlp, context=1024, vocabulary=50304, **more)


@pytest.mark.parametrize("name", TABLE_3)
def test_the_parameters_of_table_3_are_as_its_numbers_give_them(name):
    layers, width, mlp, non_embedding, total = TABLE_3[name]
    architecture = olmo(layers, width, mlp)
    counts = architecture.parameter_counts()
    assert architecture.head_size == 64
    assert round(counts["non_embedding"] / 1e6, 1) == non_embedding
    assert round(counts["total"] / 1e6, 1) == total  # embedding and head are two matrices
    assert counts["non_embedding"] == layers * (4 * width**2 + 3 * width * mlp)
    assert counts["embedding"] == 2 * 50304 * width


def test_counts_and_shapes_are_those_of_the_model_as_built(architecture):
    built = {name: tuple(p.shape) for name, p in Olmo(architecture).named_parameters()}
    assert built == architecture.shapes()
    assert (
        sum(p.numel() for p in Olmo(architecture).parameters())
        == (architecture.parameter_counts()["total"])
    )


def test_mup_equals_the_standard_parameterisation_at_the_base_width():
    standard, mup = olmo(3, 192, 768), olmo(3, 192, 768, base_width=192)
    assert mup.mup_table() == standard.mup_table()
    assert {row["lr_multiplier"] for row in mup.mup_table().values()} == {1.0}


def test_mup_scales_each_group_with_width():
    narrow = olmo(3, 192, 768, base_width=192).mup_table()
    wide = olmo(3, 768, 3072, base_width=192).mup_table()
    ratio = {
        name: (wide[name]["init_std"] / value["init_std"], wide[name]["lr_multiplier"])
        for name, value in narrow.items()
    }
    assert ratio.pop("model.embed_tokens.weight") == pytest.approx((1, 1))
    assert ratio.pop("lm_head.weight") == pytest.approx((1 / 4, 1 / 4))
    for name, found in ratio.items():  # hidden matrices: std by the square root of the fan-in
        assert found == pytest.approx((1 / 2, 1 / 4)), name


def test_initial_weights_have_the_std_that_mup_says():
    architecture = Architecture(2, 2, 64, 160, context=8, vocabulary=512, base_width=16)
    model = Olmo(architecture).initialise(seed=3)
    for name, parameter in model.named_parameters():
        expected = architecture.initial_std(name)
        error = 1 / (2 * parameter.numel()) ** 0.5  # of an estimated std, relative
        assert parameter.std().item() == pytest.approx(expected, rel=5 * error), name
        assert abs(parameter.mean().item()) < 5 * expected / parameter.numel() ** 0.5, name


def coordinate_change(width: int, base_width: int | None, seed: int) -> list[float]:
    """RMS change of the residual stream and of the logits over five steps on one batch."""
    architecture = Architecture(2, width // 32, width, width, 16, 64, base_width)
    tokens = torch.randint(64, (4, 17), generator=torch.Generator().manual_seed(seed))
    model = Olmo(architecture).initialise(seed)
    optimizer = FlatAdamW(model, 1e-2, clip=None)
    stream = []
    model.model.layers[-1].register_forward_hook(lambda *seen: stream.append(seen[-1].detach()))
    before = model(tokens[:, :-1]).detach()
    for _ in range(5):
        model.losses(tokens[:, :-1], tokens[:, 1:]).mean().backward()
        optimizer.step(1.0)
    after = model(tokens[:, :-1]).detach()
    changes = stream[-1] - stream[0], after - before
    return [change.pow(2).mean().sqrt().item() for change in changes]


@pytest.mark.parametrize("seed", range(3))
def test_coordinates_move_alike_at_all_widths_under_mup_only(seed):
    """muP's coordinate check. Measured over six seeds, width 512 relative to 64: residual stream
    x 0.93 to 1.03 under muP and x 4.8 to 6.2 without; logits x 0.64 to 0.68 and x 1.75 to 2.02.
    (muP's logits start at a std that falls with the width: their change falls towards a limit.)
    """
    widths = (64, 128, 256, 512)
    mup = torch.tensor([coordinate_change(width, 64, seed) for width in widths])
    standard = torch.tensor([coordinate_change(width, None, seed) for width in widths])
    assert torch.equal(mup[0], standard[0])  # at the base width they are the same
    residual, logits = (mup / mup[0]).T
    assert residual.min() > 0.8 and residual.max() < 1.2
    assert logits.min() > 0.5 and logits.max() < 1.05
    assert (standard.diff(dim=0) > 0).all()
    residual, logits = standard[-1] / standard[0]
    assert residual > 3 and logits > 1.5

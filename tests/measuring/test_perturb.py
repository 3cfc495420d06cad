"""Gaussian perturbation: its size by tensor, the same noise where it should be, the base at 0."""

import dataclasses
import math

import pytest
import torch

from overtrain import PipelineError
from overtrain.measuring.perturb import Noise, initial_std, perturb_gaussian, perturbed, unit_noise
from overtrain.measuring.stacks import Stacks
from overtrain.model.architecture import Architecture
from overtrain.model.losses import held_out_text, language_modelling
from overtrain.model.olmo import MUP, Olmo, load_checkpoint, load_tensors, save_checkpoint

CPU = torch.device("cpu")
IDENTITY = {"model": "tiny", "evaluation": "c4"}
GAMMAS, SEEDS = [0.02, 0.1, 0.5], [0, 1]
NOISE, FOUR = Noise(GAMMAS, SEEDS), Stacks(4, 512, CPU)


@pytest.fixture(scope="module")
def text(corpus):
    return held_out_text(corpus, 32, 64 * 32)


def losses(rows: list[dict]) -> dict[tuple[float, int], float]:
    return {(r["gamma"], r["seed"]): r["value"] for r in rows if r["metric"] == "loss"}


def test_the_noise_of_a_tensor_has_gamma_times_its_std_at_initialisation(tmp_path):
    a = Architecture(2, 2, 64, 160, context=8, vocabulary=256, base_width=16)
    save_checkpoint(Olmo(a).initialise(0), tmp_path, end_of_text=0)
    std, weights = initial_std(tmp_path), load_tensors(tmp_path)
    assert len({round(value, 6) for value in std.values()}) == 4  # embedding, two fan-ins, head
    moved = perturbed(weights, std, "tiny", [(0.05, 0), (0.05, 1)])
    for name, tensor in weights.items():
        change = (moved[name] - tensor) / (0.05 * a.initial_std(name))
        for own in change:  # five standard errors of a mean and of a std
            assert abs(own.mean().item()) < 5 / own.numel() ** 0.5, name
            assert own.std().item() == pytest.approx(1, abs=5 / (2 * own.numel()) ** 0.5), name
            assert own.abs().max() > 3
        correlation = (change[0] * change[1]).mean().item()  # seeds are independent
        assert abs(correlation) < 5 / change[0].numel() ** 0.5, name


def test_the_noise_is_the_same_for_every_checkpoint_and_scales_with_gamma(checkpoint):
    std, weights = initial_std(checkpoint), load_tensors(checkpoint)
    zero = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    members = [(0.1, 3), (0.2, 3), (0.1, 4)]
    pure = perturbed(zero, std, "tiny", members)
    moved = perturbed(weights, std, "tiny", members)
    for name, tensor in weights.items():
        torch.testing.assert_close(moved[name], tensor + pure[name], rtol=0, atol=0)
        torch.testing.assert_close(pure[name][1], 2 * pure[name][0])
        assert (pure[name][2] != pure[name][0]).all()


def test_the_noise_of_each_tensor_and_model_is_its_own():
    shape = torch.Size((4, 4))
    draws = [
        unit_noise("tiny", "a", 0, shape),
        unit_noise("tiny", "b", 0, shape),
        unit_noise("other", "a", 0, shape),
    ]
    assert torch.equal(draws[0], unit_noise("tiny", "a", 0, shape))
    assert (draws[0] != draws[1]).all() and (draws[0] != draws[2]).all()


def test_gamma_zero_is_the_base_bit_for_bit(checkpoint):
    weights = load_tensors(checkpoint)
    moved = perturbed(weights, initial_std(checkpoint), "tiny", [(0.0, -1), (0.1, 0)])
    for name, tensor in weights.items():
        assert torch.equal(moved[name][0], tensor) and not torch.equal(moved[name][1], tensor)


def test_rows_are_the_base_and_every_gamma_and_seed_and_more_noise_hurts_more(checkpoint, text):
    rows = perturb_gaussian(checkpoint, text, NOISE, FOUR, IDENTITY)
    found = losses(rows)
    assert list(found) == [(0.0, -1)] + [(gamma, seed) for gamma in GAMMAS for seed in SEEDS]
    assert len(rows) == 2 * len(found)  # loss and perplexity
    assert {r["selection"] for r in rows if r["gamma"] == 0} == {"base"}
    assert {r["selection"] for r in rows if r["gamma"] > 0} == {"noise"}
    assert all(IDENTITY.items() <= row.items() for row in rows)

    base = language_modelling(load_checkpoint(checkpoint, runs=1), text, 512)
    assert found[0.0, -1] == pytest.approx(base.loss[0], abs=1e-6)
    weights = perturbed(load_tensors(checkpoint), initial_std(checkpoint), "tiny", [(0.1, 1)])
    alone = load_checkpoint(checkpoint, runs=1).load(weights)
    assert found[0.1, 1] == pytest.approx(language_modelling(alone, text, 512).loss[0], abs=1e-5)
    for seed in SEEDS:
        rising = [found[gamma, seed] for gamma in (0.1, 0.5)]
        assert found[0.0, -1] < rising[0] < rising[1]


@pytest.mark.parametrize("width", [1, 3, 100])
def test_how_many_are_measured_at_once_changes_nothing(checkpoint, text, width):
    expected = losses(perturb_gaussian(checkpoint, text, NOISE, FOUR, IDENTITY))
    rows = perturb_gaussian(checkpoint, text, NOISE, Stacks(width, 512, CPU), IDENTITY)
    assert losses(rows) == pytest.approx(expected, abs=1e-5)


def test_noise_that_overflows_is_a_diverged_row(checkpoint, text):
    rows = perturb_gaussian(checkpoint, text, Noise([1e38], [0]), Stacks(2, 512, CPU), IDENTITY)
    assert [row["diverged"] for row in rows] == [False, False, True, True]
    assert all(math.isnan(row["value"]) for row in rows[2:])


@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_a_checkpoint_without_its_initial_std_is_one_clear_line(tmp_path, content, architecture):
    a = dataclasses.replace(architecture, layers=1)
    save_checkpoint(Olmo(a).initialise(0), tmp_path, end_of_text=0)
    (tmp_path / MUP).unlink()
    if content is not None:
        (tmp_path / MUP).write_text(content)
    with pytest.raises(PipelineError, match=r"mup.json: the initial std of each") as error:
        initial_std(tmp_path)
    assert "\n" not in str(error.value)

"""The loss along a direction: its ends are measured elsewhere too, its start is a parabola."""

import math
from pathlib import Path

import pytest
import torch

from overtrain.measuring.directions import fine_tuning_direction, loss_along
from overtrain.measuring.perturb import Noise, gaussian_direction, perturb_gaussian
from overtrain.measuring.stacks import Stacks
from overtrain.model.examples import Examples
from overtrain.model.losses import held_out_text, language_modelling
from overtrain.model.memory import Room
from overtrain.model.olmo import load_checkpoint, load_tensors
from overtrain.model.snapshots import load_stacks
from overtrain.training.finetune import Recipe, Task, finetune
from overtrain.training.sweep_states import SweepFolders

CPU = torch.device("cpu")
IDENTITY = {"model": "tiny", "tokens": 7, "evaluation": "c4", "split": "held_out"}
NINE = Stacks(9, 512, CPU)
LAMBDAS = [-0.5, 0.0, 0.01, 0.5, 1.0]


@pytest.fixture(scope="module")
def text(corpus) -> Examples:
    return held_out_text(corpus, 32, 32 * 32)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, checkpoint, language_task) -> Path:
    """A sweep of one run, so long that its best epoch is not its last."""
    recipe = Recipe("direction", [0.03], [0], 4, 30, "constant", 0.1, 0.0, (0.9, 0.95), 1.0)
    folder = tmp_path_factory.mktemp("runs") / "direction"
    task, identity = Task(language_task, "language_modelling"), IDENTITY | {"task": "language"}
    folders = SweepFolders(folder, folder.with_name("state"), {}, 1e9)
    finetune(checkpoint, task, recipe, Room(CPU, 10**9, 512), identity, folders)
    return folder


@pytest.fixture(scope="module")
def tuned(checkpoint, runs) -> dict[str, torch.Tensor]:
    return fine_tuning_direction(checkpoint, runs)[1]


def measured(rows: list[dict]) -> tuple[dict[float, float], float, float]:
    """Loss by lambda, the slope and half the curvature."""
    slope, half, *losses = rows
    assert (slope["metric"], half["metric"]) == ("slope", "half_curvature")
    assert {row["metric"] for row in losses} == {"loss"}
    return {row["lambda"]: row["value"] for row in losses}, slope["value"], half["value"]


def test_a_fine_tuning_direction_leads_from_the_base_to_the_last_epoch(
    checkpoint, runs, tuned, text
):
    run, _ = fine_tuning_direction(checkpoint, runs)
    assert run.identity() == {"learning_rate": 0.03, "seed": 0, "epoch": 30}
    loss, _, _ = measured(loss_along(checkpoint, tuned, LAMBDAS, text, NINE, IDENTITY))
    ((snapshots, stack),) = load_stacks(checkpoint, runs, 9, CPU)
    scores = language_modelling(stack, text, 512).loss
    found = {
        name: score
        for snapshot, score in zip(snapshots, scores, strict=True)
        for name in snapshot.selections
    }
    assert loss[0.0] == found["base"]
    assert loss[1.0] == pytest.approx(found["last"], rel=1e-7)
    assert abs(found["best"] - found["last"]) > 0.01  # another epoch's weights would be seen
    assert loss[1.0] - loss[0.0] > 0.1


def test_a_gaussian_direction_is_the_noise_of_the_gaussian_measurements(checkpoint, text):
    v = gaussian_direction(checkpoint, "tiny", 3)
    loss, _, _ = measured(loss_along(checkpoint, v, LAMBDAS, text, NINE, IDENTITY))
    own = perturb_gaussian(checkpoint, text, Noise(LAMBDAS[2:], [3]), NINE, IDENTITY)
    expected = {row["gamma"]: row["value"] for row in own if row["metric"] == "loss"}
    assert {x: loss[x] for x in expected} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["gaussian", "fine-tuning"])
def test_near_zero_the_second_order_is_the_loss_and_far_it_is_not(checkpoint, tuned, text, kind):
    v = gaussian_direction(checkpoint, "tiny", 0) if kind == "gaussian" else tuned
    near, far = (0.004, 2.0) if kind == "gaussian" else (0.02, 1.0)
    steps = [-far, -near, 0.0, near, far]
    loss, slope, half = measured(loss_along(checkpoint, v, steps, text, NINE, IDENTITY))
    for x in (-near, near):
        expanded = slope * x + half * x**2
        assert loss[x] - loss[0.0] == pytest.approx(expanded, abs=0.02 * half * near**2)
        assert abs(slope * x) > 0.1 * half * x**2  # without it the line above would fail
    assert abs(loss[far] - loss[0.0] - slope * far - half * far**2) > 0.2 * half * far**2


def test_rows_are_named_and_stacks_change_nothing(checkpoint, tuned, text):
    rows = loss_along(checkpoint, tuned, LAMBDAS, text, NINE, IDENTITY | {"seed": 5})
    own = IDENTITY | {"seed": 5, "selection": "interpolated", "diverged": False}
    assert all(own.items() <= row.items() for row in rows)
    assert [row.get("lambda") for row in rows] == [None, None, *LAMBDAS]
    assert all(row["n"] == 32 and row["stderr"] > 0 for row in rows[2:])
    alone = loss_along(checkpoint, tuned, LAMBDAS, text, Stacks(2, 64, CPU), IDENTITY)
    for row, other in zip(rows, alone, strict=True):
        assert other["value"] == pytest.approx(row["value"], rel=1e-5)


def test_a_loss_that_overflows_is_a_diverged_row(checkpoint, text):
    v = {name: torch.ones_like(tensor) for name, tensor in load_tensors(checkpoint).items()}
    rows = loss_along(checkpoint, v, [0.0, 1e38], text, NINE, IDENTITY)
    assert [row["diverged"] for row in rows] == [False, False, False, True]
    assert math.isnan(rows[-1]["value"])
    base = language_modelling(load_checkpoint(checkpoint, 1), text, 512).loss[0]
    assert rows[2]["value"] == base

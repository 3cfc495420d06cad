"""Losses against plain loops: per token, per class as in the paper's C.1, held-out text."""

import json
import math
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from overtrain import PipelineError
from overtrain.data.corpora import Corpus
from overtrain.data.tokenizer import SYMBOLS, load_encoder
from overtrain.model.architecture import IGNORE, Architecture
from overtrain.model.examples import Choices, Examples
from overtrain.model.losses import (
    Score,
    TaskSplit,
    batches,
    classification,
    held_out_text,
    language_modelling,
    sequence_losses,
    target_positions,
)
from overtrain.model.olmo import Olmo, load_checkpoint, load_tensors, save_checkpoint
from overtrain.model.snapshots import Snapshot
from overtrain.model.snapshots import save as save_snapshots

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def members(checkpoint) -> list[Olmo]:
    """The checkpoint, and another model."""
    return [load_checkpoint(checkpoint), load_checkpoint(checkpoint).initialise(seed=9)]


@pytest.fixture(scope="module")
def stack(members) -> Olmo:
    weights = [dict(m.named_parameters()) for m in members]
    tensors = {name: torch.stack([w[name] for w in weights]) for name in weights[0]}
    return Olmo(members[0].architecture, 2).load(tensors)


def token_losses(model: Olmo, text: str) -> list[float]:
    """Negative log likelihood of every character but the first, from the logits."""
    ids = torch.tensor([[SYMBOLS.index(symbol) for symbol in text]])
    with torch.no_grad():
        scores = model(ids[:, :-1]).double().log_softmax(-1)
    return [-scores[0, i, token].item() for i, token in enumerate(ids[0, 1:])]


def split_of(task: Path, kind: str, checkpoint: Path) -> tuple[Examples | Choices, list[dict]]:
    rows = pq.read_table(task / "test.parquet").to_pylist()
    return TaskSplit(task, "test", kind, load_encoder(checkpoint), 32).data, rows


def test_the_loss_of_a_language_task_is_the_mean_over_all_its_tokens(
    stack, members, language_task, checkpoint
):
    examples, rows = split_of(language_task, "language_modelling", checkpoint)
    score = language_modelling(stack, examples, batch_tokens=100)
    for r, model in enumerate(members):
        losses = [token_losses(model, (row["text"] + "\n")[:33]) for row in rows]
        assert len({len(own) for own in losses}) > 2  # short ones weigh less
        tokens = [loss for own in losses for loss in own]
        assert score.loss[r] == pytest.approx(np.mean(tokens), abs=1e-5)
    assert score.n == len(rows) and score.accuracy is None
    assert abs(score.loss[1] - score.loss[0]) > 0.1


def test_the_loss_of_a_choice_is_the_softmax_over_length_normalised_likelihoods(
    stack, members, choice_task, checkpoint
):
    choices, rows = split_of(choice_task, "classification", checkpoint)
    score = classification(stack, choices, batch_tokens=100)
    for r, model in enumerate(members):
        losses, right = [], 0
        for row in rows:
            means = []
            for answer in row["choices"]:
                own = token_losses(model, "\n" + row["prompt"] + answer)
                means.append(sum(own[-len(answer) :]) / len(answer))
            likelihoods = [math.exp(-mean) for mean in means]
            losses.append(-math.log(likelihoods[row["label"]] / sum(likelihoods)))
            right += min(means) == means[row["label"]]
        assert score.loss[r] == pytest.approx(np.mean(losses), abs=1e-5)
        assert score.accuracy[r] == pytest.approx(right / len(rows))
        expected = np.std(losses, ddof=1) / math.sqrt(len(rows))
        assert score.stderr[r] == pytest.approx(expected, rel=1e-3)
    assert score.n == len(rows)


@pytest.mark.parametrize("batch_tokens", [1, 40, 128, 10**6])
def test_how_sequences_are_batched_changes_nothing(stack, language_task, checkpoint, batch_tokens):
    examples, rows = split_of(language_task, "language_modelling", checkpoint)
    found = sequence_losses(stack, examples, batch_tokens)
    for i, row in enumerate(rows):
        alone = token_losses(load_checkpoint(checkpoint), (row["text"] + "\n")[:33])
        assert found[0, i] == pytest.approx(sum(alone), abs=1e-4)


def test_only_positions_with_a_target_have_logits():
    targets = np.full((2, 3, 5), IGNORE)
    targets[0, 1, 2:4] = 7
    targets[1, 2, 4] = 8
    where = target_positions(targets)
    assert where.shape == (2, 2)
    found = np.take_along_axis(targets.reshape(2, -1), where, axis=1)
    assert sorted(found[0]) == [7, 7] and sorted(found[1]) == [IGNORE, 8]
    assert target_positions(np.zeros((2, 3, 5), int)) is None  # all have one


def test_batches_cover_all_sequences_once_and_keep_to_their_size():
    lengths = np.sort(np.random.default_rng(0).integers(1, 60, size=200))
    slices = list(batches(lengths, 128))
    assert np.array_equal(np.concatenate([lengths[s] for s in slices]), lengths)
    sizes = [len(lengths[s]) * lengths[s].max() for s in slices]
    assert max(sizes) <= 128
    for this, after in pairwise(slices):  # and are as large as they can be
        assert (this.stop - this.start + 1) * lengths[after.start] > 128
    assert len(list(batches(lengths, 1))) == 200  # a sequence too long for a batch is one


def test_standard_errors_are_those_of_resampled_sequences(stack, language_task, checkpoint):
    examples, _ = split_of(language_task, "language_modelling", checkpoint)
    score = language_modelling(stack, examples, 1000)
    sums = sequence_losses(stack, examples, 1000)
    counts = examples.lengths
    draws = np.random.default_rng(0).integers(0, len(counts), size=(4000, len(counts)))
    resampled = sums[:, draws].sum(axis=2) / counts[draws].sum(axis=1)
    assert score.stderr == pytest.approx(resampled.std(axis=1), rel=0.15)
    twice = Examples(*(np.concatenate([a, a]) for a in vars(examples).values()))
    doubled = language_modelling(stack, twice, 1000)
    assert doubled.loss == pytest.approx(score.loss, abs=1e-6)
    assert doubled.stderr == pytest.approx(score.stderr / math.sqrt(2), rel=1e-3)


def test_a_member_of_nan_is_a_diverged_row_and_the_other_is_measured(
    checkpoint, language_task, choice_task
):
    weights = load_tensors(checkpoint)
    both = {name: torch.stack([w, torch.full_like(w, math.nan)]) for name, w in weights.items()}
    broken = Olmo(load_checkpoint(checkpoint).architecture, 2).load(both)
    for task, kind, metrics in (
        (language_task, "language_modelling", ["loss", "perplexity"]),
        (choice_task, "classification", ["loss", "perplexity", "accuracy"]),
    ):
        split = TaskSplit(task, "test", kind, load_encoder(checkpoint), 32)
        score = split.score(broken, 256)
        alone = split.score(load_checkpoint(checkpoint, runs=1), 256)
        assert score.loss[0] == pytest.approx(alone.loss[0], abs=1e-6)
        healthy, diverged = (score.rows({"model": "tiny"}, run) for run in (0, 1))
        assert [row["metric"] for row in healthy] == metrics
        assert not any(row["diverged"] for row in healthy)
        assert all(row["diverged"] and math.isnan(row["value"]) for row in diverged)


def test_rows_hold_loss_perplexity_and_accuracy():
    score = Score(np.array([0.5, 1.0]), np.array([0.01, 0.02]), 100, np.array([0.8, 0.5]))
    loss, perplexity, accuracy = score.rows({"split": "test"}, 1)
    assert (loss["value"], loss["stderr"], loss["n"]) == (1.0, 0.02, 100)
    assert perplexity["value"] == pytest.approx(math.e)
    assert (accuracy["value"], accuracy["stderr"]) == (0.5, pytest.approx(0.05))
    assert {row["split"] for row in (loss, perplexity, accuracy)} == {"test"}


def test_held_out_text_is_the_first_windows_of_the_held_out_split(corpus, checkpoint):
    text = held_out_text(corpus, 32, 20 * 32 + 31)
    tokens = np.memmap(next(corpus.glob("held_out-*.bin")), dtype="<u2")
    assert text.inputs.shape == text.targets.shape == (20, 32)
    assert np.array_equal(text.inputs.ravel(), tokens[:640])
    assert np.array_equal(text.targets.ravel(), tokens[1:641])
    assert (text.lengths == 32).all()
    stack = load_checkpoint(checkpoint, runs=1)
    loss = language_modelling(stack, text, 4096).loss[0]
    assert loss < language_modelling(stack.initialise(0), text, 4096).loss[0] - 0.5


def test_too_little_or_damaged_held_out_text_is_one_clear_line(corpus, tmp_path):
    held = Corpus(corpus).manifest["splits"]["held_out"]["tokens"]
    with pytest.raises(PipelineError, match=r"the configuration asks for") as error:
        held_out_text(corpus, 32, held + 32)
    assert "\n" not in str(error.value) and str(corpus) in str(error.value)
    with pytest.raises(PipelineError, match=r"asks for 31$"):
        held_out_text(corpus, 32, 31)  # less than a window
    for path in corpus.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    shard = tmp_path / manifest["splits"]["held_out"]["shards"][0]["file"]
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(PipelineError, match=f"{shard.name}: has .* bytes"):
        held_out_text(tmp_path, 32, 640)


EVALUATION_OF_A_SIZE = """
import sys
from functools import partial
from pathlib import Path
import numpy as np, torch
from overtrain.measuring.stacks import Stacks, measure_sweep
from overtrain.model.allocator import keep_freed_memory
from overtrain.model.examples import Examples
from overtrain.model.losses import language_modelling
from overtrain.model.memory import Room, resident

base, runs, megabytes = sys.argv[1:]
torch.set_num_threads(1)
keep_freed_memory()
room = Room(torch.device("cpu"), int(0.8 * int(megabytes) * 2**20), 8192)
stacks = Stacks.within(room, Path(base))
windows = np.random.default_rng(0).integers(0, 96, (40, 33))
text = Examples(windows[:, :-1], windows[:, 1:], np.full(40, 32))
scores = {"held_out": partial(language_modelling, examples=text)}
rows = measure_sweep(Path(base), Path(runs), scores, stacks, {"evaluation": "c4"})
print(stacks.width, len(rows), resident("VmHWM") // 2**20)
"""


@pytest.mark.slow
def test_an_evaluation_stays_in_the_memory_it_is_given_at_two_sizes(checkpoint, tmp_path):
    """160 snapshots of a model of 1.4 MB, in stacks of what fits and all at once."""
    base, runs = tmp_path / "base", tmp_path / "runs"
    shutil.copytree(checkpoint, base)
    runs.mkdir()
    model = Olmo(Architecture(2, 2, 128, 256, context=32, vocabulary=96)).initialise(0)
    save_checkpoint(model, base, load_encoder(checkpoint).end_of_text)
    snapshots = [Snapshot(1e-4 * i, 0, 4, ("best", "last")) for i in range(1, 161)]
    changes = {
        name: torch.full((160, *p.shape), 1e-3, dtype=torch.bfloat16)
        for name, p in model.named_parameters()
    }
    save_snapshots(snapshots, changes, runs / "000.safetensors")
    widths = []
    for megabytes in (600, 1000):
        script = [sys.executable, "-c", EVALUATION_OF_A_SIZE]
        done = subprocess.run(
            [*script, base, runs, str(megabytes)],
            env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        width, rows, peak = map(int, done.stdout.split()[-3:])
        assert rows == 2 * (1 + 2 * 160)  # loss and perplexity of the base, and of best and last
        # Pages of the mapped file count as resident until the kernel takes them back.
        assert peak - (runs / "000.safetensors").stat().st_size // 2**20 <= megabytes
        widths.append(width)
    assert 1 < widths[0] < 160 < widths[1]

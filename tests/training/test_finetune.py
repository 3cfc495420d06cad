"""Fine-tuning: each run of a stack is the run it would be alone, and what is kept of it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from overtrain import PipelineError
from overtrain.data.tasks import read_split
from overtrain.data.tokenizer import SYMBOLS, load_encoder
from overtrain.model.architecture import IGNORE, Architecture
from overtrain.model.dropout import Rates
from overtrain.model.examples import Examples, encode_choices, encode_texts, right_answers
from overtrain.model.losses import TaskSplit
from overtrain.model.memory import Room, in_use, stack_width
from overtrain.model.olmo import (
    Olmo,
    load_checkpoint,
    load_tensors,
    read_architecture,
    save_checkpoint,
)
from overtrain.model.snapshots import load_stacks
from overtrain.training.finetune import Recipe, Run, Stack, Task, by_length, finetune
from overtrain.training.schedule import fraction
from overtrain.training.sweep_states import SweepFolders

NEVER = 1e9  # minutes between states
CPU = torch.device("cpu")
IDENTITY = {"model": "tiny", "task": "a task"}
RECIPE = Recipe(
    name="default",
    learning_rates=[1e-3, 4e-3, 1e-2],
    seeds=[0, 1],
    batch_size=8,
    epochs=3,
    scheduler="cosine",
    warmup=0.1,
    weight_decay=0.1,
    betas=(0.9, 0.95),
    clip=1.0,
)
DROPOUT = Rates(attention=0.1, embedding=0.1, residual=0.1)
PLENTY = Room(CPU, memory=10**11, batch_tokens=4096)
WIDE = replace(PLENTY, batch_tokens=10**6)
KINDS = ["language_modelling", "classification"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def task_of(language_task, choice_task) -> Callable[[str], Path]:
    return dict(zip(KINDS, (language_task, choice_task), strict=True)).__getitem__


def sweep(base: Path, task: Path, kind: str, recipe: Recipe, output: Path, room=PLENTY):
    """Measurement rows, and the weights of every snapshot by (learning rate, seed, selection)."""
    folders = SweepFolders(output, output.with_name(f"{output.name}.state"), {}, NEVER)
    rows = finetune(base, Task(task, kind, "answer"), recipe, room, IDENTITY, folders)
    found = {}
    for snapshots, model in load_stacks(base, output, 100, CPU):
        for r, snapshot in enumerate(snapshots):
            weights = {name: p[r].detach() for name, p in model.named_parameters()}
            for selection in snapshot.selections:
                found[snapshot.learning_rate, snapshot.seed, selection] = weights, snapshot.epoch
    return rows, found


def trained(base, task: Path, kind: str, recipe: Recipe, runs: list[Run], loss_on="answer"):
    """Rows, and the weights (runs, out, in) in float32 after the last epoch of one stack."""
    a, encoder = read_architecture(base), load_encoder(base)
    split = read_split(task, "train", kind)
    if kind == "language_modelling":
        examples = encode_texts(split, encoder, a.context)
    else:
        examples = right_answers(encode_choices(split, encoder, a.context), loss_on)
    validation = TaskSplit(task, "validation", kind, encoder, a.context)
    stack = Stack(a, load_tensors(base), runs, recipe, IDENTITY["task"], WIDE)
    rows = stack.train(examples, validation, IDENTITY, tqdm(disable=True), lambda _: None)
    return rows, {name: p.detach() for name, p in stack.model.named_parameters()}


def runs_of(recipe: Recipe) -> list[Run]:
    return [Run(rate, seed) for seed in recipe.seeds for rate in recipe.learning_rates]


def values(rows: list[dict], metric: str, **identity: object) -> list[float]:
    chosen = [r for r in rows if r["metric"] == metric and identity.items() <= r.items()]
    return [row["value"] for row in chosen]


# --- a run of a stack -----------------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [Rates(), DROPOUT], ids=["plain", "dropout"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_run_of_a_stack_is_the_run_it_would_be_alone(kind, dropout, checkpoint, task_of):
    recipe = replace(RECIPE, dropout=dropout)
    runs = runs_of(recipe)
    rows, together = trained(checkpoint, task_of(kind), kind, recipe, runs)
    start = load_tensors(checkpoint)
    for r, run in enumerate(runs):
        own = {"learning_rate": run.learning_rate, "seed": run.seed}
        rows_alone, alone = trained(checkpoint, task_of(kind), kind, recipe, [run])
        for name, tensor in alone.items():
            assert (together[name][r] - tensor[0]).abs().max() < 1e-5, (run, name)
            assert (together[name][r] - start[name]).abs().max() > run.learning_rate / 2
        expected = values(rows_alone, "loss")
        assert len(expected) == recipe.epochs
        assert values(rows, "loss", **own) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "loss_on"), [(KINDS[0], "all"), (KINDS[1], "answer"), (KINDS[1], "all")]
)
def test_a_run_is_what_a_plain_loop_with_torchs_adamw_makes(kind, loss_on, checkpoint, task_of):
    """One sequence at a time: nothing padded, stacked or flat."""
    run = Run(4e-3, 1)
    recipe = replace(RECIPE, dropout=Rates())
    _, found = trained(checkpoint, task_of(kind), kind, recipe, [run], loss_on)

    rows = pq.read_table(task_of(kind) / "train.parquet").to_pylist()
    if kind == "language_modelling":
        texts = [(row["text"][0], row["text"][1:] + "\n") for row in rows]
    else:
        texts = [("\n" + row["prompt"], row["choices"][row["label"]]) for row in rows]
    if loss_on == "all":
        texts = [(given[0], given[1:] + wanted) for given, wanted in texts]
    model = load_checkpoint(checkpoint)
    peaks = [4e-3 * model.architecture.lr_multiplier(n) for n, _ in model.named_parameters()]
    groups = [
        {"params": [p], "weight_decay": 0.1 * 4e-3 / peak}
        for p, peak in zip(model.parameters(), peaks, strict=True)
    ]
    adamw = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    order = Stack(model.architecture, load_tensors(checkpoint), [run], recipe, "a task", WIDE)
    step, steps = 0, 9  # 20 examples in batches of 8 make 3 steps, 3 times
    for epoch in (1, 2, 3):
        for chosen in order.batches(len(texts), epoch):
            losses = []
            for given, wanted in (texts[i] for i in chosen[0]):
                ids = torch.tensor([[SYMBOLS.index(symbol) for symbol in (given + wanted)[:33]]])
                losses.append(model.losses(ids[:, :-1], ids[:, 1:])[0, len(given) - 1 :])
            adamw.zero_grad()
            torch.cat(losses).mean().backward()
            clip_grad_norm_(model.parameters(), 1.0)
            for group, peak in zip(adamw.param_groups, peaks, strict=True):
                group["lr"] = peak * fraction("cosine", step, steps, 0.1)
            adamw.step()
            step += 1
    assert step == steps
    for name, parameter in model.named_parameters():
        assert (found[name][0] - parameter).abs().max() < 1e-5, name


def test_learning_rates_of_a_seed_share_the_order_and_seeds_and_epochs_do_not(checkpoint):
    a = read_architecture(checkpoint)
    stack = Stack(a, load_tensors(checkpoint), runs_of(RECIPE), RECIPE, "a task", WIDE)
    epochs = [list(stack.batches(20, epoch)) for epoch in (1, 2)]
    assert [batch.shape for batch in epochs[0]] == [(2, 8), (2, 8), (2, 4)]  # a row a seed
    first, second = (np.concatenate(batches, axis=1) for batches in epochs)
    assert (np.sort(first, axis=1) == np.arange(20)).all()  # each example once
    assert (first[0] != first[1]).any() and (first[0] != second[0]).any()


def test_dropout_is_drawn_for_each_run(checkpoint, language_task):
    recipe = replace(RECIPE, dropout=DROPOUT)
    runs = [Run(4e-3, 0), Run(4e-3 * (1 + 1e-7), 0)]  # equal in float32; other masks
    assert np.float32(runs[0].learning_rate) == np.float32(runs[1].learning_rate)
    for rates, equal in ((Rates(), True), (DROPOUT, False)):
        recipe = replace(RECIPE, dropout=rates)
        _, weights = trained(checkpoint, language_task, KINDS[0], recipe, runs)
        head = weights["lm_head.weight"]
        assert torch.equal(head[0], head[1]) == equal


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_diverges_is_recorded_and_leaves_the_others_as_they_were(
    kind, checkpoint, task_of, tmp_path
):
    recipe = replace(RECIPE, seeds=[0], learning_rates=[1e-3, 2e-3, 4e-3])
    healthy, kept = sweep(checkpoint, task_of(kind), kind, recipe, tmp_path / "healthy")
    recipe = replace(recipe, learning_rates=[1e-3, 1e6, 4e-3])
    rows, found = sweep(checkpoint, task_of(kind), kind, recipe, tmp_path / "beside")
    for rate in (1e-3, 4e-3):
        own = {"learning_rate": rate}
        for metric in ("loss", "perplexity", "l2_distance"):
            expected = pytest.approx(values(healthy, metric, **own), rel=1e-6)
            assert values(rows, metric, **own) == expected
        assert not any(row["diverged"] for row in rows if row["learning_rate"] == rate)
        for selection in ("best", "last"):
            expected, epoch = kept[rate, 0, selection]
            weights, own_epoch = found[rate, 0, selection]
            assert own_epoch == epoch
            for name in expected:  # kept in 8 bits of precision
                torch.testing.assert_close(weights[name], expected[name], rtol=2**-8, atol=1e-6)
    broken = [row for row in rows if row["learning_rate"] == 1e6]
    assert {row["epoch"] for row in broken} == {1, 2, 3}
    for row in broken:
        assert row["diverged"] and np.isnan(row["value"]), row
    assert found[1e6, 0, "best"][1] == 1 and found[1e6, 0, "last"][1] == 3
    assert not torch.isfinite(found[1e6, 0, "last"][0]["lm_head.weight"]).any()


def test_a_run_that_diverges_leaves_the_stack_at_the_end_of_its_epoch(checkpoint, language_task):
    recipe = replace(RECIPE, seeds=[0], learning_rates=[1e-3, 1e6, 4e-3], dropout=DROPOUT)
    a, encoder = read_architecture(checkpoint), load_encoder(checkpoint)
    examples = encode_texts(read_split(language_task, "train", KINDS[0]), encoder, a.context)
    validation = TaskSplit(language_task, "validation", KINDS[0], encoder, a.context)
    stack = Stack(a, load_tensors(checkpoint), runs_of(recipe), recipe, "a task", WIDE)
    sizes = []
    step = stack.step
    stack.step = lambda *args: (step(*args), sizes.append(len(stack.optimizer.weights)))
    stack.train(examples, validation, IDENTITY, tqdm(disable=True), lambda _: None)
    assert sizes == [3] * 3 + [2] * 6 and list(stack.going) == [0, 2]
    recipe = replace(recipe, learning_rates=[1e6])  # and all of a stack may leave
    rows, _ = trained(checkpoint, language_task, KINDS[0], recipe, [Run(1e6, 0)])
    assert all(row["diverged"] for row in rows) and {row["epoch"] for row in rows} == {1, 2, 3}


# --- the sweep ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(checkpoint, choice_task, tmp_path_factory):
    """A sweep in one stack, at a constant rate so high that some runs get worse again."""
    recipe = replace(RECIPE, learning_rates=[1e-3, 1e-2, 3e-1], scheduler="constant", epochs=4)
    output = tmp_path_factory.mktemp("runs") / "whole"
    return recipe, output, *sweep(checkpoint, choice_task, KINDS[1], recipe, output)


def test_several_stacks_give_the_snapshots_of_one(
    whole, checkpoint, choice_task, tmp_path, monkeypatch
):
    recipe, output, rows, expected = whole
    assert len(list(output.iterdir())) == 1
    monkeypatch.setattr("overtrain.training.finetune.stack_width", lambda *_: 2)
    own_rows, found = sweep(checkpoint, choice_task, KINDS[1], recipe, tmp_path / "runs")
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == ["000.safetensors", "001.safetensors", "002.safetensors"]
    assert list(found) == list(expected) and len(found) == 13  # base, 6 x (best, last)
    for key, (weights, epoch) in expected.items():
        assert found[key][1] == epoch
        for name, tensor in weights.items():
            # Norms: Adam turns a gradient that is all rounding into a whole step, so that single
            # weights differ by more on some machines.
            difference = (found[key][0][name] - tensor).norm()
            assert difference <= 2**-10 * tensor.norm() + 1e-6
    by_run = {"metric", "learning_rate", "seed", "epoch", "selection", "split"}

    def key(row: dict) -> tuple[str, ...]:
        return tuple(str(row.get(name)) for name in sorted(by_run))

    for own, row in zip(sorted(own_rows, key=key), sorted(rows, key=key), strict=True):
        assert key(own) == key(row)
        assert own["value"] == pytest.approx(row["value"], rel=1e-3)


def test_the_best_epoch_is_the_lowest_on_validation_and_the_last_is_kept_too(
    whole, checkpoint, choice_task
):
    recipe, _, rows, found = whole
    encoder = load_encoder(checkpoint)
    validation = TaskSplit(choice_task, "validation", KINDS[1], encoder, 32)
    bests = []
    for run in runs_of(recipe):
        own = {"learning_rate": run.learning_rate, "seed": run.seed}
        losses = values(rows, "loss", **own)
        assert len(losses) == recipe.epochs
        best, last = found[*own.values(), "best"], found[*own.values(), "last"]
        assert best[1] == 1 + np.argmin(losses) and last[1] == recipe.epochs
        bests.append(best[1])
        for weights, epoch in (best, last):
            model = load_checkpoint(checkpoint, runs=1).load(weights)
            loss = validation.score(model, 512).loss[0]
            assert loss == pytest.approx(losses[epoch - 1], abs=2e-3)
    assert min(bests) < recipe.epochs == max(bests)  # both cases occur


def test_the_distance_is_the_norm_of_the_change_of_all_weights(whole, checkpoint):
    recipe, _, rows, found = whole
    base = load_tensors(checkpoint)
    distances = []
    for run in runs_of(recipe):
        for selection in ("best", "last"):
            weights, epoch = found[run.learning_rate, run.seed, selection]
            change = torch.cat([(weights[name] - base[name]).flatten() for name in base])
            own = {"learning_rate": run.learning_rate, "seed": run.seed, "epoch": epoch}
            recorded = values(rows, "l2_distance", selection=selection, **own)
            assert recorded == [pytest.approx(change.norm().item(), rel=1e-4)]
            distances += recorded
    assert max(distances) > 3 * min(distances) > 0


@pytest.mark.parametrize("width", [1, 3, 100])
def test_stacks_are_rebuilt_as_base_and_change_with_the_base_first(whole, checkpoint, width):
    output = whole[1]
    base = load_tensors(checkpoint)
    with safe_open(output / "000.safetensors", "pt") as file:
        described = json.loads(file.metadata()["snapshots"])
        changes = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert {change.dtype for change in changes.values()} == {torch.bfloat16}
    stacks = list(load_stacks(checkpoint, output, width, CPU))
    sizes = [len(snapshots) for snapshots, _ in stacks]
    assert max(sizes[1:], default=0) <= width and sum(sizes) == 1 + len(described)
    snapshots, members = [], []
    for own, model in stacks:
        snapshots += own
        assert model.runs == len(own)
        members += [{n: p[r] for n, p in model.named_parameters()} for r in range(len(own))]
    assert (snapshots[0].selections, snapshots[0].learning_rate) == (("base",), 0.0)
    for name, tensor in base.items():
        assert torch.equal(members[0][name], tensor)
        for i, member in enumerate(members[1:]):
            assert torch.equal(member[name], tensor + changes[name][i].float())
    assert [snapshot.epoch for snapshot in snapshots[1:]] == [d["epoch"] for d in described]


def test_missing_or_foreign_runs_are_one_clear_line(whole, checkpoint, tmp_path):
    with pytest.raises(PipelineError, match="no fine-tuned weights; run the sweep again"):
        next(load_stacks(checkpoint, tmp_path, 1, CPU))
    shallow = tmp_path / "shallow"
    shallow.mkdir()
    config = json.loads((checkpoint / "config.json").read_text()) | {"num_hidden_layers": 1}
    (shallow / "config.json").write_text(json.dumps(config))
    (shallow / "model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    with pytest.raises(PipelineError, match=r"its tensors are not those of .*shallow"):
        next(load_stacks(shallow, whole[1], 1, CPU))


def test_a_sweep_that_fails_leaves_no_output(checkpoint, language_task, tmp_path):
    recipe = replace(RECIPE, scheduler="linear")
    with pytest.raises(ValueError, match="linear"):
        sweep(checkpoint, language_task, KINDS[0], recipe, tmp_path / "runs")
    assert [path.name for path in tmp_path.iterdir()] == ["runs.state"]


# --- stopped and continued ------------------------------------------------------------------------

# One of three runs leaves its stack after an epoch; masks are drawn.
WILD = replace(RECIPE, learning_rates=[1e-3, 1e6, 4e-3], dropout=DROPOUT)


def made(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "runs").iterdir()}


def attempt(base: Path, task: Path, folder: Path, room=PLENTY, minutes=NEVER, data="hash"):
    folders = SweepFolders(folder / "runs", folder / "state", {"train": data}, minutes)
    return finetune(base, Task(task, KINDS[1], "answer"), WILD, room, IDENTITY, folders)


@pytest.mark.parametrize("every", [1, 2, 5])
def test_a_sweep_asked_to_end_after_any_step_ends_bit_identical(
    every, checkpoint, choice_task, tmp_path, monkeypatch
):
    """Two stacks of nine steps; each attempt is sent SIGTERM in its step `every`."""
    monkeypatch.setattr("overtrain.training.finetune.stack_width", lambda *_: 3)
    expected = attempt(checkpoint, choice_task, tmp_path / "whole")
    step, taken = Stack.step, []

    def interrupted(stack: Stack, *arguments: object) -> None:
        step(stack, *arguments)
        taken.append(len(stack.going))
        if len(taken) % every == 0:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Stack, "step", interrupted)
    for asked in range(every, 18, every):
        line = f"^asked to end at step {asked} of 18; the next attempt goes on from there$"
        with pytest.raises(PipelineError, match=line):
            attempt(checkpoint, choice_task, tmp_path)
        assert not (tmp_path / "runs").exists()
    rows = attempt(checkpoint, choice_task, tmp_path)
    assert taken == ([3] * 3 + [2] * 6) * 2  # no step twice
    np.testing.assert_equal(rows, expected)
    assert made(tmp_path) == made(tmp_path / "whole")
    assert not list((tmp_path / "state").glob("*.pt"))


SWEEP = """
import sys
from pathlib import Path
import torch
from test_finetune import PLENTY, attempt, replace
torch.set_num_threads(1)
base, task, folder = map(Path, sys.argv[1:])
attempt(base, task, folder, replace(PLENTY, memory=0), 0.0)
"""


def test_a_stack_that_was_finished_before_a_kill_is_not_trained_again(
    checkpoint, choice_task, tmp_path, capsys
):
    """Without memory a stack is one run, so there are six."""
    alone = replace(PLENTY, memory=0)
    expected = attempt(checkpoint, choice_task, tmp_path / "whole", alone)
    command = [sys.executable, "-c", SWEEP, checkpoint, choice_task, tmp_path]
    paths = os.pathsep.join(map(str, (ROOT / "scripts", ROOT / "tests", Path(__file__).parent)))
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}) as process:
        while not (tmp_path / "state/001.safetensors").exists() and process.poll() is None:
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    done = {p: p.stat().st_mtime_ns for p in (tmp_path / "state").glob("*.safetensors")}
    assert 2 <= len(done) < 6
    capsys.readouterr()
    rows = attempt(checkpoint, choice_task, tmp_path, alone)
    said = capsys.readouterr().out
    for number in range(6):
        line = f"stack {number + 1} of 6 was trained by an earlier attempt"
        assert (line in said) == (number < len(done))
    assert {path: path.stat().st_mtime_ns for path in done} == done
    np.testing.assert_equal(rows, expected)
    assert made(tmp_path) == made(tmp_path / "whole")


def test_more_memory_keeps_the_stacks_of_an_attempt_and_less_begins_anew(
    checkpoint, choice_task, tmp_path, capsys
):
    alone = replace(PLENTY, memory=0)
    kept = attempt(checkpoint, choice_task, tmp_path, alone)
    said = [capsys.readouterr().out]
    np.testing.assert_equal(attempt(checkpoint, choice_task, tmp_path), kept)
    said.append(capsys.readouterr().out)
    attempt(checkpoint, choice_task, tmp_path, data="of another task")
    said.append(capsys.readouterr().out)
    attempt(checkpoint, choice_task, tmp_path, alone, data="of another task")
    said.append(capsys.readouterr().out)
    assert [text.count("by an earlier attempt") for text in said] == [0, 6, 0, 0]
    assert ["is discarded" in text for text in said] == [False, False, True, True]
    assert [len(re.findall(r"in stacks of at most 1\n", text)) for text in said] == [1, 1, 0, 1]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount a small disk")
def test_a_full_disk_is_one_clear_line(checkpoint, choice_task, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no permission to mount")
    try:
        line = f"no space left on the disk that holds {disk / 'state'}; free some, run again"
        with pytest.raises(PipelineError, match=f"^{re.escape(line)}$"):
            attempt(checkpoint, choice_task, disk, minutes=0)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- padding --------------------------------------------------------------------------------------


def test_a_batch_is_taken_apart_by_length_only_where_that_saves_a_fifth():
    lengths = np.array([10, 100, 12, 11, 98, 9, 13, 97])
    chosen = np.stack([np.arange(8), np.arange(8)[::-1]])
    parts = by_length(chosen, lengths, 10**6)
    assert [(part.shape, lengths[part].max()) for part in parts] == [((2, 4), 12), ((2, 4), 100)]
    for row in range(2):
        own = np.concatenate([part[row] for part in parts])
        assert sorted(own) == list(range(8)) and sorted(lengths[own]) == list(lengths[own])
    lengths[[1, 4, 7]] = [100, 30, 100]
    assert [part.shape[1] for part in by_length(chosen, lengths, 10**6)] == [4, 1, 1, 2]
    (whole,) = by_length(chosen, np.full(8, 50), 10**6)
    assert whole.shape == chosen.shape
    parts = by_length(chosen, np.full(8, 50), 100)  # and so that a pass has 100 tokens of a run
    assert [part.shape for part in parts] == [(2, 2)] * 4


def test_taking_a_batch_apart_changes_no_step(checkpoint, monkeypatch):
    """Sequences of 4 to 32 tokens, targets on some: whole and apart give the same weights."""
    draw = np.random.default_rng(0)
    lengths = np.where(draw.random(24) < 0.7, draw.integers(4, 9, 24), 32)
    inputs = draw.integers(0, 96, (24, 32))
    targets = np.where(np.arange(32) < lengths[:, None], draw.integers(0, 96, (24, 32)), IGNORE)
    targets[:, :3] = IGNORE
    examples = Examples(inputs, targets, lengths)
    ends = []
    for split in (by_length, lambda chosen, lengths, tokens: [chosen]):
        monkeypatch.setattr("overtrain.training.finetune.by_length", split)
        a = read_architecture(checkpoint)
        stack = Stack(a, load_tensors(checkpoint), runs_of(RECIPE), RECIPE, "a task", WIDE)
        for chosen in stack.batches(24, 1):
            stack.step(examples, chosen, 1.0)
        ends.append(stack.optimizer.weights.clone())
    assert len(by_length(next(stack.batches(24, 1)), lengths, 10**6)) > 1
    start = Stack(a, load_tensors(checkpoint), runs_of(RECIPE), RECIPE, "a task", WIDE).base
    assert (ends[0] - start).norm() > 0.01
    assert (ends[0] - ends[1]).norm() < 1e-4 * (ends[0] - start).norm()


# --- memory ---------------------------------------------------------------------------------------

MEBIBYTE = 2**20


def test_as_many_members_as_memory_allows_in_equal_stacks():
    """A member takes 24 MB, a stack 40 more: room for 5 makes 13 members three stacks of 5."""

    def work(members: int) -> None:
        np.ones((40 + 24 * members) * MEBIBYTE // 8)

    def width(room: int, members: int, least: int = 0) -> int:
        memory = in_use(CPU) + (40 + 24 * room + 12) * MEBIBYTE
        return stack_width(work, members, memory, least, CPU)

    assert width(5, 13) == 5
    assert width(8, 9) == 5  # 5 and 4, not 8 and 1
    assert width(100, 13) == 13
    assert width(0, 13) == 1 and width(5, 1) == 1
    assert width(20, 20, least=200 * MEBIBYTE) < 5  # a member is never taken for smaller


SWEEP_OF_A_SIZE = """
import sys
from pathlib import Path
import torch
from overtrain.model.allocator import keep_freed_memory
from overtrain.training.finetune import Recipe, Task, finetune
from overtrain.training.sweep_states import SweepFolders
from overtrain.model import memory
peaks, measured = [], memory.peak  # each probe counts the peak anew: keep all of them
memory.peak = lambda *args: peaks.append(measured(*args)) or peaks[-1]
torch.set_num_threads(1)
keep_freed_memory()
base, task, output, megabytes = sys.argv[1:]
rates = [1e-4 * i for i in range(1, 41)]
recipe = Recipe("default", rates, [0, 1], 16, 1, "cosine", 0.1, 0.0, (0.9, 0.95), 1.0)
room = memory.Room(torch.device("cpu"), int(0.8 * int(megabytes) * 2**20), 4096)
task = Task(Path(task), "language_modelling")
folders = SweepFolders(Path(output), Path(output + ".state"), {}, 0.01)
finetune(Path(base), task, recipe, room, {"task": "a"}, folders)
print("peak", max(memory.resident("VmHWM"), *peaks) // 2**20)
"""


@pytest.mark.slow
def test_a_sweep_stays_in_the_memory_it_is_given_at_two_sizes(language_task, checkpoint, tmp_path):
    """80 runs of a model of 350,000 parameters: 7 MB of weights and moments a run, and more."""
    base = tmp_path / "base"
    shutil.copytree(checkpoint, base)
    wide = Architecture(2, 2, 128, 256, context=32, vocabulary=96)
    save_checkpoint(Olmo(wide).initialise(0), base, load_encoder(checkpoint).end_of_text)
    widths = []
    for megabytes in (600, 1000):
        command = [sys.executable, "-c", SWEEP_OF_A_SIZE, base, language_task]
        done = subprocess.run(
            [*command, tmp_path / str(megabytes), str(megabytes)],
            env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        widths.append(int(re.search(r"stacks of at most (\d+)", done.stdout)[1]))
        peak = int(re.search(r"peak (\d+)", done.stdout)[1])
        assert 0.5 * megabytes < peak <= megabytes
    assert widths[0] < widths[1] < 80

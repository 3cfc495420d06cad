"""Pre-training: what a checkpoint holds and depends on; a killed job ends as if it had not been."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from overtrain import PipelineError
from overtrain.data import corpora, tokenizer
from overtrain.data.corpora import MANIFEST, Corpus, ordered_windows
from overtrain.model.dropout import Rates
from overtrain.model.olmo import Olmo
from overtrain.records.provenance import seed_of, whole_folder
from overtrain.training import pretrain as module
from overtrain.training.pretrain import Pretraining, Workers, pretrain
from overtrain.training.states import load_state

LIBRARY = Path(module.__file__).parents[2]
NEVER = 1e9  # minutes between states


@pytest.fixture(scope="module")
def short(pretraining) -> Pretraining:
    """A dozen steps, with dropout."""
    return replace(pretraining, tokens=12 * 8 * 32, dropout=Rates(0.1, 0.1, 0.1))


def train(job: Pretraining, corpus: Path, folder: Path, workers: Workers | None = None) -> Path:
    workers = workers or Workers(micro_batch=8, state_minutes=NEVER)
    pretrain(job, workers, corpus, folder / "out", folder / "state", {"seed": job.seed})
    return folder / "out"


def curve(checkpoint: Path) -> dict[str, list[float]]:
    return pq.read_table(checkpoint / "loss.parquet").to_pydict()


def contents(checkpoint: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in checkpoint.iterdir()}


# --- the result -----------------------------------------------------------------------------------


def test_a_checkpoint_is_a_hugging_face_directory_with_its_curve_and_origin(
    checkpoint, corpus, pretraining
):
    assert sorted(path.name for path in checkpoint.iterdir()) == [
        "config.json",
        "loss.parquet",
        "model.safetensors",
        "mup.json",
        "provenance.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert json.loads((checkpoint / "provenance.json").read_text()) == {"seed": 0}
    assert (checkpoint / "tokenizer.json").read_bytes() == (corpus / "tokenizer.json").read_bytes()
    state = checkpoint.parent / "state"  # of the last step
    assert sorted(path.name for path in state.iterdir()) == ["identity.json", "state.pt"]
    assert saved_step(state) == 80
    found = curve(checkpoint)
    assert found["tokens"] == [(step + 1) * 8 * 32 for step in range(pretraining.steps)]
    assert found["learning_rate"][7] == pytest.approx(1e-2)  # after 10 % of 80 steps
    assert found["learning_rate"][-1] == pytest.approx(0, abs=1e-12)
    assert found["loss"][0] > np.log(96) and np.mean(found["loss"][-5:]) < 3.2


def test_the_same_job_gives_the_same_bytes(short, corpus, tmp_path):
    first = contents(train(short, corpus, tmp_path / "first"))
    assert first == contents(train(short, corpus, tmp_path / "second"))
    other = contents(train(replace(short, seed=1), corpus, tmp_path / "other"))
    assert other["model.safetensors"] != first["model.safetensors"]


def test_a_batch_in_parts_is_the_batch(short, corpus, tmp_path):
    job = replace(short, dropout=Rates())
    whole = load_file(train(job, corpus, tmp_path / "whole") / "model.safetensors")
    workers = Workers(micro_batch=3, state_minutes=NEVER)
    parts = load_file(train(job, corpus, tmp_path / "parts", workers) / "model.safetensors")
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=0, atol=1e-5)


def test_a_smaller_budget_starts_alike_and_sees_a_prefix_of_the_data(short, corpus, tmp_path):
    """Without a learning rate the curve is the loss of the initial weights on each batch."""
    job = replace(short, learning_rate=0.0, weight_decay=0.0, dropout=Rates())
    small = train(job, corpus, tmp_path / "small")
    large = train(replace(job, tokens=2 * job.tokens), corpus, tmp_path / "large")
    losses = curve(large)["loss"]
    assert losses[:12] == curve(small)["loss"]
    assert len(set(losses)) == 24  # no batch twice
    start = Olmo(job.architecture).initialise(seed_of("initial weights", "tiny", 0))
    for name, tensor in load_file(small / "model.safetensors").items():
        assert torch.equal(tensor, start.get_parameter(name).detach())

    windows = Corpus(corpus).windows("train", 32)
    rows = ordered_windows(windows, seed_of("data order", "stories", 0), print)
    batch = torch.from_numpy(rows(11 * 8, 8))
    assert losses[11] == pytest.approx(start.losses(batch[:, :-1], batch[:, 1:]).mean().item())
    other = train(replace(job, seed=1), corpus, tmp_path / "seed")
    assert not set(curve(other)["loss"]) & set(losses)


def test_a_curve_has_some_two_hundred_points_each_the_mean_since_the_last(short, corpus, tmp_path):
    job = replace(short, learning_rate=0.0, weight_decay=0.0, dropout=Rates(), tokens=403 * 2 * 32)
    job = replace(job, batch_size=2)
    found = curve(train(job, corpus, tmp_path / "pairs"))
    assert found["tokens"][:3] == [128, 256, 384]
    assert found["tokens"][-2:] == [402 * 64, 403 * 64]  # the last one is a single step
    quarter = replace(job, tokens=100 * 2 * 32)
    steps = curve(train(quarter, corpus, tmp_path / "steps"))["loss"]
    means = np.array(steps).reshape(50, 2).mean(axis=1)
    assert found["loss"][:50] == pytest.approx(means)


# --- killed and continued -------------------------------------------------------------------------


def saved_step(state: Path) -> int:
    """The step of the last whole state, 0 before there is one."""
    return (load_state(state / "state.pt") or {"step": 0})["step"]


SCRIPT = """
import json, sys, torch
from pathlib import Path
from overtrain import PipelineError
from overtrain.training.pretrain import Workers, Pretraining, pretrain

job, corpus, folder, workers = sys.argv[1:]
torch.set_num_threads(1)
job, folder = Pretraining.from_config(json.loads(job)), Path(folder)
workers = Workers(**json.loads(workers))
try:
    pretrain(job, workers, Path(corpus), folder / "out", folder / "state", {"seed": job.seed})
except PipelineError as error:
    sys.exit(f"error: {error}")
"""
EACH_STEP = Workers(micro_batch=8, state_minutes=0.0)
LAST_STEP = replace(EACH_STEP, state_minutes=NEVER)


def start(job: Pretraining, corpus: Path, folder: Path, workers: Workers) -> subprocess.Popen:
    """A process of the job's, and the leader of a group of them."""
    arguments = [json.dumps(asdict(job)), str(corpus), str(folder), json.dumps(asdict(workers))]
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        env=os.environ | {"PYTHONPATH": str(LIBRARY)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def train_and_kill(job: Pretraining, corpus: Path, folder: Path, step: int) -> int:
    """Kill -9 a process of the job's when a state of `step` is there; the last state's step."""
    with start(job, corpus, folder, EACH_STEP) as process:
        while saved_step(folder / "state") < step and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return saved_step(folder / "state")


@pytest.fixture(scope="module")
def killed(short, corpus, tmp_path_factory) -> tuple[Pretraining, Path]:
    """A job of 400 steps, two a point of the curve, killed after a quarter; and its folder."""
    job, folder = replace(short, tokens=400 * 8 * 32), tmp_path_factory.mktemp("killed")
    assert 101 <= train_and_kill(job, corpus, folder, step=101) < 250
    assert [path.name for path in folder.iterdir()] == ["state"]
    return job, folder


@pytest.mark.slow
def test_a_killed_job_continues_and_ends_bit_identical(killed, corpus, tmp_path, capsys):
    job, folder = killed
    expected = contents(train(job, corpus, tmp_path / "whole"))
    folder = shutil.copytree(folder, tmp_path / "killed")
    step = train_and_kill(job, corpus, folder, step=251)  # and again, of a job itself continued
    assert 251 <= step < job.steps
    capsys.readouterr()
    assert contents(train(job, corpus, folder)) == expected
    assert f"continuing from step {step}" in capsys.readouterr().out


@pytest.mark.slow
def test_a_job_asked_to_end_saves_its_step_and_goes_on(short, corpus, tmp_path, capsys):
    job = replace(short, tokens=4000 * 8 * 32)
    with start(job, corpus, tmp_path, replace(EACH_STEP, state_minutes=0.01)) as process:
        while not saved_step(tmp_path / "state"):
            time.sleep(0.01)
        process.terminate()
        said = process.stderr.read()
    step = saved_step(tmp_path / "state")
    line = f"error: asked to end at step {step} of 4000; the next attempt goes on from there"
    assert said.splitlines()[-1] == line and process.returncode == 1
    found = contents(train(job, corpus, tmp_path))
    assert f"continuing from step {step:,}\n" in capsys.readouterr().out
    assert found == contents(train(job, corpus, tmp_path / "whole"))


def test_no_step_is_done_twice_after_the_last(short, corpus, tmp_path, capsys):
    """The job dies before its checkpoint is written, then before it is recorded."""
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):  # at the end: its checkpoint's folder cannot be made
        pretrain(short, LAST_STEP, corpus, tmp_path / "file/out", tmp_path / "state", {"seed": 0})
    found = contents(train(short, corpus, tmp_path))
    shutil.rmtree(tmp_path / "out")
    assert contents(train(short, corpus, tmp_path)) == found
    said = capsys.readouterr()
    assert said.out.count(f"continuing from step {short.steps}\n") == 2
    assert said.err.count("0/12") == 1  # its bar, of the first attempt alone
    assert found == contents(train(short, corpus, tmp_path / "whole"))


@pytest.mark.slow
def test_a_state_of_other_settings_is_discarded(killed, short, corpus, tmp_path, capsys):
    folder = shutil.copytree(killed[1], tmp_path / "killed")
    expected = contents(train(short, corpus, tmp_path / "fresh"))
    assert contents(train(short, corpus, folder)) == expected
    assert "a state of other settings was found and is discarded" in capsys.readouterr().out


@pytest.mark.slow
def test_a_state_of_another_text_is_discarded(killed, tmp_path, capsys):
    """Equal settings, but the corpus of that name has been built anew from other text."""
    job, folder = killed
    folder = shutil.copytree(folder, tmp_path / "killed")
    encoder = tokenizer.characters()
    with whole_folder(tmp_path / "stories") as other:
        texts = [f"Page {number} of another book, and nothing else." for number in range(500)]
        shard = corpora.write_shards(texts, encoder, 10, other, "00000")
        corpora.write_manifest(other, encoder, [shard], {})
    train(job, tmp_path / "stories", folder)
    said = capsys.readouterr().out
    assert "is discarded" in said and "continuing" not in said


def test_a_half_written_state_of_a_killed_job_is_removed_by_the_next(short, corpus, tmp_path):
    found, state = contents(train(short, corpus, tmp_path)), tmp_path / "state"
    (state / ".state.pt.node-123.partial.pt").write_bytes(b"half")
    assert contents(train(short, corpus, tmp_path)) == found
    assert sorted(path.name for path in state.iterdir()) == ["identity.json", "state.pt"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount a small disk")
@pytest.mark.parametrize("gpus", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_full_disk_is_one_clear_line(short, corpus, tmp_path, gpus):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no permission to mount")
    try:
        line = f"no space left on the disk that holds {disk / 'state'}; free some, run again"
        with pytest.raises(PipelineError, match=f"^{re.escape(line)}$"):
            train(short, corpus, disk, replace(EACH_STEP, gpus=gpus))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- several processes ----------------------------------------------------------------------------

TWO = Workers(micro_batch=2, state_minutes=0.0, gpus=2)


@pytest.mark.slow
def test_two_processes_train_what_one_does(short, corpus, tmp_path):
    job = replace(short, dropout=Rates())  # masks differ by process
    one = train(job, corpus, tmp_path / "one")
    two = train(job, corpus, tmp_path / "two", TWO)
    assert curve(two)["tokens"] == curve(one)["tokens"]
    assert curve(two)["loss"] == pytest.approx(curve(one)["loss"], abs=1e-4)
    expected = load_file(one / "model.safetensors")
    for name, tensor in load_file(two / "model.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-4)
    assert sorted(contents(two)) == sorted(contents(one))


@pytest.mark.slow
def test_two_processes_asked_to_end_stop_at_one_step_and_go_on(short, corpus, tmp_path, capfd):
    """Asked as Slurm does: every process of the job at once. With masks that differ by process."""
    job = replace(short, tokens=2003 * 8 * 32)  # ten steps a point of the curve
    with start(job, corpus, tmp_path, TWO) as process:
        while saved_step(tmp_path / "state") < 103:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGTERM)
        said = process.stderr.read()
    step = saved_step(tmp_path / "state")
    line = f"error: asked to end at step {step} of 2003; the next attempt goes on from there"
    assert said.splitlines()[-1] == line and process.returncode == 1, said
    found = contents(train(job, corpus, tmp_path, replace(TWO, state_minutes=NEVER)))
    assert capfd.readouterr().out.count(f"continuing from step {step}\n") == 1
    workers = replace(TWO, state_minutes=NEVER)
    assert found == contents(train(job, corpus, tmp_path / "whole", workers))


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 1])  # while they import, and while they train
def test_two_processes_share_the_threads_and_end_with_the_one_that_started_them(
    short, corpus, tmp_path, step
):
    job = replace(short, tokens=100_000 * 8 * 32)
    with start(job, corpus, tmp_path, replace(TWO, threads=6)) as process:
        workers: list[psutil.Process] = []
        while len(workers) < 2 or saved_step(tmp_path / "state") < step:
            started = psutil.Process(process.pid).children(recursive=True)
            workers = [p for p in started if p.cmdline()[1:4] == ["-u", "-m", module.__name__]]
            time.sleep(0.01)
        assert [p.environ()["OMP_NUM_THREADS"] for p in workers] == ["3", "3"]
        process.kill()
        gone, alive = psutil.wait_procs(started, 60)
        for p in alive:
            p.kill()
    assert not alive and len(gone) >= 3  # torchrun's own, too


@pytest.mark.slow
def test_a_batch_that_processes_cannot_share_is_one_clear_line(short, corpus, tmp_path):
    with pytest.raises(PipelineError, match=r"^batch_size 5 is not divisible by 2 processes$"):
        train(replace(short, batch_size=5), corpus, tmp_path, TWO)


# --- what can be wrong ----------------------------------------------------------------------------


def test_a_vocabulary_too_small_for_the_corpus_is_one_clear_line(short, corpus, tmp_path):
    job = replace(short, architecture=replace(short.architecture, vocabulary=64))
    with pytest.raises(PipelineError, match="96 tokens; model tiny has 64") as error:
        train(job, corpus, tmp_path)
    assert "\n" not in str(error.value) and str(corpus) in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_loss_of_nan_stops_the_job_with_one_line(short, corpus, tmp_path):
    job = replace(short, learning_rate=float("inf"))
    with pytest.raises(PipelineError, match="tiny: the loss is nan at step 2") as error:
        train(job, corpus, tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_damaged_shard_is_named_before_training(short, corpus, tmp_path):
    broken = tmp_path / "corpus"
    broken.mkdir()
    for path in corpus.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    shard = (
        broken / json.loads((broken / MANIFEST).read_text())["splits"]["train"]["shards"][0]["file"]
    )
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(PipelineError, match=f"{shard.name}: has .* bytes"):
        train(short, broken, tmp_path)

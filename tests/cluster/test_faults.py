"""Faults on a real Slurm: nothing is lost, done twice or left running, and the bytes are the same.

Each starts from a copy in which the corpus, the task and the small checkpoint are there, and makes
what it is about of the large one.
"""

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from machine import Queued, slurm, until
from mains import Main, scripts, unlock

CHECKPOINT = "results/checkpoints/OLMo-10K/1M"
LOG = "results/logs/pretrain/OLMo-10K/1M.log"
WEIGHTS = f"{CHECKPOINT}/model.safetensors"
SWEEP = "results/measurements/OLMo-10K/0.05M/same_docstring/default"
MIDDLE = "%"  # a training's log has said how far it is


def same(folder: Path, finished: Path, *names: str) -> None:
    for name in names:
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name


def job_of(cluster, main: Main) -> Queued:
    (job,) = cluster.jobs(f"--name={main.run}", "--states=running")
    return job


def submitted(main: Main) -> int:
    return len(re.findall(r"has been submitted with SLURM jobid", main.said))


def test_a_script_that_is_killed_runs_again(begun, finished):
    main = Main(begun, CHECKPOINT)
    main.script("pretrain", MIDDLE).kill()
    main.succeeds()
    assert submitted(main) == 2
    same(begun, finished, WEIGHTS)


def test_a_sweep_that_is_trained_is_not_trained_again(begun, finished):
    """A later member of its group is killed: the group runs again, the training does not."""
    main = Main(begun, f"{SWEEP}/c4.parquet")
    evaluation = main.script("evaluate_id")
    trained = {path.stat().st_ino for path in kept(begun, "*")}
    evaluation.kill()
    main.succeeds()
    assert submitted(main) == 2
    same(begun, finished, *(f"{SWEEP}/{name}.parquet" for name in ("training", "id", "c4")))
    log = (begun / "results/logs/finetune/OLMo-10K/0.05M/same_docstring/default.log").read_text()
    assert trained and MIDDLE not in log, log


def kept(folder: Path, name: str) -> list[Path]:
    return [path for path in (folder / "results/state/kept").rglob(name) if path.is_file()]


@pytest.mark.parametrize("cancelled", [False, True], ids=["they end", "they are cancelled"])
def test_no_run_starts_beside_the_jobs_of_a_dead_main(begun, finished, cancelled):
    first = Main(begun, CHECKPOINT)
    script = first.script("pretrain", MIDDLE)
    script.suspend()  # or it may end too early
    first.kill()

    locked = Main(begun, CHECKPOINT)
    assert locked.ends() != 0 and "--unlock" in locked.said
    unlock(begun)
    refused = Main(begun, CHECKPOINT)
    assert refused.ends() != 0 and submitted(refused) == 0
    (line,) = [line for line in refused.said.splitlines() if line.startswith("error: ")]
    assert f"scancel --name={first.run}" in line
    assert script.is_running()  # nobody has disturbed it

    script.resume()
    if cancelled:
        slurm("scancel", f"--name={first.run}")
    until(lambda: not cluster_has(first.run), 120, "the orphan's end")
    trained = begun / WEIGHTS
    file = None if cancelled else trained.stat().st_ino
    second = Main(begun, CHECKPOINT)
    second.succeeds()
    same(begun, finished, WEIGHTS)
    assert cancelled or trained.stat().st_ino == file  # the orphan's, not trained again


def cluster_has(run: str) -> str:
    return slurm("squeue", "--noheader", f"--name={run}")


def test_a_second_main_does_not_start_beside_a_living_one(begun, finished):
    first = Main(begun, CHECKPOINT)
    first.script("pretrain", MIDDLE).suspend()
    with pytest.raises(AssertionError):
        unlock(begun)
    for lock in (begun / ".snakemake/locks").iterdir():
        lock.unlink()  # who does not listen
    second = Main(begun, CHECKPOINT)
    assert second.ends() != 0 and submitted(second) == 0
    assert f"process {first.process.pid} on " in second.said
    first.script("pretrain").resume()
    first.succeeds()
    assert submitted(first) == 1
    same(begun, finished, WEIGHTS)


def test_a_cancelled_job_is_submitted_again(begun, cluster, finished):
    main = Main(begun, CHECKPOINT)
    main.script("pretrain", MIDDLE)
    slurm("scancel", job_of(cluster, main).id)
    main.succeeds()
    assert submitted(main) == 2
    same(begun, finished, WEIGHTS)


def test_a_requeued_job_runs_again_under_its_id(begun, cluster, finished):
    main = Main(begun, CHECKPOINT)
    main.script("pretrain", MIDDLE)
    slurm("scontrol", "requeue", job_of(cluster, main).id)
    main.succeeds()
    assert submitted(main) == 1
    same(begun, finished, WEIGHTS)


def test_a_job_on_a_node_that_is_drained_ends_there(begun, cluster, finished):
    main = Main(begun, CHECKPOINT)
    main.script("pretrain", MIDDLE)
    job = job_of(cluster, main)
    slurm("scontrol", "update", f"NodeName={job.node}", "State=DRAIN", "Reason=test")
    try:
        main.succeeds()
    finally:
        slurm("scontrol", "update", f"NodeName={job.node}", "State=RESUME")
    assert submitted(main) == 1
    same(begun, finished, WEIGHTS)


def test_a_node_that_is_lost_runs_on_and_its_job_elsewhere_waits_for_it(begun, cluster, finished):
    """The controller gives the job to the other node; what it left behind is still writing."""
    main = Main(begun, CHECKPOINT)
    old = main.script("pretrain", MIDDLE)
    job = job_of(cluster, main)
    old.suspend()
    cluster.daemons[job.node].kill()
    try:
        until(lambda: len(scripts(begun, "pretrain")) == 2, 150, "the job on the other node")
        assert job_of(cluster, main).node != job.node
        log = begun / LOG
        waits = f"waiting for process {old.pid}"
        until(lambda: log.exists() and waits in log.read_text(), 60, "it to wait")
        old.resume()
        main.succeeds()
    finally:
        cluster.start_node(job.node)
        until(lambda: set(cluster.states().values()) == {"idle"}, 60, "the node back")
    assert submitted(main) == 1
    same(begun, finished, WEIGHTS)
    assert MIDDLE not in log.read_text()  # it took what the old one had made


def test_before_its_time_runs_out_a_training_saves_and_the_next_attempt_goes_on(
    begun, cluster, finished
):
    """As profiles/slurm asks, but 20 s before the limit and not minutes."""
    signal_early = "slurm_extra=--signal=TERM@20"
    limits = ("--set-resources", "pretrain:runtime=1", f"pretrain:{signal_early}")
    main = Main(begun, CHECKPOINT, options=limits)
    script = main.script("pretrain", MIDDLE)
    assert script.parent().name() == "bash"  # which gets the signal, too, and must wait
    script.suspend()  # it would end too early; Slurm wakes what it signals
    until(lambda: not script.is_running(), 75, "the signal")
    assert list((begun / "results/state/trainings").glob("*/*")), "nothing was saved"
    main.succeeds()
    assert submitted(main) == 2
    log = (begun / LOG).read_text()
    assert re.search(r"continuing from step [1-9]", log), log
    same(begun, finished, WEIGHTS)


def test_a_run_is_stopped_with_its_trainings_saved_and_goes_on(begun, cluster, finished):
    """The two commands of docs/cluster.md."""
    first = Main(begun, CHECKPOINT)
    first.script("pretrain", MIDDLE)
    first.process.terminate()
    slurm("scancel", "--signal=TERM", f"--name={first.run}")
    assert first.ends() != 0
    assert submitted(first) == 1 and not cluster.jobs()
    second = Main(begun, CHECKPOINT)
    second.succeeds()
    log = (begun / LOG).read_text()
    assert re.search(r"continuing from step [1-9]", log), log
    same(begun, finished, WEIGHTS)


def test_interrupted_from_the_keyboard_a_run_cancels_its_jobs(begun, cluster):
    main = Main(begun, CHECKPOINT)
    main.script("pretrain", MIDDLE)
    main.process.send_signal(signal.SIGINT)
    assert main.ends() != 0
    until(lambda: not cluster.jobs() and not scripts(begun, "pretrain"), 30, "the jobs' end")


def test_a_full_disk_is_told_on_the_terminal_and_when_there_is_room_the_run_goes_on(
    begun, finished, disk
):
    ballast = disk / "ballast"
    free = psutil.disk_usage(str(disk)).free
    ballast.write_bytes(bytes(free - 64 * 1024))
    main = Main(begun, CHECKPOINT, options=("--retries", "0"))
    assert main.ends() != 0
    last = main.said[-3000:]
    assert re.search(r"error: .*(No space left on device|no space left on the disk)", last), last
    ballast.unlink()
    main = Main(begun, CHECKPOINT)
    main.succeeds()
    same(begun, finished, WEIGHTS)


@pytest.fixture
def disk(begun) -> Iterator[Path]:
    """The results, on a disk of their own of 24 MB."""
    results, before = begun / "results", begun / "before"
    results.rename(before)
    results.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", results], check=True)
    try:
        shutil.copytree(before, results, dirs_exist_ok=True)
        yield results
    finally:
        subprocess.run(["umount", "--lazy", results], check=True)


def test_without_accounting_a_run_that_would_wait_in_silence_does_not_start(begun):
    main = Main(begun, CHECKPOINT, options=("--slurm-status-command", "sacct"))
    assert main.ends(60) != 0 and submitted(main) == 0
    (line,) = [line for line in main.said.splitlines() if line.startswith("error: ")]
    assert "slurm-status-command: squeue" in line

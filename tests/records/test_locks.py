"""One process at a time: over processes, and over the death of one."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from overtrain import PipelineError
from overtrain.records.locks import HeldError, exclusive

SCRIPTS = Path(__file__).parents[2] / "scripts"
HOLDER = """
import sys, time
from pathlib import Path
from overtrain.records.locks import exclusive
with exclusive(Path(sys.argv[1])):
    print("holding", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def holder(path: Path, seconds: float = 60, **environment: str) -> subprocess.Popen:
    """Another process that holds the lock, or waits for it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), str(seconds)],
        env={"PYTHONPATH": str(SCRIPTS)} | environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "holding\n"
    return process


def test_who_does_not_wait_learns_who_holds_it_and_how_to_end_that(tmp_path):
    path = tmp_path / "new" / "a.lock"
    process = holder(path, SLURM_JOB_ID="77")
    told = rf"process {process.pid} on \S+ \(Slurm job 77; `scancel 77`"
    with pytest.raises(HeldError, match=told), exclusive(path, wait=False):
        pass
    process.kill()
    process.wait()


def test_a_lock_is_released_by_death_and_its_file_does_not_matter(tmp_path):
    path = tmp_path / "a.lock"
    process = holder(path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert path.exists()  # nobody was left to remove it
    with exclusive(path, wait=False):
        pass
    assert not path.exists()


def test_who_waits_says_so_and_takes_it_over(tmp_path, capsys):
    path = tmp_path / "a.lock"
    process = holder(path, seconds=1.5)
    started = time.monotonic()
    with exclusive(path):
        assert process.wait(5) == 0  # which ended before
    assert time.monotonic() - started > 1
    out = capsys.readouterr().out
    assert f"waiting for process {process.pid} on " in out and "it has ended" in out


def test_never_two_at_a_time(tmp_path):
    """Eight processes add one to a number, each reading it before and writing it after a pause."""
    number = tmp_path / "number"
    number.write_text("0")
    code = HOLDER.replace(
        "    time.sleep(float(sys.argv[2]))",
        "    path = Path(sys.argv[2]); n = int(path.read_text())\n"
        "    time.sleep(0.02); path.write_text(str(n + 1))",
    ).replace("with exc", "from overtrain.records import locks; locks.POLL = 0.01\nwith exc")
    line = [sys.executable, "-c", code, str(tmp_path / "a.lock"), str(number)]
    environment = {"PYTHONPATH": str(SCRIPTS)}
    processes = [
        subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL) for _ in range(8)
    ]
    assert [process.wait(60) for process in processes] == [0] * 8
    assert number.read_text() == "8"


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    import errno
    import fcntl
    import os

    def none(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", none)
    told = "results/ must lie on a file system with flock"
    with pytest.raises(PipelineError, match=told), exclusive(tmp_path / "a.lock"):
        pass

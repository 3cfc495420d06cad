"""What is read out of Slurm's answers; tests/cluster asks a real one."""

import pytest

from overtrain import PipelineError, slurm

RUN = "f4403f51-0c7e-4c1d-9a44-3f1f0b5f8f11"
WITH = "AccountingStorageType   = accounting_storage/slurmdbd\nMinJobAge               = 300 sec\n"


@pytest.mark.parametrize("none", ["accounting_storage/none", "(null)"])
def test_without_accounting_only_squeue_hears_of_a_jobs_end(none):
    without = WITH.replace("accounting_storage/slurmdbd", none)
    fault = slurm.why_silent(without, "sacct", 40)
    assert "slurm-status-command: squeue" in fault and "profiles/slurm/config.yaml" in fault
    assert slurm.why_silent(without, "squeue", 40) is None
    assert slurm.why_silent(WITH, "sacct", 40) is None


@pytest.mark.parametrize(
    ("age", "first", "needed"),
    [(300, 40, None), (60, 40, 200), (199, 40, 200), (200, 40, None), (300, 120, 360)],
)
def test_ended_jobs_must_be_remembered_for_longer_than_the_longest_pause(age, first, needed):
    settings = f"AccountingStorageType = (null)\nMinJobAge = {age} sec\n"
    fault = slurm.why_silent(settings, "squeue", first)
    assert (fault is None) == (needed is None)
    assert fault is None or (f"after {age} s" in fault and f"at least {needed} s" in fault)


def test_only_jobs_of_runs_in_the_directory_count(tmp_path):
    here, other = tmp_path / "here", tmp_path / "other"
    here.mkdir()
    (tmp_path / "link").symlink_to(here)
    lines = [
        f"11|{RUN}|RUNNING|{here}",
        f"12|site_{RUN}|PENDING|{tmp_path}/link",
        f"13|{RUN}|RUNNING|{other}",
        f"14|interactive|RUNNING|{here}",
        f"15|{RUN}|RUNNING|{here}",
    ]
    jobs = slurm.jobs_of("\n".join(lines), here, own="15")
    assert [(job.id, job.run) for job in jobs] == [("11", RUN), ("12", f"site_{RUN}")]


def test_a_machine_without_slurm_has_nothing_to_say(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm.answer("squeue") is None
    slurm.check_jobs(tmp_path)
    slurm.check_accounting("sacct", 40)


def test_the_line_names_jobs_and_how_to_end_them(monkeypatch, tmp_path):
    listed = "".join(f"{n}|{RUN}|RUNNING|{tmp_path}\n" for n in range(11, 16))
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/sh\ncat <<END\n{listed}END\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    line = rf"\(11 RUNNING, .*14 RUNNING and 1 more\).* end them: scancel --name={RUN}$"
    with pytest.raises(PipelineError, match=line):
        slurm.check_jobs(tmp_path)

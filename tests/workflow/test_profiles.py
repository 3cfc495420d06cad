"""Profiles: what a plan asks of a cluster, and of its head node."""

import re
import subprocess
import sys
from pathlib import Path

import yaml
from configuration import PAPERS, at_scale

PROFILE = Path(__file__).parents[2] / "profiles/slurm"


def test_a_cluster_job_has_the_threads_that_its_rule_asks_for(repository):
    """`cores` bounds every job's threads, remote ones too; the head node has `head_cores`."""
    line = [sys.executable, "-m", "snakemake", "-n", "--profile", "slurm", "fig11"]
    plan = subprocess.run(line, cwd=repository, capture_output=True, text=True)
    assert plan.returncode == 0, plan.stderr
    job = re.search(r"rule finetune_instruct:\n(.*?)\n\s*\n", plan.stdout + "\n\n", re.S)[1]
    assert "threads: 8" in job and "gpu=1" in job, job
    assert "disk_mb=" in job and "mem_mb=" in job and "runtime=" in job, job


def test_the_clusters_own_file_is_the_papers_scale_until_somebody_edits_it():
    assert at_scale("profiles/slurm/site.yaml") == PAPERS


# Snakemake reads no `local-cores`: without the resource all seven run at once.
ON_HEAD = """
rule all:
    input: expand("{n}.end", n=range(6)), "large.end"
    localrule: True
rule small:
    output: "{n}.end"
    wildcard_constraints: n="[0-9]"
    localrule: True
    threads: 1
    resources: head_cores=1
    shell: "date +%s.%N > {wildcards.n}.start; sleep 0.5; date +%s.%N > {output}"
rule large:
    output: "large.end"
    localrule: True
    threads: 16
    resources: head_cores=16
    shell: "date +%s.%N > large.start; sleep 0.5; date +%s.%N > {output}"
"""


def test_the_head_node_has_few_rules_at_a_time_under_slurm(tmp_path):
    (tmp_path / "Snakefile").write_text(ON_HEAD)
    line = [sys.executable, "-m", "snakemake", "--profile", str(PROFILE)]
    line += ["--slurm-init-seconds-before-status-checks", "1"]  # nothing is submitted
    run = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    times = {
        path.stem: (float(path.read_text()), float(path.with_suffix(".end").read_text()))
        for path in tmp_path.glob("*.start")
    }
    assert len(times) == 7

    def beside(name: str) -> int:
        """Jobs, itself too, that run when this one starts."""
        start = times[name][0]
        return sum(first <= start < last for first, last in times.values())

    limits = yaml.safe_load((PROFILE / "config.yaml").read_text())["resources"]
    assert "head_cores=2" in limits
    assert max(beside(str(n)) for n in range(6)) == 2
    alone = times.pop("large")  # it asks for more than there is, and runs alone
    assert all(last <= alone[0] or alone[1] <= first for first, last in times.values())

"""Profiles: what a plan asks of a cluster."""

import re
import subprocess
import sys

from configuration import PAPERS, at_scale


def test_a_cluster_job_has_the_threads_that_its_rule_asks_for(repository):
    """`cores` bounds every job's threads, remote ones too; the head node has `local-cores`."""
    line = [sys.executable, "-m", "snakemake", "-n", "--profile", "slurm", "fig11"]
    plan = subprocess.run(line, cwd=repository, capture_output=True, text=True)
    assert plan.returncode == 0, plan.stderr
    job = re.search(r"rule finetune_instruct:\n(.*?)\n\s*\n", plan.stdout + "\n\n", re.S)[1]
    assert "threads: 8" in job and "gpu=1" in job, job
    assert "disk_mb=" in job and "mem_mb=" in job and "runtime=" in job, job


def test_the_clusters_own_file_is_the_papers_scale_until_somebody_edits_it():
    assert at_scale("profiles/slurm/site.yaml") == PAPERS

"""tools/plan on Snakemake's own graph, and tools/calibrate on the demo's shapes."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from configuration import ROOT
from rule_files import jobs_of

from overtrain.planning import calibration

OVERLAYS = ("--configfile", "profiles/demo/overlay.yaml", "tests/tiny.yaml")


def run(repository: Path, *command: str) -> str:
    found = subprocess.run(
        [sys.executable, *command], cwd=repository, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def counts(table: str) -> dict[str, int]:
    """Jobs by rule, of the page or of Snakemake's own."""
    return {n: int(c.replace(",", "")) for n, c in re.findall(r"^(\w+) +([\d,]+)\b", table, re.M)}


def test_a_figure_s_jobs_are_those_of_a_dry_run_and_nothing_is_started(repository):
    planned = counts(run(repository, "tools/plan", *OVERLAYS, "--", "fig05"))
    dry = counts(run(repository, "-m", "snakemake", "-n", "-q", "rules", *OVERLAYS, "--", "fig05"))
    assert dry.pop("fig05") == 1  # the name, which is no work
    dry["total"] -= 1
    assert dry["finetune"] == 2 and planned == planned | dry
    assert not (repository / "results" / "checkpoints").exists()
    assert {path.name for path in (repository / "results" / "plan").iterdir()} == {
        "fig05.md",
        "fig05.rules.csv",
        "fig05.figures.csv",
    }


def test_what_is_done_is_not_planned_again_and_its_benchmark_file_is_read(repository):
    task = "results/tasks/same_docstring/train.parquet"
    run(repository, "-m", "snakemake", "--cores", "1", *OVERLAYS, "--", task)
    told = run(repository, "tools/plan", "--spent", *OVERLAYS, "--", "fig05")
    assert "Spent by 1 jobs that have run: 0.00 GPU-hours" in told
    (row,) = (line.split() for line in told.splitlines() if line.startswith("prepare_task"))
    assert row[:2] == ["prepare_task", "0"]


def test_groups_ask_for_what_snakemake_asks_of_a_cluster(monkeypatch):
    """GPUs, minutes and disk of every job and group of two figures at the papers' scale."""
    monkeypatch.syspath_prepend(ROOT / "tools" / "plan")
    monkeypatch.chdir(ROOT)
    from snakemake.resources import GroupResources
    from workflow import found

    units = found(["--snakefile", str(ROOT / "Snakefile"), "--cores", "64", "fig10", "fig12"]).jobs
    own = sorted((unit.gpus, unit.minutes, len(unit.jobs)) for unit in units.units if unit.gpus)
    theirs = []
    for job in jobs_of(ROOT, "fig10", "fig12"):
        asked, members = job.resources, 1
        if job.is_group():  # a dry run adds up as on one machine; this is how a cluster does
            own_jobs, members = list(job.toposorted), len(list(job.jobs))
            asked = GroupResources.basic_layered(
                own_jobs, job.global_resources, False, ["runtime"], ["runtime"]
            )
        if asked.get("gpu"):
            theirs.append((asked["gpu"], asked["runtime"], members))
    assert own == sorted(theirs) and len(own) > 100
    assert {members for *_, members in own} >= {1, 2, 3}


def test_the_plan_of_everything_is_a_page(repository):
    told = run(repository, "tools/plan", "--profile", "slurm", "--", "all_figures", "all_tables")
    assert "speeds assumed of H100 SXM" in told.splitlines()[0]
    assert len(told.splitlines()) < 120
    # 3 x 252 of released models, 104 of "Amuro & Char", 120 that write programs
    for sum_ in (r"finetune_instruct +980 +3,106\.6", r"pretrain +18 +137\.9 "):
        assert re.search(sum_, told), sum_


def test_an_unknown_target_ends_as_snakemake_does(repository):
    found = subprocess.run(
        [sys.executable, "tools/plan", "fig999"], cwd=repository, capture_output=True, text=True
    )
    assert found.returncode == 1 and "fig999" in found.stderr + found.stdout


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> Path:
    """A copy of the repository's files with what calibrate measured at the demo's shapes."""
    folder = tmp_path_factory.mktemp("calibrated")
    for name in ("scripts", "tools", "studies", "profiles", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "config.yaml", folder)
    run(folder, "tools/calibrate", *OVERLAYS, "--seconds", "0.01")
    return folder


def test_calibrate_measures_each_stage_of_each_model_and_says_of_what(calibrated):
    found = calibration.read(calibrated / calibration.PATH)
    assert found.device == "cpu" and "torch" in found.versions
    kinds = {(piece.kind, piece.model) for piece in found.pieces}
    small = {"pretraining", "sweep", "stacks", "curvature"}
    large = {"released", "instruction", "benchmarks", "decoding"}
    models = ("OLMo-4K", "OLMo-10K", "OLMo-20K")
    assert kinds == {(k, m) for k in small for m in models} | {(k, "tiny") for k in large}
    for piece in found.pieces:
        assert piece.rate > 0 and piece.tokens_per_second > 0 and piece.shape
        assert 0.05 < piece.peak_gb < 4


def test_measured_tokens_and_rates_agree_with_the_formulas(calibrated):
    """OLMo-10K in training: 3 x (2 x (9,728 - 1,536) + 2 x 2 x 16 x 64) operations a token."""
    pieces = calibration.read(calibrated / calibration.PATH).pieces
    piece = next(piece for piece in pieces if piece.kind == "pretraining")
    assert piece.rate / piece.tokens_per_second == pytest.approx(3 * (2 * 8192 + 4 * 16 * 64))
    assert piece.used == pytest.approx(piece.rate / 1e10)


def test_calibrate_without_the_gpu_that_rules_ask_for_measures_nothing(repository):
    found = subprocess.run(
        [sys.executable, "tools/calibrate"], cwd=repository, capture_output=True, text=True
    )
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert found.returncode == 1 and found.stderr.count("\n") == 1
    assert "resources.pretrain.gpu is 8 and no GPU is visible here" in found.stderr


def test_a_calibration_that_is_none_is_one_line(tmp_path):
    from overtrain import PipelineError

    path = tmp_path / "calibration.json"
    assert calibration.read(path) == calibration.NOTHING
    for content in ("{}", "no", json.dumps({"device": "cpu", "pieces": [{"kind": "judge"}]})):
        path.write_text(content)
        with pytest.raises(PipelineError, match="not what tools/calibrate writes"):
            calibration.read(path)

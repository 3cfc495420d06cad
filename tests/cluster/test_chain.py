"""A figure of each study on a real Slurm, from the text to the drawing: as on one machine."""

import re
import subprocess
from pathlib import Path

from machine import slurm, until
from mains import FIGURES, Main, scripts

PAGE = Path(__file__).parents[2] / "docs/cluster.md"
KEPT = (
    "checkpoints",
    "projectors",
    "measurements",
    "responses",
    "answers",
    "aggregates",
    "figures",
)


def made(folder: Path) -> set[str]:
    """Results of a run that stay, by path; not how long they took."""
    return {
        str(path.relative_to(folder))
        for kind in KEPT
        for path in (folder / "results" / kind).rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def test_every_output_is_there_and_has_the_bytes_of_a_run_without_a_cluster(local, finished):
    files = made(local)
    assert files == made(finished)
    compared = {name for name in files if re.search(r"\.(parquet|csv|safetensors|pdf|png)$", name)}
    kinds = {Path(name).parts[1] for name in compared}
    assert kinds == {*KEPT}
    for name in sorted(compared):
        assert (local / name).read_bytes() == (finished / name).read_bytes(), name
    drawn = {Path(name).stem for name in compared if name.startswith("results/figures")}
    assert drawn == {figure.removeprefix("amuro_char_") for figure in FIGURES}
    assert not list((finished / "results/runs").rglob("*.safetensors"))  # temporary


def test_training_and_measuring_were_jobs_and_their_names_say_of_what(finished, cluster):
    """What squeue shows: the rule or group, and model, checkpoint and run."""
    said = (finished / "main0.txt").read_text()
    run = re.search(r"SLURM run ID: (\S+)", said)[1]
    jobs = cluster.jobs("--states=all", f"--name={run}")
    assert {job.state for job in jobs} == {"COMPLETED"}
    assert {job.node for job in jobs} == {"n1", "n2"}
    comments = [job.comment for job in jobs]
    for name in (
        "rule_pretrain_wildcards_OLMo-10K_1M",
        "rule_sweep,OLMo-10K,1M,same_docstring,default",
        "rule_tuned_run,OLMo-4K-hub,1.68M,which_field,instruct,lr0.001-seed0",
        "rule_align_projector_wildcards_OLMo-4K-hub_1.68M_llava_seed0",
        "rule_tuned_run,OLMo-4K-hub,1.68M,digit_questions,llava,lr0.001-seed0",
    ):
        assert [c for c in comments if c.startswith(name)], (name, comments)
    assert not [c for c in comments if re.search("aggregate|figure|prepare|download", c)]
    assert "slurm_extra=--signal=TERM@300" in said  # of the profile


def test_gpus_and_their_model_are_asked_for_and_without_one_the_job_ends_at_once(begun, cluster):
    (begun / "gpus.yaml").write_text("resources: {pretrain: {gpu: 2}}\n")
    options = ("--config", "own=gpus.yaml", "--default-resources", "gpu_model='h100'")
    main = Main(begun, "results/checkpoints/OLMo-10K/1M", options=("--retries", "0", *options))
    until(lambda: cluster.jobs() or main.ended, 60, "a job")
    asked = slurm("scontrol", "show", "job", cluster.jobs()[0].id)
    assert re.search(r"TresPerJob=gres:gpu:h100:2", asked), asked
    assert main.ends() != 0
    assert re.search(r"error: .*2 GPUs", main.said), main.said[-4000:]
    assert not scripts(begun, "pretrain")


def test_the_pages_command_shows_whether_locks_hold_between_nodes(cluster, tmp_path):
    (line,) = [line for line in PAGE.read_text().splitlines() if line.startswith("srun ")]
    done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert sorted(re.sub(r"n[12]: ", "", done.stdout).splitlines()) == ["first", "kept out"]
    assert set(re.findall(r"n[12]", done.stdout)) == {"n1", "n2"}

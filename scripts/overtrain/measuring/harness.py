"""Benchmarks through lm-eval: its tasks on data that lies here, a model, and what it scores.

Nothing is looked up on the hub: a task is built from its YAML file and from parquet files that
rule prepare_benchmarks left. Prompts are lm-eval's own, without a chat template.
"""

from __future__ import annotations

import difflib
import functools
import logging
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from overtrain import PipelineError
from overtrain.records.measurements import row

# A line for every task, and for every prompt that is cut (`watch_lengths` counts them).
logging.getLogger("lm_eval").setLevel(logging.ERROR)

SEED = 1234  # of the examples in the prompts: lm-eval's default
METRICS = {"acc": "accuracy", "acc_norm": "accuracy_norm"}  # others keep lm-eval's name
BOOTSTRAP = 1000  # of metrics without a closed form; that of a mean has one


def root_of(folder: Path | None) -> Path:
    """Where a suite's task files are: its own folder, or lm-eval's."""
    from lm_eval import tasks

    return folder or Path(tasks.__file__).parent


@functools.cache
def files_of(folder: Path | None) -> dict[str, Path]:
    """YAML files of tasks by name; reading lm-eval's own, 10,000 of them, takes 14 seconds."""
    from lm_eval.tasks import TaskManager

    if folder:
        return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    manager = TaskManager()
    return {name: Path(manager.task_index[name].yaml_path) for name in manager.all_subtasks}


def task_file(name: str, folder: Path | None) -> Path:
    """The YAML file of a task, relative to `root_of(folder)`."""
    known = files_of(folder)
    if name not in known:
        similar = ", ".join(difflib.get_close_matches(name, known, 4, 0.5)) or "none"
        raise PipelineError(f"{folder or 'lm-eval'} has no task {name!r}; near names: {similar}")
    return known[name].relative_to(root_of(folder))


def read_task(path: Path) -> dict:
    """The settings in a task's YAML file, what it includes and its functions among them."""
    from lm_eval.tasks._yaml_loader import load_yaml

    return load_yaml(path, resolve_func=True)


def build_task(name: str, settings: dict, files: dict[str, Path], shots: int):
    """An lm-eval task on parquet files by split, with so many examples in each prompt."""
    import datasets
    from lm_eval.api.task import ConfigurableTask

    def data(**_: object) -> dict[str, datasets.Dataset]:
        return {  # a fingerprint of their own: `datasets` would pickle each table for one
            split: datasets.Dataset(pq.read_table(path), fingerprint=f"{name}-{split}")
            for split, path in files.items()
        }

    own = {key: value for key, value in settings.items() if key not in ("tag", "group")}
    task = ConfigurableTask(config=own | {"task": name, "custom_dataset": data})
    task.set_config(key="num_fewshot", value=shots)
    task.set_fewshot_seed(seed=SEED)
    return task


def score(model, tasks: dict, requests: Path | None, limit: int | None = None) -> dict:
    """What lm-eval measures: (task, metric) -> (value, stderr, questions).

    requests: the folder of lm-eval's request cache, or None where prompts depend on the tokenizer.
    `simple_evaluate` does the same after setting seeds that nothing here draws from, and describes
    the machine, which takes seconds.
    """
    from lm_eval import evaluator
    from lm_eval.caching import cache

    if requests:
        cache.PATH = str(requests)  # lm-eval reads LM_HARNESS_CACHE_PATH at import alone
    results = evaluator.evaluate(
        lm=model,
        task_dict={"tasks": tasks},
        limit=limit,
        cache_requests=requests is not None,
        apply_chat_template=requests is None,
        bootstrap_iters=BOOTSTRAP,
        log_samples=False,
    )
    found = {}
    for task, metrics in results["results"].items():
        questions = results["n-samples"][task]["effective"]
        for key, value in metrics.items():
            metric, _, filtered = key.partition(",")
            if filtered and not metric.endswith("_stderr"):
                stderr = metrics.get(f"{metric}_stderr,{filtered}")
                stderr = stderr if isinstance(stderr, float) else float("nan")
                found[task, METRICS.get(metric, metric)] = (value, stderr, questions)
    return found


def language_model(
    checkpoint: Path,
    settings: dict,
    device: str,
    gpus: int,
    add_bos_token: bool | None = None,
):
    """A checkpoint directory as lm-eval's model: bfloat16 on a GPU, float32 on the CPU.

    settings: `backend` (vllm, or hf, which is transformers) and `batch_size` (requests in a pass of
    hf; vllm finds its own). add_bos_token: before each text; None as the tokenizer does.
    """
    import torch
    from lm_eval.api.registry import get_model
    from transformers import GenerationConfig

    from overtrain.model.released import load_model, load_tokenizer

    print(f"backend: {settings['backend']}")
    tokenizer, cuda = load_tokenizer(checkpoint), device == "cuda"
    # A checkpoint's own may penalise what was said, or name another end.
    ends = GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    if settings["backend"] == "vllm":
        alone_with_vllm()
        with TemporaryDirectory() as folder:
            ends.save_pretrained(folder)
            return get_model("vllm")(
                str(checkpoint),
                dtype="bfloat16" if cuda else "float32",
                tensor_parallel_size=max(1, gpus),
                batch_size="auto",
                trust_remote_code=False,
                gpu_memory_utilization=0.85,
                add_bos_token=add_bos_token,
                generation_config=folder,
            )
    model = load_model(checkpoint, torch.bfloat16 if cuda else torch.float32).to(device)
    model.generation_config = ends
    return get_model("hf")(
        model,
        tokenizer=tokenizer,
        batch_size=settings["batch_size"],
        softmax_dtype="float32",  # of bfloat16, a log likelihood of -3 is rounded by up to 0.008
        add_bos_token=add_bos_token,
    )


def alone_with_vllm() -> None:
    """Keep vLLM's engine in this process; PipelineError where vLLM is not installed.

    As a process of its own, forked from one that has used CUDA, it fails; and so vLLM spawns it,
    which runs the main module, a rule's script, again.
    """
    if find_spec("vllm") is None:
        raise PipelineError(
            "backend is vllm (evaluations.alpaca, or a suite of benchmark_suites or task_suites), "
            "which is not installed here: run with --sdm conda, or from envs/lock-vllm.txt, or set "
            "hf"
        )
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"


def watch_lengths(model, where: str) -> Callable[[], tuple[int, int]]:
    """Count requests that are longer than the context, whose start lm-eval cuts off silently.

    Returns what gives (requests cut, requests). PipelineError for an answer that does not fit.
    """
    counts = [0, 0]
    inner, longest = model._loglikelihood_tokens, model.max_length

    def counted(requests: list, **options: object) -> list:
        for (_, answer), start, end in requests:
            if len(end) > longest:
                raise PipelineError(
                    f"{where}: an answer of {len(end)} tokens is longer than its context of "
                    f"{longest}: {answer[:40]!r}"
                )
            counts[0] += len(start) + len(end) > longest + 1
        counts[1] += len(requests)
        return inner(requests, **options)

    model._loglikelihood_tokens = counted
    return lambda: (counts[0], counts[1])


def rows_of(found: dict, identity: dict, shots: int) -> list[dict]:
    """Measurement rows of what `score` found, a benchmark's name as the evaluation."""
    rows = []
    for (task, metric), (value, stderr, questions) in found.items():
        own = identity | {"evaluation": task, "shots": shots, "split": "test"}
        rows.append(row(own, metric, value, stderr, questions))
    return rows

"""The processes of one run: this one, or several that torchrun starts, which leave its weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
from datasets import Dataset, load_from_disk
from safetensors.torch import load_file, save_file
from torch import Tensor

from overtrain import PipelineError
from overtrain.data.workers import die_with_parent
from overtrain.records.provenance import write_json
from overtrain.training.states import told_of_full_disk

SAVING = 280  # seconds that processes asked to end have for their step and their state


@dataclass(frozen=True)
class Processes:
    """How to run it: examples in a pass, steps between states, processes (GPUs, or of the CPU)."""

    micro_batch: int
    save_steps: int
    threads: int = 1
    count: int = 1
    cuda: bool = False
    batch_tokens: int = 16384  # of an evaluation's pass


@dataclass(frozen=True)
class Trained:
    """The end of a training: weights by name, on the CPU, or None for a diverged run; losses."""

    tensors: dict[str, Tensor] | None
    losses: list[float]


def gpus_for(rule: str, asked: int, visible: int) -> int:
    """GPUs to train on; PipelineError where several are asked for and not all are there."""
    if visible < asked and asked > 1:
        raise PipelineError(
            f"resources.{rule} asks for {asked} GPUs, which share the model; {visible} are visible"
        )
    return min(asked, visible)


def launch(module: str, run: dict, processes: Processes, data: Dataset, state: Path) -> Trained:
    """Train in processes of their own, started by torchrun; they leave weights in `state`.

    module: each runs it, to `take_part`; run: what to train, for json.
    """
    result = state / "result.json"
    if not result.exists():
        data.save_to_disk(str(state / "examples"))
        each = replace(processes, threads=max(1, processes.threads // processes.count))
        write_json(state / "tuning.json", run | {"processes": asdict(each)})
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={processes.count}", f"--shutdown-timeout={SAVING}"]
        command += ["-m", module, str(state / "tuning.json")]
        library = str(Path(__file__).parents[2])
        environment = os.environ | {"PYTHONPATH": library, "OMP_NUM_THREADS": str(each.threads)}
        # So that from_pretrained reads the weights in the first process alone.
        environment |= {"ACCELERATE_USE_FSDP": "true", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}
        with (
            subprocess.Popen(command, env=environment, preexec_fn=die_with_parent) as process,
            on_terminate(process.terminate),
        ):
            status = process.wait()
        if status:
            raise PipelineError("a training process failed; its message stands above")
    content = json.loads(result.read_text())
    weights = state / "trained.safetensors"
    return Trained(load_file(weights) if weights.exists() else None, content["losses"])


def take_part(train: Callable[[dict, Processes, Dataset, Path], Trained]) -> None:
    """Be one of the processes that `launch` started; train: from its `run`, data and state."""
    die_with_parent()
    path = Path(sys.argv[1])
    run, state = json.loads(path.read_text()), path.parent
    processes = Processes(**run.pop("processes"))
    torch.set_num_threads(processes.threads)
    data = load_from_disk(str(state / "examples"), keep_in_memory=False)
    try:
        with told_of_full_disk(state):
            trained = train(run, processes, data, state)
            if dist.get_rank() == 0:
                leave(trained, state)
    except PipelineError as error:
        sys.exit(f"error: {error}")
    dist.barrier()
    dist.destroy_process_group()


def leave(trained: Trained, state: Path) -> None:
    """What `launch` reads."""
    if trained.tensors is not None:
        own = {name: t.clone() for name, t in trained.tensors.items()}  # tied ones share memory
        save_file(own, state / "trained.safetensors")
    write_json(state / "result.json", {"losses": trained.losses})


def any_process(flag: bool) -> bool:
    """Whether `flag` is set in any process."""
    if not dist.is_initialized():
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    shared = torch.tensor(float(flag), device=device)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return bool(shared)


@contextmanager
def on_terminate(action: Callable[[], None]) -> Iterator[None]:
    """Call `action` at SIGTERM instead of dying of it."""
    before = signal.signal(signal.SIGTERM, lambda *_: action())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

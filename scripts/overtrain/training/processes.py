"""The processes of one training: this one, or several that torchrun starts; how they save and end.

Asked to end (SIGTERM: time limit, preemption), all finish the same step, save it and end. None
outlives the one that started them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from overtrain import PipelineError
from overtrain.data.workers import die_with_parent

SAVING = 280  # seconds that processes asked to end have for their step and their state
PARENT, ERROR = "parent.txt", "error.txt"  # beside a plan: torchrun's id; the line that ended it


@dataclass(frozen=True)
class Processes:
    """How to tune: examples in a pass, minutes between states, processes (GPUs, or of the CPU)."""

    micro_batch: int
    state_minutes: float
    threads: int = 1  # of all processes together
    count: int = 1
    cuda: bool = False
    batch_tokens: int = 16384  # of an evaluation's pass


def gpus_for(rule: str, asked: int, visible: int) -> int:
    """GPUs to train on; PipelineError where several are asked for and not all are there."""
    if visible < asked and asked > 1:
        raise PipelineError(
            f"resources.{rule} asks for {asked} GPUs, which share the model; {visible} are visible"
        )
    return min(asked, visible)


# --- several --------------------------------------------------------------------------------------


def launch(module: str, plan: dict, count: int, threads: int, **variables: str) -> None:
    """Run `module`, which does its `own_part`, in `count` processes that torchrun starts.

    plan: what to do, for json; threads: of all together; variables: of their environment.
    """
    library = str(Path(__file__).parents[2])
    own = {"PYTHONPATH": library, "OMP_NUM_THREADS": str(max(1, threads // count))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "plan.json")
        path.write_text(json.dumps(plan))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={count}", f"--shutdown-timeout={SAVING}"]
        command += ["-m", module, str(path)]

        def begin() -> None:
            die_with_parent()
            path.with_name(PARENT).write_text(str(os.getpid()))

        environment = {**os.environ, **own, **variables}
        with (
            subprocess.Popen(command, env=environment, preexec_fn=begin) as process,
            on_terminate(process.terminate),
        ):
            status = process.wait()
        if status:
            error = path.with_name(ERROR)
            known = error.read_text() if error.exists() else ""
            raise PipelineError(known or "a training process failed; its message stands above")


@contextmanager
def own_part() -> Iterator[dict]:
    """The plan, in one of the processes that `launch` started; the line of an error is left to it.

    The process group ends with the block.
    """
    path = Path(sys.argv[1])
    die_with_parent()
    if os.getppid() != int(path.with_name(PARENT).read_text()):  # it died while this one started
        sys.exit("the job that started this process is gone")
    try:
        yield json.loads(path.read_text())
    except PipelineError as error:
        path.with_name(ERROR).write_text(str(error))
        sys.exit(1)
    dist.barrier()
    dist.destroy_process_group()


def any_process(flag: bool) -> bool:
    """Whether `flag` is set in any process."""
    if not dist.is_initialized():
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    shared = torch.tensor(float(flag), device=device)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return bool(shared)


# --- saving and ending ----------------------------------------------------------------------------


class Saving:
    """When to save a state: each `minutes` by the first process's clock, and when asked to end.

    Every method is to be called by all processes, and answers the same in all.
    """

    def __init__(self, minutes: float):
        self.minutes, self.ending, self.last = minutes, False, time.monotonic()

    def end(self) -> None:
        self.ending = True

    def due(self) -> bool:
        """Whether to save the step that is done."""
        first = not dist.is_initialized() or dist.get_rank() == 0
        late = first and time.monotonic() - self.last > 60 * self.minutes
        return any_process(self.ending or late)

    def saved(self, step: int, steps: int) -> None:
        """A state of `step` is there: PipelineError if asked to end before the last one."""
        self.last = time.monotonic()
        if step < steps and any_process(self.ending):
            raise PipelineError(
                f"asked to end at step {step} of {steps}; the next attempt goes on from there"
            )


@contextmanager
def saving_states(minutes: float) -> Iterator[Saving]:
    """A block in which SIGTERM asks to save and to end."""
    saving = Saving(minutes)
    with on_terminate(saving.end):
        yield saving


@contextmanager
def on_terminate(action: Callable[[], None]) -> Iterator[None]:
    """Call `action` at SIGTERM instead of dying of it."""
    before = signal.signal(signal.SIGTERM, lambda *_: action())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

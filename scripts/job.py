"""What a rule's script has of Snakemake, and nothing else here does: log, inputs, machine, origin.

    with Job(snakemake) as job:  # the log takes all output; what goes wrong is one line there
        job.write(rows_of(job.input.checkpoint, job.slice["tokens"]))

A job holds a lock for as long as it runs: on all nodes it alone writes its outputs and its state.
A `Job` imports no torch, so that aggregating and drawing start fast; `TorchJob` has the device, and
keeps its outputs until they are recorded (`records.kept`).
"""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from overtrain import PipelineError
from overtrain.hub.client import stay_offline
from overtrain.records import kept
from overtrain.records.locks import exclusive
from overtrain.records.provenance import hash_of, hash_of_all, provenance, remove_partials

if TYPE_CHECKING:
    import torch
    from snakemake.iocontainers import Namedlist, Snakemake

    from overtrain.config.catalogue import Catalogue
    from overtrain.model.memory import Room
    from overtrain.training.processes import Processes

STATE = Path("results/state")  # what jobs go on from, outside the outputs that Snakemake clears


class Job:
    """The job that Snakemake's object describes; a context that sends its output to its log."""

    def __init__(self, snakemake: Snakemake):
        self.snakemake = snakemake
        self.wildcards = snakemake.wildcards
        self.input, self.output = paths_of(snakemake.input), paths_of(snakemake.output)
        self.threads: int = snakemake.threads
        self.gpus: int = snakemake.resources.get("gpu", 0)  # that the rule asks for

    def __enter__(self) -> Job:
        with ExitStack() as stack:
            if self.snakemake.log:  # tools/run_script.py has none: a debugger wants the terminal
                stack.enter_context(logged(self.snakemake.log[0]))
            stack.enter_context(exclusive(STATE / "locks" / f"{self.name()}.lock"))
            for path in vars(self.output).values():
                remove_partials(path)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self.stack.__exit__(*error)

    def name(self, rule: str | None = None) -> str:
        """The rule and its wildcards, which no other job has; or of `rule` at these wildcards."""
        values = (str(value) for _, value in self.wildcards.items())
        return ",".join([rule or self.snakemake.rule, *values])

    @property
    def state(self) -> Path:
        """Where a training leaves what it can go on from; gone when its outputs are there."""
        return STATE / "trainings" / self.name()

    @cached_property
    def slice(self) -> dict:
        """What of the configuration the result depends on: the rule's params."""
        return json.loads(self.snakemake.params.config)

    @cached_property
    def catalogue(self) -> Catalogue:
        from overtrain.configuration import catalogue_of  # pydantic: 0.1 s

        return catalogue_of(self.snakemake.config)

    @property
    def identity(self) -> dict:
        """The columns of a measurement that say of which checkpoint, sweep and run it is."""
        w = self.wildcards
        columns = self.catalogue.identity(w.model, w.checkpoint, w.get("recipe"))
        if projector := w.get("projector"):
            visual = self.catalogue.visual(w.recipe)
            columns |= {"task": visual.alignment.task, "recipe": w.recipe, "selection": "last"}
            columns |= visual.projectors()[projector]
        if task := w.get("task"):
            columns |= {"task": task, "recipe": w.recipe}
        if run := w.get("run"):
            columns |= self.catalogue.runs(w.recipe)[run] | {"selection": "last"}
        return columns

    def origin(self, data: dict[str, str] | None = None) -> dict:
        """Provenance of the result; data: hashes of what it is made of, if not all inputs'."""
        return provenance(
            self.slice,
            self.hashes if data is None else data,
            self.device_name,
            rule=self.snakemake.rule,
            **dict(self.wildcards.items()),
        )

    @cached_property
    def hashes(self) -> dict[str, str]:
        """Of every named input that is a file, a folder that says what is in it, or several."""
        found: dict[str, str | None] = {}
        for name, path in vars(self.input).items():
            if name == "after":  # which only says when
                continue
            if isinstance(path, list):
                found[name] = hash_of_all(path)
                continue
            # Weights of runs are many GB, or none: their provenance says what they are.
            of_runs = name == "runs" or (name == "model" and self.wildcards.get("run"))
            found[name] = hash_of(path / "provenance.json" if of_runs else path)
        return {name: digest for name, digest in found.items() if digest}

    @property
    def device_name(self) -> str:
        return "cpu"

    def write(self, rows: list[dict], data: dict[str, str] | None = None) -> None:
        """Write the job's measurements with their provenance."""
        from overtrain.records import measurements  # pyarrow, which few light jobs need

        measurements.write(rows, self.output.measurements, self.origin(data))


class TorchJob(Job):
    """A job on a model: threads, the precision of products, memory and the device.

    precision: TF32 in products ("high") is as exact as what is measured needs; bfloat16 would drown
    the small changes that small learning rates make. "highest" where TF32 would do so too.
    """

    def __init__(self, snakemake: Snakemake, precision: str = "high"):
        super().__init__(snakemake)
        self.precision = precision
        self.kept = STATE / "kept" / self.name()
        self.last_read: list[tuple[Path, str]] = []

    def __enter__(self) -> TorchJob:
        """SystemExit where an earlier attempt left the outputs: there is nothing to do."""
        stay_offline()
        super().__enter__()
        with self.stack as stack:
            if kept.take(self.kept, vars(self.output), self.made_of):
                print(f"taken from {self.kept}, where an earlier attempt left it")
                sys.exit()
            self.check_weights()
            self.check_gpus()
            self.stack = stack.pop_all()
        import torch

        from overtrain.model.allocator import keep_freed_memory

        torch.set_num_threads(self.threads)
        torch.set_float32_matmul_precision(self.precision)
        keep_freed_memory()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        if error[0]:
            return super().__exit__(*error)
        with self.stack:
            kept.keep(self.kept, vars(self.output), self.made_of)
            for place, name in self.last_read:
                kept.spend(place, name)
            shutil.rmtree(self.state, ignore_errors=True)
        return None

    @cached_property
    def made_of(self) -> dict:
        """What the outputs depend on; not the code, as with Snakemake's own reasons to rerun."""
        return {"config": self.slice, "data": self.hashes}

    def reads_last(self, rule: str, name: str) -> None:
        """This job is the last reader of the weights `name` that `rule` made at its wildcards.

        When its result is there they are not kept any longer, and the disk has them no more once
        Snakemake has removed them.
        """
        self.last_read.append((STATE / "kept" / self.name(rule), name))

    def check_weights(self) -> None:
        """PipelineError where weights were given up while this job's own result is not there."""
        for path in vars(self.input).values():
            if isinstance(path, Path) and (path / kept.SPENT).exists():
                raise PipelineError(
                    f"{path}: these weights were given up after their last reading; remove the "
                    f"folder and {STATE / 'kept'}, and they are trained again"
                )

    def check_gpus(self) -> None:
        """Count those that there are. PipelineError where the rule asks for some and none is."""
        if not self.gpus:
            return
        import torch

        asked, self.gpus = self.gpus, min(self.gpus, torch.cuda.device_count())
        if not self.gpus:
            raise PipelineError(
                f"rule {self.snakemake.rule} asks for {asked} GPUs and none is visible here; on "
                "the CPU it runs if its resources in the configuration say gpu: 0"
            )
        if self.gpus < asked:
            print(f"warning: the rule asks for {asked} GPUs; {self.gpus} are visible")

    @property
    def tuning_processes(self) -> Processes:
        """How to tune the job's released model, by the resources of its rule."""
        from overtrain.training.processes import Processes, gpus_for

        resources = self.catalogue.sized(self.snakemake.rule, self.wildcards.model)
        gpus = gpus_for(self.snakemake.rule, resources.gpu, self.gpus)
        return Processes(
            resources.micro_batch,
            resources.state_minutes,
            self.threads,
            max(1, gpus),
            gpus > 0,
            self.catalogue.settings.evaluations.batch_tokens,
        )

    @property
    def device(self) -> torch.device:
        """A GPU if the rule asks for one and it is visible, else the CPU."""
        import torch

        return torch.device("cuda" if self.gpus else "cpu")

    @property
    def device_name(self) -> str:
        import torch

        return torch.cuda.get_device_name() if self.gpus else "cpu"

    @property
    def room(self) -> Room:
        """Most of the GPU's free memory, or of what the rule asks for.

        The rest is for what a measurement on small stacks does not show: fragmented memory.
        """
        import torch

        from overtrain.model.memory import Room

        memory = 0.8 * self.snakemake.resources.mem_mb * 2**20
        if self.gpus:
            memory = 0.85 * torch.cuda.mem_get_info()[0]
        return Room(self.device, int(memory), self.catalogue.settings.evaluations.batch_tokens)


def paths_of(named: Namedlist) -> SimpleNamespace:
    """A rule's inputs or outputs by name: paths, and lists of them where the rule has lists."""
    return SimpleNamespace(
        **{n: Path(p) if isinstance(p, str) else [Path(q) for q in p] for n, p in named.items()}
    )


@contextmanager
def logged(log: str) -> Iterator[None]:
    """Send all output to `log`; a PipelineError or a full disk ends the job with one line there.

    Works on file descriptors, so that what libraries and child processes print is there too. The
    line is printed where the output went before, too: on a full disk the log stays empty. The log
    of a job that succeeds ends with the seconds it worked, start-up and imports left out, and the
    most memory that its process held.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(2)
    try:
        with open(log, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        started = time.perf_counter()
        yield
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # of KiB
        print(f"work: {time.perf_counter() - started:.1f} s, at most {most} MB")
    except Exception as error:
        if isinstance(error, PipelineError):
            line = f"error: {error}"
        elif any(is_full_disk(part) for part in chain(error)):
            line = f"error: no space left on the disk that holds {Path.cwd()}; free some, run again"
        else:
            raise
        os.write(before, f"{line}\n".encode())
        sys.exit(line)
    finally:
        os.close(before)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those it was raised from or in the handling of."""
    while error:
        yield error
        error = error.__cause__ or error.__context__


def is_full_disk(error: BaseException) -> bool:
    """safetensors, Arrow and torch's archives each report one in a way of their own."""
    return os.strerror(errno.ENOSPC) in str(error) or "inline_container" in str(error)

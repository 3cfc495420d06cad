"""What a rule's script has of Snakemake, and nothing else here does: log, inputs, machine, origin.

    with Job(snakemake) as job:  # the log takes all output; what goes wrong is one line there
        job.write(rows_of(job.input.checkpoint, job.slice["tokens"]))

A `Job` imports no torch, so that aggregating and drawing start fast; `TorchJob` has the device.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from overtrain import PipelineError
from overtrain.records.provenance import hash_of, provenance

if TYPE_CHECKING:
    import torch
    from snakemake.iocontainers import Namedlist, Snakemake

    from overtrain.config.catalogue import Catalogue
    from overtrain.model.memory import Room

STATE = Path("results/state")  # of jobs that go on where they were stopped; Snakemake clears none


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
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self.stack.__exit__(*error)

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
        columns = self.catalogue.identity(w.model, w.checkpoint)
        if task := w.get("task"):
            columns |= {"task": task, "recipe": w.recipe}
        if run := w.get("run"):
            columns |= self.catalogue.runs(w.recipe)[run] | {"selection": "last"}
        return columns

    @property
    def state(self) -> Path:
        """Where a training leaves what it can go on from, outside the outputs."""
        w = self.wildcards
        if run := w.get("run"):
            return STATE / "instruct" / w.model / w.checkpoint / w.task / w.recipe / run
        if recipe := w.get("recipe"):
            return STATE / "sweeps" / w.model / w.checkpoint / w.task / recipe
        return STATE / w.model / w.checkpoint

    def origin(self, data: dict[str, str] | None = None) -> dict:
        """Provenance of the result; data: hashes of what it is made of, if not all inputs'."""
        return provenance(
            self.slice,
            self.hashes() if data is None else data,
            self.device_name,
            rule=self.snakemake.rule,
            **dict(self.wildcards.items()),
        )

    def hashes(self) -> dict[str, str]:
        """Of every named input that is one file, or a folder that says what is in it."""
        found = {}
        for name, path in vars(self.input).items():
            if isinstance(path, Path) and name != "after":  # which only says when
                # A run's weights are many GB, or none: its provenance says what they are.
                of_run = name == "model" and self.wildcards.get("run")
                found[name] = hash_of(path / "provenance.json" if of_run else path)
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

    def __enter__(self) -> TorchJob:
        super().__enter__()
        import torch

        from overtrain.model.allocator import keep_freed_memory

        torch.set_num_threads(self.threads)
        torch.set_float32_matmul_precision(self.precision)
        keep_freed_memory()
        asked, self.gpus = self.gpus, min(self.gpus, torch.cuda.device_count())  # that there are
        if self.gpus < asked:
            print(f"warning: the rule asks for {asked} GPUs; {self.gpus} are visible")
        return self

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
    log of a job that succeeds ends with the seconds it worked, start-up and imports left out, and
    the most memory that its process held.
    """
    with open(log, "w") as file:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    started = time.perf_counter()
    try:
        yield
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # of KiB
        print(f"work: {time.perf_counter() - started:.1f} s, at most {most} MB")
    except PipelineError as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        if not any(is_full_disk(part) for part in chain(error)):
            raise
        sys.exit(f"error: no space left on the disk that holds {Path.cwd()}; free some, run again")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those it was raised from or in the handling of."""
    while error:
        yield error
        error = error.__cause__ or error.__context__


def is_full_disk(error: BaseException) -> bool:
    """safetensors, Arrow and torch's archives each report one in a way of their own."""
    return os.strerror(errno.ENOSPC) in str(error) or "inline_container" in str(error)

"""What is kept of a sweep while it is trained: finished stacks, and the state of the one at work.

A second attempt takes finished stacks as they are and goes on in the one that was stopped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from overtrain.records.provenance import whole_file, write_json
from overtrain.training.processes import Saving
from overtrain.training.states import load_state, prepare_state, read_identity, save_state


class Stack(Protocol):
    """What is asked of a stack of runs (`finetune.Stack`)."""

    done: int

    def state(self) -> dict: ...
    def restore(self, state: dict) -> None: ...
    def save(self, path: Path) -> None: ...


@dataclass(frozen=True)
class SweepFolders:
    """Where a sweep leaves its snapshots, and where it keeps what it has until then.

    data: hashes by name of what it is made of; minutes: between two states of a stack.
    """

    output: Path
    state: Path
    data: dict[str, str]
    minutes: float

    def stack_width(self, settings: dict, width: int) -> int:
        """Runs of a stack: `width`, or less if an earlier attempt at these settings had less.

        How many share a stack shows in last digits, so stacks of another width are not taken.
        """
        identity = json.loads(json.dumps(settings | {"data": self.data}))  # as it is read
        earlier = read_identity(self.state)
        if {**earlier, "width": 0} == {**identity, "width": 0}:
            width = min(width, earlier["width"])
        prepare_state(self.state, identity | {"width": width})
        return width


@dataclass(frozen=True)
class StackStates:
    """Of one stack; `before` and `steps`: of the sweep, before this stack and in all."""

    folder: Path
    number: int
    saving: Saving
    before: int
    steps: int

    def path(self, suffix: str) -> Path:
        return self.folder / f"{self.number:03d}{suffix}"

    @property
    def weights(self) -> Path:
        """Of the finished stack, written last."""
        return self.path(".safetensors")

    def finish(self, stack: Stack, rows: list[dict]) -> None:
        write_json(self.path(".json"), rows)
        with whole_file(self.weights) as temporary:
            stack.save(temporary)
        self.path(".pt").unlink(missing_ok=True)

    def rows(self) -> list[dict]:
        """Measurements of the finished stack."""
        return json.loads(self.path(".json").read_text())

    def go_on(self, stack: Stack) -> None:
        """Bring a new stack to where the last attempt left it."""
        if state := load_state(self.path(".pt")):
            stack.restore(state)
            print(f"continuing from step {self.before + stack.done:,}")

    def after_step(self, stack: Stack) -> None:
        """Save the stack when it is time; PipelineError if the sweep was asked to end."""
        if self.saving.due():
            save_state(self.path(".pt"), stack.state())
            self.saving.saved(self.before + stack.done, self.steps)

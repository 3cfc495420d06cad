"""What a rule asks for, in two lines of it: `threads: ask.threads("draw")`, `**ask("draw")`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from overtrain.config.catalogue import Catalogue
from overtrain.config.resources import SIZED, Resources

Asked = int | Callable[..., int]  # a number, or what Snakemake calls with wildcards (and attempt)


@dataclass(frozen=True)
class Ask:
    """Resources by stage (`resources` in the configuration).

    Where they go by a model's size each job asks for its own; a function of the model's name may
    stand for a stage.
    """

    catalogue: Catalogue

    def threads(self, stage: str | Callable[[str], Resources]) -> Asked:
        return self._of(stage, "threads")

    def __call__(
        self,
        stage: str | Callable[[str], Resources],
        runtime: Asked | None = None,
        local: bool = False,
    ) -> dict[str, Asked]:
        """Memory, minutes, GPUs and, of stages by size, disk; runtime: if not the stage's.

        Each further attempt has the stage's minutes once more. local: of a rule that runs on the
        head node, whose threads a cluster's profile bounds as `head_cores`.
        """
        minutes = self._of(stage, "runtime")

        def growing(wildcards: Any, attempt: int) -> int:
            return attempt * (minutes(wildcards) if callable(minutes) else minutes)

        keys = ("mem_mb", "gpu", "disk_mb") if stage in SIZED else ("mem_mb", "gpu")
        asked = {key: self._of(stage, key) for key in keys} | {"runtime": runtime or growing}
        return asked | ({"head_cores": self.threads(stage)} if local else {})

    def _of(self, stage: str | Callable[[str], Resources], key: str) -> Asked:
        if isinstance(stage, str) and stage not in SIZED:
            return getattr(getattr(self.catalogue.settings.resources, stage), key)
        of_model = partial(self.catalogue.sized, stage) if isinstance(stage, str) else stage
        return lambda wildcards: getattr(of_model(wildcards.model), key)

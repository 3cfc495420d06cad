"""What a rule asks for, in two lines of it: `threads: ask.threads("draw")`, `**ask("draw")`.

A stage's name gives memory, GPUs and threads. Minutes are the stage's own, for what is not
computed, and what the rule's work is expected to take (`planning.work`) with a margin. Each further
attempt asks for as much again, up to the site's limit.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from overtrain.config.catalogue import Catalogue
from overtrain.config.resources import SIZED, Resources
from overtrain.planning.calibration import NOTHING, Calibration
from overtrain.planning.estimate import Estimator, Need
from overtrain.planning.stages import FOLLOWERS, FOLLOWING, STAGES, jobs_of

Asked = int | Callable[..., int]  # a number, or what Snakemake calls with wildcards (and attempt)
Stage = str | Callable[[str], Resources]  # its name, or a function of the model's
# Stages whose jobs hold much on the disk; others have the profile's default.
HOLDS = {"pretrain", "finetune", "finetune_instruct", "finetune_vision", "generate"}
HOLDS |= {"evaluate_vision", "benchmarks", "download", "images"}
LEAST_DISK = 100  # MB, beside what is computed: logs and the like
SPARE = 2  # retries for what fails for other reasons than its limit


@dataclass(frozen=True)
class Ask:
    """Resources by stage (`resources` in the configuration).

    Where they go by a model's size each job asks for its own; a function of the model's name may
    stand for a stage.
    """

    catalogue: Catalogue
    calibration: Calibration = NOTHING

    @cached_property
    def estimator(self) -> Estimator:
        return Estimator(self.catalogue, self.calibration)

    @property
    def limit(self) -> int | None:
        """Minutes that the site lets a job run."""
        return self.catalogue.settings.resources.limit

    def threads(self, stage: Stage) -> Asked:
        return self._of(stage, "threads")

    def __call__(self, stage: Stage, local: bool = False) -> dict[str, Asked]:
        """Memory, minutes, GPUs and, of stages that hold much, disk.

        local: of a rule that runs on the head node, whose threads a cluster's profile bounds as
        `head_cores`.
        """

        def runtime(wildcards: Any, attempt: int, rulename: str) -> int:
            return self.minutes(rulename, self.resources(stage, wildcards), wildcards, attempt)

        def disk_mb(wildcards: Any, rulename: str) -> int:
            own = self.resources(stage, wildcards)
            return LEAST_DISK + self.estimator.need(rulename, wildcards, own.gpu).disk_mb

        asked = {key: self._of(stage, key) for key in ("mem_mb", "gpu")}
        asked |= {"runtime": inspected(runtime)}
        asked |= (
            {"disk_mb": inspected(disk_mb)} if isinstance(stage, str) and stage in HOLDS else {}
        )
        return asked | ({"head_cores": self.threads(stage)} if local else {})

    # --- minutes ---

    def whole(self, own: Resources, need: Need) -> int:
        """Minutes of a job that is never stopped, with the margin."""
        margin = self.catalogue.settings.hardware.margin
        return math.ceil(own.runtime + margin * need.seconds / 60)

    def minutes(self, rule: str, own: Resources, wildcards: Any, attempt: int = 1) -> int:
        """That an attempt at a job asks for.

        Under a limit, what goes on from a state gets what the rest of its group leaves of it.
        """
        need = self.estimator.need(rule, wildcards, own.gpu)
        whole = self.whole(own, need)
        if self.limit is None:
            return attempt * whole
        if rule in FOLLOWING:
            return whole
        return min(attempt * whole, max(1, self.limit - self.following(rule, wildcards)))

    def following(self, rule: str, wildcards: Any) -> int:
        """Minutes of the rest of a job's group, which a cluster adds to its own."""
        rest = [self._job(other, wildcards) for other in FOLLOWERS.get(rule, ())]
        return sum(self.whole(*job) for job in rest)

    def least(self, rule: str, wildcards: Any) -> int:
        """The shortest limit under which a job, with the rest of its group, can be done.

        What goes on from a state needs time to start and to read one, to write the next, and a
        minute of work; what does not needs all of its time.
        """
        own, need = self._job(rule, wildcards)
        least = self.whole(own, need)
        if need.state_seconds is not None:
            least = min(least, math.ceil(own.runtime + need.state_seconds / 60) + 1)
        return least + self.following(rule, wildcards)

    # --- a site's limit ---

    def retries(self, rule: str) -> int | None:
        """Attempts after the first that any job of a rule needs under the limit, and SPARE.

        None without a limit, which leaves it to the profile.
        """
        if self.limit is None:
            return None
        most = 1
        for names in jobs_of(rule, self.catalogue):
            own, need = self._job(rule, names)
            lost = own.runtime + (need.state_seconds or 0) / 60  # to start, to read and write
            room = self.limit - self.following(rule, names) - lost
            if room > 0 and self.whole(own, need) > room + lost:
                most = max(most, math.ceil((self.whole(own, need) - own.runtime) / room))
        return most - 1 + SPARE

    def beyond_limit(self) -> str | None:
        """One line that names the jobs which cannot be done within the limit, if there are any."""
        if self.limit is None:
            return None
        found: dict[str, int] = {}
        for rule in STAGES.keys() - FOLLOWING:
            for names in jobs_of(rule, self.catalogue):
                least, key = self.least(rule, names), f"{rule} of {names.model}"
                if least > self.limit:
                    found[key] = max(found.get(key, 0), least)
        told = ", ".join(f"{key} ({found[key]} minutes)" for key in sorted(found))
        return (
            f"resources.limit is {self.limit} minutes; more is needed by {told}" if told else None
        )

    # --- of a stage ---

    def resources(self, stage: Stage, wildcards: Any) -> Resources:
        if not isinstance(stage, str):
            return stage(wildcards.model)
        if stage in SIZED:
            return self.catalogue.sized(stage, wildcards.model)
        return getattr(self.catalogue.settings.resources, stage)

    def _job(self, rule: str, wildcards: Any) -> tuple[Resources, Need]:
        """What a job asks for and needs, by its rule alone."""
        stage: Stage = STAGES[rule]
        if rule == "perturb_gaussian":
            stage = self.catalogue.perturbation_resources
        own = self.resources(stage, wildcards)
        return own, self.estimator.need(rule, wildcards, own.gpu)

    def _of(self, stage: Stage, key: str) -> Asked:
        if isinstance(stage, str) and stage not in SIZED:
            return getattr(getattr(self.catalogue.settings.resources, stage), key)
        return inspected(lambda wildcards: getattr(self.resources(stage, wildcards), key))


def inspected(function: Callable[..., int]) -> Callable[..., int]:
    """The function, which Snakemake need not inspect anew for each of thousands of jobs."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return function

"""How long a job's work takes, and so what it asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from overtrain.config.catalogue import Catalogue
from overtrain.planning.calibration import NOTHING, Calibration
from overtrain.planning.work import MB, RULES, Wildcards, Work

# Wildcards that jobs of the same cost share.
SHARED = ("corpus", "part", "encoder", "model", "task", "recipe")
POINTS = ("pretrain", "download_checkpoint")  # rules whose cost also depends on the checkpoint
ALL = (*SHARED, "checkpoint")


@dataclass(frozen=True)
class Need:
    """What one job needs, before any margin.

    seconds: on its GPUs, of work alone; disk_mb: its outputs and what lies beside them while it
    runs; state_seconds: to write and to read a state, None for a job that starts anew each time.
    """

    work: Work
    seconds: float
    disk_mb: int
    state_seconds: float | None


@dataclass(frozen=True)
class Estimator:
    """Needs of jobs by rule and wildcards; each is computed once for all jobs that share it."""

    catalogue: Catalogue
    calibration: Calibration = NOTHING
    _known: dict[tuple, Need] = field(default_factory=dict, repr=False)

    @cached_property
    def hardware(self) -> Any:
        return self.catalogue.settings.hardware

    def need(self, rule: str, names: Wildcards, gpus: int) -> Need:
        """names: the wildcards; every run costs the same, and mostly every checkpoint."""
        own = vars(names)
        keys = ALL if rule in POINTS else SHARED
        key = (rule, gpus, *(own.get(name) for name in keys))
        if key not in self._known:
            self._known[key] = self._need(rule, names, gpus)
        return self._known[key]

    def _need(self, rule: str, names: Wildcards, gpus: int) -> Need:
        work = RULES[rule](self.catalogue, names) if rule in RULES else Work()
        state = None if work.whole else 2 * work.state / self.hardware.disk
        return Need(work, self.seconds(work, gpus), math.ceil(work.disk / MB), state)

    def seconds(self, work: Work, gpus: int) -> float:
        """On so many GPUs: products, or what bounds them, shared by all; the rest one by one."""
        own, devices = self.hardware, max(1, gpus)
        beside = work.host / own.noise + work.tokenised / own.tokenise
        beside += work.moved / own.disk + work.downloaded / own.network
        if not work.kind:
            return beside
        reading = self.reading(work, gpus)
        if work.kind == "decoding":
            return beside + reading / devices
        if measured := self.calibration.rate(work.kind, work.model, gpus):
            return beside + (work.flops / measured + reading) / devices
        rate = getattr(own, work.precision) * getattr(own.utilisation, work.kind)
        traffic = work.traffic / (own.bandwidth * own.utilisation.memory)
        return beside + (work.flops / rate + traffic + reading) / devices

    def reading(self, work: Work, gpus: int) -> float:
        """Seconds of one GPU that generation reads weights and its cache in."""
        if measured := self.calibration.rate("decoding", work.model, gpus):
            return work.decoded / measured
        rate = self.hardware.bandwidth * self.hardware.utilisation.decoding
        return max(work.decoded / rate, work.layers * self.hardware.layer_seconds)

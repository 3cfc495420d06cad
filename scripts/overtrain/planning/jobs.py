"""Jobs of a plan: what Snakemake says of them, and groups as a cluster holds them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from types import SimpleNamespace


@dataclass(frozen=True)
class Planned:
    """One job; `after`: numbers of those whose outputs it reads; minutes: of its first attempt."""

    number: int
    rule: str
    names: dict[str, str]
    after: tuple[int, ...] = ()
    to_do: bool = True
    gpus: int = 0
    minutes: int = 0
    disk_mb: int = 0
    priority: float = 0
    local: bool = False
    group: object = None
    benchmark: str | None = None

    @property
    def wildcards(self) -> SimpleNamespace:
        return SimpleNamespace(**self.names)


@dataclass(frozen=True)
class Unit:
    """What a scheduler sees: a job or a group of jobs, level after level.

    Of a level the GPUs add up and the longest counts; a unit holds the GPUs of its widest level for
    the time of all.
    """

    levels: tuple[tuple[Planned, ...], ...]

    @property
    def jobs(self) -> tuple[Planned, ...]:
        return tuple(job for level in self.levels for job in level)

    @cached_property
    def gpus(self) -> int:
        return max(sum(job.gpus for job in level) for level in self.levels)

    @cached_property
    def minutes(self) -> int:
        return sum(max(job.minutes for job in level) for level in self.levels)

    @property
    def asked(self) -> float:
        """GPU-hours that it holds, of the first attempt."""
        return self.gpus * self.minutes / 60

    @property
    def title(self) -> str:
        """Its rules, and the names that its jobs share."""
        rules = " + ".join(dict.fromkeys(job.rule for job in self.jobs))
        return " ".join([rules, *self.jobs[0].names.values()])


@dataclass(frozen=True)
class Jobs:
    """All jobs of a plan, also those that are done."""

    all: list[Planned] = field(default_factory=list)

    @cached_property
    def to_do(self) -> list[Planned]:
        return [job for job in self.all if job.to_do]

    @cached_property
    def by_number(self) -> dict[int, Planned]:
        return {job.number: job for job in self.all}

    @cached_property
    def ordered(self) -> list[Planned]:
        """Those that are to be done, each after what it needs."""
        left = {job.number: {n for n in job.after if self.by_number[n].to_do} for job in self.to_do}
        readers = defaultdict(list)
        for number, needs in left.items():
            for need in needs:
                readers[need].append(number)
        ready = [number for number, needs in left.items() if not needs]
        order = []
        while ready:
            number = ready.pop()
            order.append(self.by_number[number])
            for reader in readers[number]:
                left[reader].discard(number)
                if not left[reader]:
                    ready.append(reader)
        return order

    @cached_property
    def units(self) -> list[Unit]:
        """Groups, and jobs that are in none."""
        members = defaultdict(list)
        for job in self.ordered:
            members[job.group if job.group is not None else ("job", job.number)].append(job)
        return [Unit(levels(jobs)) for jobs in members.values()]


def levels(jobs: list[Planned]) -> tuple[tuple[Planned, ...], ...]:
    """Jobs of a group, in an order in which each comes after its needs, by their depth in it."""
    depth: dict[int, int] = {}
    for job in jobs:
        depth[job.number] = 1 + max((depth[n] for n in job.after if n in depth), default=-1)
    found: list[list[Planned]] = [[] for _ in range(max(depth.values()) + 1)]
    for job in jobs:
        found[depth[job.number]].append(job)
    return tuple(tuple(level) for level in found)

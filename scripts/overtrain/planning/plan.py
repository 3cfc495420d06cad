"""The plan: GPU-hours that are expected, asked for and spent, by figure, by rule and in total."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from overtrain.planning.asked import Ask
from overtrain.planning.jobs import Jobs, Planned, Unit
from overtrain.planning.schedule import Cost, Schedule, schedule
from overtrain.planning.spent import seconds_of
from overtrain.planning.stages import STAGES

KINDS = {  # of work, for people: the rules of each
    "pre-training": ("pretrain",),
    "fine-tuning": ("finetune",),
    "instruction tuning": ("finetune_instruct",),
    "visual tuning": ("align_projector", "finetune_vision"),
    "judge": ("evaluate_alpaca",),
}
EVALUATION = "evaluation"  # what is of no other kind
DRAWN = {"figure": "figure", "table": "table"}  # rules of targets, and the wildcard of their name
HOUR, GB = 3600, 1e9


@dataclass
class Row:
    """A rule, or figures of the same jobs. Hours are GPU-hours, sizes bytes.

    spent and expected_done: of jobs that have run; alone is all that figures need, `own` what no
    other figure needs: without them so much less.
    """

    name: str
    jobs: int = 0
    expected: float = 0
    asked: float = 0
    own_expected: float = 0
    own_asked: float = 0
    most_gpus: int = 0
    most_minutes: int = 0
    limit: int = 0
    kept: float = 0
    downloaded: float = 0
    done: int = 0
    spent: float = 0
    expected_done: float = 0
    members: list[str] = field(default_factory=list)
    by_kind: dict[str, float] = field(default_factory=dict)  # expected GPU-hours


@dataclass(frozen=True)
class Plan:
    jobs: Jobs
    ask: Ask
    disk_mb: int | None = None  # that running jobs may ask for together
    root: Path = Path()

    @cached_property
    def costs(self) -> dict[int, Cost]:
        """Of every job, also of those that are done."""
        return {job.number: self._cost(job) for job in self.jobs.all}

    def _cost(self, job: Planned) -> Cost:
        estimator = self.ask.estimator
        need = estimator.need(job.rule, job.wildcards, job.gpus)
        start = estimator.hardware.start_seconds if need.work.kind else 0
        return Cost(need.work, need.seconds, need.seconds + start)

    def expected(self, job: Planned) -> float:
        """GPU-hours of the job's work."""
        return job.gpus * self.costs[job.number].seconds / HOUR

    @cached_property
    def asked(self) -> dict[int, float]:
        """GPU-hours of each job to do, as its group holds them: shares of it by minutes."""
        found = {}
        for unit in self.jobs.units:
            minutes = sum(job.minutes for job in unit.jobs) or 1
            for job in unit.jobs:
                found[job.number] = unit.asked * job.minutes / minutes
        return found

    @cached_property
    def spent(self) -> dict[int, float]:
        """GPU-hours of each job with a benchmark file: its seconds, times the GPUs it asked for."""
        found = {}
        for job in self.jobs.all:
            if job.benchmark and (path := self.root / job.benchmark).exists():
                found[job.number] = job.gpus * seconds_of(path) / HOUR
        return found

    # --- tables ---

    @cached_property
    def rules(self) -> list[Row]:
        """By rule, the most expensive first."""
        rows = {job.rule: Row(job.rule) for job in self.jobs.all if job.benchmark}
        for job in self.jobs.all:
            if row := rows.get(job.rule):
                self._count(row, job)
        return sorted(rows.values(), key=lambda row: (-row.asked, -row.expected, -row.jobs))

    @cached_property
    def total(self) -> Row:
        row = Row("total")
        for job in self.jobs.all:
            if job.benchmark:
                self._count(row, job)
        return row

    def _count(self, row: Row, job: Planned) -> None:
        work = self.costs[job.number].work
        row.kept += work.kept
        if job.number in self.spent:
            row.done += 1
            row.spent += self.spent[job.number]
            row.expected_done += self.expected(job)
        if job.to_do:
            row.jobs += 1
            row.expected += self.expected(job)
            kind = next((k for k, rules in KINDS.items() if job.rule in rules), EVALUATION)
            row.by_kind[kind] = row.by_kind.get(kind, 0) + self.expected(job)
            row.asked += self.asked[job.number]
            row.most_gpus = max(row.most_gpus, job.gpus)
            row.most_minutes = max(row.most_minutes, job.minutes)
            row.limit = max(row.limit, self.limit(job))
            row.downloaded += work.downloaded

    def limit(self, job: Planned) -> int:
        """The shortest time limit, in minutes, under which a cluster's job can be done."""
        if job.local:
            return 0
        return self.ask.least(job.rule, job.wildcards) if job.rule in STAGES else job.minutes

    @cached_property
    def figures(self) -> list[Row]:
        """Figures and tables; those that need the same GPU jobs are one row."""
        targets = [job for job in self.jobs.all if job.rule in DRAWN]
        of_jobs: dict[frozenset[int], list[Planned]] = defaultdict(list)
        for target in targets:
            of_jobs[frozenset(self._needed(target))].append(target)
        users: dict[int, int] = defaultdict(int)
        for needed in of_jobs:
            for number in needed:
                users[number] += 1
        rows = []
        for needed, own in of_jobs.items():
            names = [title(job) for job in own]
            row = Row(shortened(names), members=names)
            for job in (self.jobs.by_number[number] for number in needed):
                self._count(row, job)
                if users[job.number] == 1:
                    row.own_expected += self.expected(job)
                    row.own_asked += self.asked[job.number]
            rows.append(row)
        return sorted(rows, key=lambda row: (-row.asked, row.name))

    def _needed(self, target: Planned) -> Iterable[int]:
        """Numbers of the jobs with GPUs that a target waits for, and are still to be done."""
        seen, left = {target.number}, [target.number]
        while left:
            job = self.jobs.by_number[left.pop()]
            if job.to_do and job.rule in STAGES:
                yield job.number
            fresh = set(job.after) - seen
            seen |= fresh
            left += fresh

    @property
    def largest(self) -> Unit | None:
        """The job or group that asks for the most GPU-hours."""
        return max(self.jobs.units, key=lambda unit: (unit.asked, unit.minutes), default=None)

    # --- time and disk ---

    @property
    def there(self) -> float:
        """Bytes that are kept of jobs which are done."""
        return sum(self.costs[job.number].work.kept for job in self.jobs.all if not job.to_do)

    def schedules(self, gpus: Iterable[int]) -> dict[int, Schedule | None]:
        own = (self.jobs, self.costs)
        return {count: schedule(*own, count, self.disk_mb, self.there) for count in gpus}


def title(job: Planned) -> str:
    """As a person asks for it: fig05, amuro_char_fig05."""
    name, paper = job.names[DRAWN[job.rule]], job.names["paper"]
    return name if paper == "overtrained" else f"{paper}_{name}"


def shortened(names: list[str], most: int = 4) -> str:
    """The first names, and how many more."""
    more = len(names) - most
    names = sorted(names)
    return ", ".join(names) if more <= 1 else f"{', '.join(names[:most])} and {more} more"

"""How long a plan takes on so many GPUs, and the disk it takes meanwhile: list scheduling.

Whenever something ends, what is ready starts as far as GPUs and disk suffice: by Snakemake's
priority, then the longest remaining path first (Graham 1969: at most twice the shortest schedule,
with jobs of one GPU and no priorities). Queues, failed
attempts and the borders of nodes are not in it. Downloads come one after the other. What needs no
GPU always has a place.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass

from overtrain.planning.jobs import Jobs, Unit
from overtrain.planning.work import Work


@dataclass(frozen=True)
class Cost:
    """Of one job: its work, seconds of it, and seconds from its start to its end."""

    work: Work
    seconds: float
    wall: float


@dataclass(frozen=True)
class Schedule:
    """peak: bytes on the disk at most, what was there before among them."""

    gpus: int
    seconds: float
    peak: float


@dataclass(frozen=True)
class Load:
    """What a unit takes while it runs; units of the same load fit or do not fit together."""

    gpus: int
    disk_mb: float  # that it asks for
    downloads: bool


@dataclass(frozen=True)
class Piece:
    """A unit with its costs. needs: places of the pieces before it; bytes as in `Work`."""

    load: Load
    priority: float
    seconds: float
    needs: frozenset[int]
    removes: frozenset[int]  # pieces whose temporary outputs it reads, itself among them
    kept: float
    temporary: float
    scratch: float


def pieces_of(jobs: Jobs, costs: dict[int, Cost], disk_mb: int | None) -> list[Piece]:
    bound = float("inf") if disk_mb is None else disk_mb
    place_of = {job.number: place for place, unit in enumerate(jobs.units) for job in unit.jobs}
    found = []
    for place, unit in enumerate(jobs.units):
        before = {n for job in unit.jobs for n in job.after if n in place_of}
        reads = {place_of[n] for n in before if costs[n].work.temporary}
        works = [costs[job.number].work for job in unit.jobs]
        found.append(
            Piece(
                Load(unit.gpus, min(bound, disk_of(unit)), any(w.downloaded for w in works)),
                max(job.priority for job in unit.jobs),
                sum(max(costs[job.number].wall for job in level) for level in unit.levels),
                frozenset(place_of[n] for n in before) - {place},
                frozenset(reads | {place}),
                *(
                    sum(getattr(w, part) for w in works)
                    for part in ("kept", "temporary", "scratch")
                ),
            )
        )
    return found


def disk_of(unit: Unit) -> float:
    """MB that a unit asks for: of its widest level, as Snakemake has it."""
    return max(sum(job.disk_mb for job in level) for level in unit.levels)


def schedule(
    jobs: Jobs, costs: dict[int, Cost], gpus: int, disk_mb: int | None = None, there: float = 0
) -> Schedule | None:
    """None if a unit asks for more GPUs than there are.

    disk_mb: that all running units may ask for together; there: bytes that are kept already.
    """
    pieces = pieces_of(jobs, costs, disk_mb)
    if any(piece.load.gpus > gpus for piece in pieces):
        return None
    readers: dict[int, list[int]] = defaultdict(list)
    for place, piece in enumerate(pieces):
        for need in piece.needs:
            readers[need].append(place)
    unread = [0] * len(pieces)
    for piece in pieces:
        for other in piece.removes:
            unread[other] += 1
    paths = remaining(pieces, readers)
    waiting = [len(piece.needs) for piece in pieces]
    rank = [(-piece.priority, -path) for piece, path in zip(pieces, paths, strict=True)]
    ready: dict[Load, list[tuple[tuple[float, float], int]]] = defaultdict(list)
    for place, count in enumerate(waiting):
        if not count:
            heapq.heappush(ready[pieces[place].load], (rank[place], place))
    running: list[tuple[float, int]] = []
    now, free, held, downloads = 0.0, gpus, 0.0, 0
    disk = peak = there

    def fits(load: Load) -> bool:
        room = disk_mb is None or not held or held + load.disk_mb <= disk_mb
        return load.gpus <= free and room and not (load.downloads and downloads)

    while any(ready.values()) or running:
        while heads := [(own[0], load) for load, own in ready.items() if own and fits(load)]:
            (_, place), load = min(heads, key=lambda head: head[0])
            heapq.heappop(ready[load])
            piece = pieces[place]
            free, held, downloads = (
                free - load.gpus,
                held + load.disk_mb,
                downloads + load.downloads,
            )
            disk += piece.kept + piece.temporary + piece.scratch
            heapq.heappush(running, (now + piece.seconds, place))
        peak = max(peak, disk)
        now, place = heapq.heappop(running)
        piece, load = pieces[place], pieces[place].load
        free, held, downloads = free + load.gpus, held - load.disk_mb, downloads - load.downloads
        disk -= piece.scratch
        for other in piece.removes:
            unread[other] -= 1
            disk -= 0 if unread[other] else pieces[other].temporary
        for reader in readers[place]:
            waiting[reader] -= 1
            if not waiting[reader]:
                heapq.heappush(ready[pieces[reader].load], (rank[reader], reader))
    return Schedule(gpus, now, peak)


def remaining(pieces: list[Piece], readers: dict[int, list[int]]) -> list[float]:
    """Seconds from the start of each piece to the end of the longest chain that it begins."""
    left = [len(readers[place]) for place in range(len(pieces))]
    paths = [piece.seconds for piece in pieces]
    ends = [place for place, count in enumerate(left) if not count]
    while ends:
        place = ends.pop()
        for need in pieces[place].needs:
            paths[need] = max(paths[need], pieces[need].seconds + paths[place])
            left[need] -= 1
            if not left[need]:
                ends.append(need)
    return paths

"""How much of the demo's job time is start-up, imports and Snakemake rather than the work itself.

    time make demo
    python tools/benchmarks/demo_overhead.py --wall 480 --threads build_corpus=2

A job's wall time is Snakemake's, from its benchmark file; its work is what the last line of its log
says, which leaves out the start of Python and the imports, and the most memory is there too. With
--wall (the seconds that `time` told), also the share of all core-seconds that is not work:
Snakemake itself and idle cores count there.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections import defaultdict
from pathlib import Path

Job = tuple[float, float, float]  # seconds of wall time and of work, most MB
WORK = re.compile(r"work: ([0-9.]+) s, at most ([0-9]+) MB\s*\Z")


def read(results: Path) -> tuple[dict[str, list[Job]], list[Path]]:
    """Each job by rule, and the benchmark files whose log tells no work."""
    folder = results / "benchmarks"
    files = sorted(folder.rglob("*.tsv"))
    if not files:
        sys.exit(f"error: {folder}: no benchmark files; run `make demo` first")
    jobs, silent = defaultdict(list), []
    for path in files:
        name = path.relative_to(folder)
        log = (results / "logs" / name).with_suffix("").with_name(f"{path.stem}.log")
        found = WORK.search(log.read_text(errors="replace")) if log.exists() else None
        if not found:
            silent.append(path)
            continue
        with path.open() as file:
            wall = float(next(csv.DictReader(file, delimiter="\t"))["s"])
        jobs[name.parts[0]].append((wall, float(found[1]), float(found[2])))
    return jobs, silent


def line(name: str, jobs: list[Job]) -> str:
    """A row of the table."""
    wall, work, memory = zip(*jobs, strict=True)
    wall, work = sum(wall), sum(work)
    cells = (name, len(jobs), f"{wall:,.1f}", f"{work:,.1f}", f"{1 - work / wall:.0%}")
    return f"| {' | '.join(map(str, (*cells, f'{max(memory):,.0f}')))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--wall", type=float, help="seconds that the whole workflow took")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument(
        "--threads",
        action="append",
        default=[],
        metavar="RULE=N",
        help="a rule whose jobs take more than one core",
    )
    options = parser.parse_args()
    threads = {rule: int(n) for rule, n in (entry.split("=") for entry in options.threads)}
    jobs, silent = read(options.results)
    if silent:
        print(f"{len(silent)} jobs tell no work and are left out: {silent[0]} ...", file=sys.stderr)
    if not jobs:
        sys.exit("error: no log ends with a line `work: ... s`")
    print(
        "| rule | jobs | wall, s | work, s | overhead | most MB |\n|---|---:|---:|---:|---:|---:|"
    )
    for rule, own in sorted(jobs.items()):
        print(line(rule, own))
    print(line("**all**", [job for own in jobs.values() for job in own]))
    if options.wall:
        total = options.wall * options.cores
        work = sum(threads.get(rule, 1) * w for rule, own in jobs.items() for _, w, _ in own)
        print(
            f"\nOf {total:,.0f} core-seconds ({options.wall:,.0f} s on {options.cores} cores), "
            f"{work:,.0f} were work; {1 - work / total:.0%} were not."
        )


if __name__ == "__main__":
    main()

"""The plan for people: a page, its tables as Markdown and CSV, and one picture."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from overtrain.planning.plan import EVALUATION, GB, KINDS, Plan, Row
from overtrain.planning.schedule import Schedule
from overtrain.records.provenance import whole_file

DAY = 86400
# Okabe and Ito (2008), one for each kind of work.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")

Cells = Sequence[Sequence[str]]


def assumed(plan: Plan) -> str:
    """The first line: what the estimate rests on."""
    own, measured = plan.ask.estimator.hardware, plan.ask.calibration
    if measured.pieces:
        kinds = ", ".join(dict.fromkeys(piece.kind for piece in measured.pieces))
        return f"speeds measured on {measured.device} ({kinds}); the rest assumed of {own.gpu}"
    return (
        f"speeds assumed of {own.gpu}: {own.utilisation.pretraining:.0%} of {own.bf16:.3g} FLOP/s "
        "in pre-training; python tools/calibrate measures them"
    )


def summary(plan: Plan) -> list[str]:
    total, unit = plan.total, plan.largest
    lines = [
        assumed(plan),
        f"{total.jobs:,} jobs to do. GPU-hours: {total.expected:,.1f} expected, "
        f"{total.asked:,.1f} asked for by first attempts.",
    ]
    if unit and unit.gpus:
        lines.append(
            f"The largest job asks for {unit.gpus} GPUs for {unit.minutes:,} minutes, "
            f"{unit.asked:,.1f} GPU-hours: {unit.title}."
        )
    lines.append(
        f"Downloads: {total.downloaded / GB:,.1f} GB. "
        f"On the disk in the end: {total.kept / GB:,.1f} GB."
    )
    if total.done:
        lines.append(
            f"Spent by {total.done:,} jobs that have run: {total.spent:,.2f} GPU-hours, where "
            f"{total.expected_done:,.2f} were expected."
        )
    return lines


def schedules_table(schedules: dict[int, Schedule | None]) -> list[list[str]]:
    rows = [["GPUs", "time", "most disk, GB"]]
    for gpus, own in schedules.items():
        cells = [duration(own.seconds), f"{own.peak / GB:,.1f}"] if own else ["too few", ""]
        rows.append([f"{gpus:,}", *cells])
    return rows


def rules_table(rows: Iterable[Row], spent: bool) -> list[list[str]]:
    head = [
        "rule",
        "jobs",
        "expected",
        "asked",
        "GPUs",
        "minutes",
        "limit",
        "kept, GB",
        "download, GB",
    ]
    cells = [head + (["done", "spent", "expected of them"] if spent else [])]
    for row in rows:
        own = [row.name, f"{row.jobs:,}", hours(row.expected), hours(row.asked), f"{row.most_gpus}"]
        own += [f"{row.most_minutes:,}", f"{row.limit:,}" if row.limit else ""]
        own += [size(row.kept), size(row.downloaded)]
        done = [f"{row.done:,}", hours(row.spent), hours(row.expected_done)]
        cells.append(own + (done if spent else []))
    return cells


def figures_table(rows: Iterable[Row], spent: bool) -> list[list[str]]:
    head = ["figures and tables", "jobs", "expected", "asked", "own expected", "own asked"]
    cells = [head + (["done", "spent"] if spent else [])]
    for row in rows:
        own = [row.name, f"{row.jobs:,}", hours(row.expected), hours(row.asked)]
        own += [hours(row.own_expected), hours(row.own_asked)]
        cells.append(own + ([f"{row.done:,}", hours(row.spent)] if spent else []))
    return cells


def duration(seconds: float) -> str:
    """In the largest unit that there is one of."""
    units = {"days": DAY, "hours": 3600, "minutes": 60}
    name = next((name for name, size in units.items() if seconds >= size), "minutes")
    return f"{seconds / units[name]:,.1f} {name}"


def hours(value: float) -> str:
    return f"{value:,.1f}" if value >= 0.05 else f"{value:.2g}" if value else ""


def size(value: float) -> str:
    return f"{value / GB:,.1f}" if value >= GB / 20 else ""


EXPLAINED = {
    "rules": "GPU-hours; GPUs and minutes of the largest first attempt; limit: the least minutes "
    "that a site must let the longest job run.",
    "figures": "GPU-hours if these alone were made, and of jobs that no other row needs (own): "
    "without them so much less.",
}


def sections(plan: Plan, schedules: dict[int, Schedule | None], spent: bool) -> list[tuple]:
    """(words above, cells) of each table."""
    kept = [row for row in plan.rules if row.jobs or row.done]
    found: list[tuple] = [("", schedules_table(schedules))] if schedules else []
    found.append((EXPLAINED["rules"], rules_table([*kept, plan.total], spent)))
    if plan.figures:
        found.append((EXPLAINED["figures"], figures_table(plan.figures, spent)))
    return found


def page(plan: Plan, schedules: dict[int, Schedule | None], spent: bool) -> str:
    """For the terminal."""
    parts = ["\n".join(summary(plan))]
    for words, cells in sections(plan, schedules, spent):
        parts.append("\n".join(filter(None, [words, aligned(cells)])))
    return "\n\n".join(parts)


def aligned(cells: Cells) -> str:
    """The first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )


def markdown(plan: Plan, schedules: dict[int, Schedule | None], spent: bool) -> str:
    parts = ["\n".join(f"- {line}" for line in summary(plan))]
    for words, cells in sections(plan, schedules, spent):
        rule = ["---"] + ["---:"] * (len(cells[0]) - 1)
        lines = [f"| {' | '.join(row)} |" for row in (cells[0], rule, *cells[1:])]
        parts.append("\n".join([*([words, ""] if words else []), *lines]))
    return "\n\n".join(parts) + "\n"


# --- files ----------------------------------------------------------------------------------------

NUMBERS = "jobs expected asked own_expected own_asked most_gpus most_minutes limit kept downloaded"
NUMBERS += " done spent expected_done"


def write(plan: Plan, schedules: dict[int, Schedule | None], spent: bool, stem: Path) -> list[Path]:
    """stem.md, .rules.csv, .figures.csv, .pdf and .png; their paths."""
    paths = [stem.with_name(f"{stem.name}.{end}") for end in ("md", "rules.csv", "figures.csv")]
    with whole_file(paths[0]) as temporary:
        Path(temporary).write_text(markdown(plan, schedules, spent))
    for path, rows in zip(paths[1:], (plan.rules, plan.figures), strict=True):
        with whole_file(path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["name", *NUMBERS.split(), "members"])
            for row in rows:
                numbers = [getattr(row, name) for name in NUMBERS.split()]
                writer.writerow([row.name, *numbers, " ".join(row.members)])
    return paths + picture(plan, stem)


def picture(plan: Plan, stem: Path) -> list[Path]:
    """GPU-hours that figures expect, by kind of work, and ask for; none where there are none."""
    rows = [row for row in plan.figures if row.expected][::-1] or [plan.total]
    if not plan.total.expected:
        return []
    from overtrain.figures.drawing.axes import plt

    figure, axis = plt.subplots(figsize=(7.5, 1.2 + 0.24 * len(rows)), layout="constrained")
    left = [0.0] * len(rows)
    for kind, colour in zip((*KINDS, EVALUATION), COLOURS, strict=True):
        widths = [row.by_kind.get(kind, 0) for row in rows]
        if any(widths):
            names = [row.name for row in rows]
            axis.barh(names, widths, left=left, color=colour, label=f"{kind}, expected")
            left = [a + b for a, b in zip(left, widths, strict=True)]
    asked = [row.asked for row in rows]
    axis.plot(asked, range(len(rows)), "|", color="black", markersize=9, label="asked for")
    for place, row in enumerate(rows):
        axis.annotate(
            f" {row.expected:,.0f} of {row.asked:,.0f}",
            (max(row.asked, row.expected), place),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize="x-small",
        )
    axis.set(xlabel="GPU-hours, if made alone: expected of asked for")
    axis.set(xlim=(0, 1.15 * max(asked)), ylim=(-0.7, len(rows) - 0.3))
    axis.legend(loc="lower right", frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    paths = [stem.with_name(f"{stem.name}.{end}") for end in ("pdf", "png")]
    for path in paths:
        with whole_file(path) as temporary:
            plain = {"CreationDate": None, "ModDate": None} if path.suffix == ".pdf" else None
            figure.savefig(temporary, format=path.suffix[1:], dpi=200, metadata=plain)
    plt.close(figure)
    return paths

"""Made-up measurements whose means, changes and cuts are known, and figures of them."""

import math
from itertools import product
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from overtrain.figures import plots
from overtrain.figures.kinds import FIGURES
from overtrain.records.measurements import SCHEMA

MODELS = ["large", "small"]
TASKS = ["first", "second"]
SUFFIXES = ("csv", "pdf", "png")
BASES = {"1M": (1_000_000, 0, 10.0), "1M-seed1": (1_000_000, 1, 14.0), "2M": (2_000_000, 0, 8.0)}


def frame(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=SCHEMA.names)


def checkpoint(name: str, model: str = "large") -> dict:
    tokens, seed, _ = BASES[name]
    return {"model": model, "checkpoint": name, "tokens": tokens, "pretraining_seed": seed}


def score(where: dict, perplexity: float) -> list[dict]:
    """Perplexity and loss; NaN for a diverged run."""
    return [
        where | {"metric": "perplexity", "value": perplexity},
        where | {"metric": "loss", "value": math.log(perplexity)},
    ]


def sweep(
    values: dict[tuple, float], evaluation: str = "c4", split: str = "held_out", **where: str
) -> list[dict]:
    """Rows of {(checkpoint, rate, seed): perplexity}, with the base of each checkpoint."""
    rows = []
    own = {"task": "first", "evaluation": evaluation, "split": split} | where
    for name in dict.fromkeys(name for name, _, _ in values):
        base = {"selection": "base", "learning_rate": 0.0, "seed": -1}
        rows += score(checkpoint(name) | base | own, BASES[name][2])
    for (name, rate, seed), value in values.items():
        run = {"selection": "best", "learning_rate": rate, "seed": seed}
        rows += score(checkpoint(name) | run | own, value)
    return rows


def noise(values: dict[tuple, float], **where: str | None) -> list[dict]:
    """Rows of {(checkpoint, gamma, seed): perplexity}, with the base of each checkpoint."""
    rows = sweep(values, task=None, **where)
    for row in rows:
        row["gamma"] = row.pop("learning_rate")
        row["selection"] = row["selection"].replace("best", "noise")
    return rows


def sharp(values: dict[tuple, float], half: float = 2.0, **where: str) -> list[dict]:
    """Rows of {(checkpoint, gamma, seed): loss change}; a curvature of `half` for each draw."""
    own = {"evaluation": "c4", "split": "held_out", "selection": "noise"} | where
    draws = dict.fromkeys((name, seed) for name, _, seed in values)
    rows = [
        checkpoint(name) | own | {"seed": seed, "metric": "half_curvature", "value": half + seed}
        for name, seed in draws
    ]
    for (name, gamma, seed), value in values.items():
        draw = checkpoint(name) | own | {"gamma": gamma, "seed": seed}
        rows.append(draw | {"metric": "loss_change", "value": value})
    return rows


def settings(plot: str, **more: object) -> dict:
    """What `catalogue.figure_slice` gives a figure of one model and task."""
    rows = [{"evaluation": "c4", "quantity": "change"}]
    names = {"large": "Large", "small": "Small", "first": "First", "second": "Second"}
    common = {"title": "A title", "scale": None, "text": "C4", "titles": names, "plot": plot}
    common |= {"models": ["large"], "tasks": ["first"], "rows": rows, "panels": ["change"]}
    return common | more


def shown(data: list[dict], plot: str, **more: object) -> tuple[Figure, pd.DataFrame]:
    """A figure and the table of what is on it."""
    return FIGURES[plot].draw(frame(data), settings(plot, **more))


def drawn(data: list[dict], plot: str, **more: object) -> pd.DataFrame:
    return shown(data, plot, **more)[1]


def points(table: pd.DataFrame, by: str, column: str = "mean") -> dict[tuple, float]:
    return {(r[by], r["tokens"]): r[column] for r in table.to_dict("records")}


def distances(values: dict[tuple, float]) -> list[dict]:
    more = {"task": "first", "selection": "best", "metric": "l2_distance"}
    return [
        checkpoint(name) | more | {"learning_rate": rate, "seed": seed, "value": value}
        for (name, rate, seed), value in values.items()
    ]


def many(plot: str, steps: list[float], value: float | None = None) -> list[dict]:
    """Rows for a kind of plot: `steps` sizes, two budgets, two seeds; all `value` if given."""
    keys = [*product(("1M", "2M"), steps, (0, 1))]
    values = {key: 9 + 0.1 * i if value is None else value for i, key in enumerate(keys)}
    if plot == "noise_by_tokens":
        return noise(values)
    if plot == "sharpness_by_tokens":
        return sharp(values)
    if plot == "distance_by_learning_rate":
        return distances(values)
    return sweep(values) + sweep(values, "id", "test") + sweep(values, "id", "validation")


def written(folder: Path, data: list[dict], **chosen: object) -> pd.DataFrame:
    """Draw to files; the CSV, after a look at the others."""
    pdf = folder / "figure.pdf"
    plots.draw(frame(data), settings(**chosen), pdf)
    assert pdf.read_bytes().startswith(b"%PDF") and pdf.stat().st_size > 3000
    png = pdf.with_suffix(".png").read_bytes()
    assert png.startswith(b"\x89PNG") and len(png) > 3000
    assert {path.name for path in folder.iterdir()} == {f"figure.{s}" for s in SUFFIXES}
    return pd.read_csv(pdf.with_suffix(".csv"))


def assert_same_bytes(data: list[dict], chosen: dict, folder: Path) -> None:
    """Drawn twice, all files of a figure are equal."""
    made = []
    for name in ("one", "two"):
        plots.draw(frame(data), chosen, folder / name / "figure.pdf")
        made.append([path.read_bytes() for path in sorted((folder / name).iterdir())])
    assert len(made[0]) == 3 and made[0] == made[1]

"""Tables of a study of published checkpoints ("Amuro & Char"): data, prompts, gains, transfer."""

from __future__ import annotations

import pandas as pd
from scipy.stats import ttest_1samp

from overtrain.studies.amuro_char import mean_gains, ratios, with_base


def study_tasks(settings: dict, _: pd.DataFrame | None) -> pd.DataFrame:
    """Table 1: what is trained on and evaluated."""
    study = settings["study"]

    def titles(names: list[str]) -> str:
        return ", ".join(study["evaluations"][name]["title"] for name in names) or "none"

    rows = {
        task["title"]: {
            "Training": study["trained_on"][task["trained_on"]],
            "Test in domain": titles(task["in_domain"]),
            "Test out of domain": titles(task["out_of_domain"]),
            "Learning rate": f"{task['learning_rate']:g}",
        }
        for task in study["tasks"]
    }
    return pd.DataFrame(rows).T.rename_axis("Task")


def study_prompts(settings: dict, _: pd.DataFrame | None) -> pd.DataFrame:
    """Table 3: formats of the prompts."""
    rows = {
        task["title"]: task["prompts"] | {"expected output": task["output"]}
        for task in settings["study"]["tasks"]
        if task["prompts"]
    }
    table = pd.DataFrame(rows).T.rename_axis("Task")
    return table.rename(columns=lambda name: name.replace("_", " ").capitalize())


def gains(settings: dict, data: pd.DataFrame) -> pd.DataFrame:
    """Table 5: mean gain of each group of data sets by checkpoint."""
    groups = {group["title"]: group["cells"] for group in settings["groups"]}
    table = mean_gains(with_base(data), groups, settings["checkpoints"])
    return table.set_index("checkpoint").map("{:.3f}".format).rename_axis("Checkpoint")


def transfer(settings: dict, data: pd.DataFrame) -> pd.DataFrame:
    """Section 6.2: the mean ratio of change by direction.

    Cells of one pair of fine-tuning and evaluation data are not independent, so the test against
    zero takes one mean for each pair: t with pairs - 1 degrees of freedom.
    """
    rows = {}
    for direction, cells in by_direction(settings, data).items():
        means = cells.groupby(["task", "evaluation"]).ratio.mean()
        test = ttest_1samp(means, 0)
        low, high = test.confidence_interval()
        others = (cells.ratio.sum() - cells.ratio) / (len(cells) - 1)  # each cell left out
        moves = cells.assign(others=others, moved=(others - cells.ratio.mean()).abs())
        most = moves.loc[moves.moved.idxmax()]
        rows[direction] = {
            "Cells": len(cells),
            "Pairs": len(means),
            "Mean, %": f"{100 * cells.ratio.mean():.2f}",
            "Median, %": f"{100 * cells.ratio.median():.2f}",
            "t": f"{test.statistic:.2f}",
            "p": f"{test.pvalue:.3g}",
            "95 % interval, %": f"{100 * low:.1f} to {100 * high:.1f}",
            "Without one cell, %": f"{100 * others.min():.2f} to {100 * others.max():.2f}",
            "Cell that moves it most": f"{most.task} to {most.evaluation}, {most.checkpoint} "
            f"({100 * most.ratio:+.0f} %): {100 * most.others:.2f} without it",
        }
    return pd.DataFrame(rows).rename_axis("Ratio of change")


def transfer_cells(settings: dict, data: pd.DataFrame) -> pd.DataFrame:
    """The cells of `transfer`: a row for each pair, a column for each checkpoint, percent."""
    tables = []
    for direction, cells in by_direction(settings, data).items():
        wide = cells.pivot_table(
            index=["task", "evaluation"], columns="checkpoint", values="ratio", sort=False
        )
        wide.index = [f"{task} to {evaluation}" for task, evaluation in wide.index]
        tables.append(wide.assign(direction=direction))
    table = pd.concat(tables)
    columns = ["direction", *settings["checkpoints"]]
    percent = table[settings["checkpoints"]].map(lambda ratio: f"{100 * ratio:.2f}")
    return percent.assign(direction=table["direction"])[columns].rename_axis("Pair")


def by_direction(settings: dict, data: pd.DataFrame) -> dict[str, pd.DataFrame]:
    pairs = with_base(data)
    return {
        d["title"]: ratios(pairs, d["tasks"], d["evaluations"], settings["checkpoints"])
        for d in settings["directions"]
    }

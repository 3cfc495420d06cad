"""What an aggregate supports: trend, rise after the minimum, and how sure of each (section 3).

A row for each modification (a gamma, a learning rate, or each checkpoint's tuned rate) of a model,
task, recipe, evaluation and reported split, once on perplexity and once on the loss. A series is
the values over budgets; those of one pre-training seed share initial weights and data order, those
of one fine-tuning (or noise) seed its order of examples (or its draw), so seeds are resampled and
tested whole, never budget by budget.

The trend is that of the CHANGE from the same checkpoint's base, the minimum and its two arms are
those of the modified model ITSELF. docs/statistics.md says what each column is, and how to read it.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from overtrain.records.provenance import seed_of, whole_file

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SERIES = ["model", "task", "recipe", "evaluation", "split"]
IDENTITY = [*SERIES, "modification", "learning_rate", "gamma", "scale"]
INTEGERS = ["budgets", "pretraining_seeds", "seeds", "diverged", "trend_s", "minimum_tokens"]
INTEGERS += ["minimum_tokens_low", "minimum_tokens_high", "family"]
COLUMNS = [*IDENTITY, "budgets", "pretraining_seeds", "seeds", "diverged"]
COLUMNS += ["trend_s", "trend_tau", "trend_p", "trend_p_smallest", "trend_p_holm", "trend_p_by"]
COLUMNS += ["minimum_tokens", "rise", "rise_relative", "fall"]
COLUMNS += ["resampled", "minimum_tokens_low", "minimum_tokens_high", "rise_low", "rise_high"]
COLUMNS += ["share_inside", "share_before_last"]
COLUMNS += ["held_out", "held_out_fall", "held_out_rise", "fall_p", "rise_p", "arms_p_smallest"]
COLUMNS += ["u_p", "u_p_holm", "u_p_by", "family", "trend_agrees", "rise_agrees"]


def write(aggregate: pa.Table, settings: dict | None, path: Path) -> None:
    """Write the statistics of a figure's rows as CSV; without `settings` its header only."""
    with whole_file(path) as temporary:
        if settings is None:
            temporary.write_text(",".join(COLUMNS) + "\n")
            return
        table = statistics(aggregate.to_pandas(), **settings)
        table.to_csv(temporary, index=False, float_format="%.6g")


def statistics(
    data: pd.DataFrame,
    modification: str,
    bootstrap: int,
    level: float,
    evaluations: list[str] | None = None,
) -> pd.DataFrame:
    """The table described above, of the rows that a figure reads.

    modification: noise, fixed or tuned; bootstrap: the number of resamples; level: that of their
    intervals; evaluations: those that the figure shows, if it reads others too.
    """
    import pandas as pd  # not needed where only the header is written

    rows = []
    runs = modified(data, modification)
    resampling = {"bootstrap": bootstrap, "level": level}
    if evaluations is not None:
        runs = runs[runs.evaluation.isin(evaluations)]
    for model, own in runs.groupby("model"):
        base = data[(data.model == model) & (data.selection == "base")]
        tokens, pretraining_seeds = np.unique(base.tokens), np.unique(base.pretraining_seed)
        for identity, group in own.groupby(IDENTITY, dropna=False):
            seeds = np.unique(group.seed)
            place = (
                np.searchsorted(pretraining_seeds, group.pretraining_seed),
                np.searchsorted(seeds, group.seed),
                np.searchsorted(tokens, group.tokens),
            )
            shape = (len(pretraining_seeds), len(seeds), len(tokens))
            values, changes = np.full(shape, np.nan), np.full(shape, np.nan)
            values[place], changes[place] = group.value, group.value - group.base
            named = dict(zip(IDENTITY, identity, strict=True))
            counts = dict(zip(("pretraining_seeds", "seeds", "budgets"), shape, strict=True))
            rows.append(named | counts | {"diverged": int(group.value.isna().sum())})
            if np.isfinite(changes).all():
                rows[-1] |= effects(named, tokens, values, changes, resampling)
    table = pd.DataFrame(rows, columns=COLUMNS)
    return with_agreement(with_correction(table)).astype(dict.fromkeys(INTEGERS, "Int64"))


def modified(data: pd.DataFrame, modification: str) -> pd.DataFrame:
    """Reported rows of modified models, with IDENTITY's columns and their checkpoint's `base`."""
    from overtrain.figures.drawing.summaries import best_rates, scores

    reported = scores(data).rename(columns={"metric": "scale"})
    runs = reported[reported.selection != "base"].assign(modification=modification)
    if modification == "tuned":
        best = best_rates(data)
        runs = runs.merge(best, on=list(best.columns)).assign(learning_rate=np.nan)
    key = [*SERIES, "checkpoint", "scale"]
    base = reported[reported.selection == "base"].drop_duplicates(key)
    base = base[[*key, "value"]].rename(columns={"value": "base"})
    return runs.merge(base, on=key, how="left", validate="many_to_one")


def effects(
    identity: dict, tokens: np.ndarray, values: np.ndarray, changes: np.ndarray, resampling: dict
) -> dict:
    """Columns of one row, from finite (pre-training seeds, seeds, budgets) values and changes."""
    noise = identity["modification"] == "noise"
    kinds = ["pre-training", "noise" if noise else "fine-tuning"]
    several = [kind for kind, n in zip(kinds, values.shape, strict=False) if n > 1]
    curve = values.mean((0, 1))
    lowest = curve.argmin()
    found = {
        **trend(changes.mean(1)),
        "minimum_tokens": tokens[lowest],
        "rise": curve[-1] - curve[lowest],
        "fall": curve[0] - curve[lowest],
    }
    if identity["scale"] == "perplexity":
        found["rise_relative"] = found["rise"] / curve[lowest]
    if several:
        # Perplexity and loss see the same resamples.
        name: list = [None if v != v else v for k, v in identity.items() if k != "scale"]
        generator = np.random.default_rng(seed_of("bootstrap", *name))
        found |= bootstrap(tokens, values, generator, **resampling)
        found["resampled"] = f"{' and '.join(several)} seeds" + " only" * (len(several) == 1)
        found |= arms(values.mean(1) if values.shape[0] > 1 else values[0])
        found["held_out"] = f"{several[0]} seeds"
    return found


# --- trend ----------------------------------------------------------------------------------------


@cache
def null_of_s(budgets: int, series: int) -> tuple[np.ndarray, np.ndarray]:
    """Values of Kendall's S, summed over independent series, and their null probabilities.

    The inversions of a random order of n have the Mahonian distribution, that of a sum of uniforms
    on 0..k-1 for k = 1..n; S is the number of pairs minus twice the inversions.
    """
    one = np.ones(1)
    for k in range(1, budgets + 1):
        one = np.convolve(one, np.full(k, 1 / k))
    null = np.ones(1)
    for _ in range(series):
        null = np.convolve(null, one)
    return len(null) - 1 - 2 * np.arange(len(null)), null


def trend(series: np.ndarray) -> dict:
    """Kendall's S over all series (series, budgets) with its exact p; a tie counts 0."""
    count, budgets = series.shape
    first, later = np.triu_indices(budgets, 1)
    s = int(np.sign(series[:, later] - series[:, first]).sum())
    possible, null = null_of_s(budgets, count)
    return {
        "trend_s": s,
        "trend_tau": s / possible[0] if possible[0] else math.nan,
        "trend_p": min(1.0, null[abs(possible) >= abs(s)].sum()),
        "trend_p_smallest": min(1.0, 2 * null[0]),
    }


# --- the minimum ----------------------------------------------------------------------------------


def bootstrap(
    tokens: np.ndarray,
    values: np.ndarray,
    generator: np.random.Generator,
    bootstrap: int,
    level: float,
) -> dict:
    """Minimum and rise of the mean of (pre-training seeds, seeds, budgets) values, resampled.

    Pre-training seeds are drawn, then seeds within each, every one with all its budgets. A resample
    is how often each series was drawn, so that all of them are one matrix product.
    """
    outer, inner, budgets = values.shape
    first = generator.integers(outer, size=(bootstrap, outer, 1))
    second = generator.integers(inner, size=(bootstrap, outer, inner))
    series = np.arange(bootstrap)[:, None, None] * outer * inner + first * inner + second
    drawn = np.bincount(series.ravel(), minlength=bootstrap * outer * inner)
    weights = drawn.reshape(bootstrap, outer * inner) / (outer * inner)
    curves = weights @ values.reshape(outer * inner, budgets)
    lowest = curves.argmin(1)
    rises = curves[:, -1] - curves.min(1)
    ends = [(1 - level) / 2, (1 + level) / 2]
    places = np.quantile(lowest, ends, method="inverted_cdf")  # budgets, nothing between them
    rise_low, rise_high = np.quantile(rises, ends)
    return {
        "minimum_tokens_low": tokens[places[0]],
        "minimum_tokens_high": tokens[places[1]],
        "rise_low": rise_low,
        "rise_high": rise_high,
        "share_inside": ((lowest > 0) & (lowest < budgets - 1)).mean(),
        "share_before_last": (lowest < budgets - 1).mean(),
    }


def arms(units: np.ndarray) -> dict:
    """Fall to and rise from the minimum that the other units (units, budgets) choose."""
    count = len(units)
    others = (units.sum(0) - units) / (count - 1)
    lowest = np.take_along_axis(units, others.argmin(1)[:, None], 1)[:, 0]
    fall, rise = units[:, 0] - lowest, units[:, -1] - lowest
    fall_p, rise_p = sign_flip(fall), sign_flip(rise)
    return {
        "held_out_fall": fall.mean(),
        "held_out_rise": rise.mean(),
        "fall_p": fall_p,
        "rise_p": rise_p,
        "arms_p_smallest": 0.5**count,
        "u_p": max(fall_p, rise_p),
    }


def sign_flip(values: np.ndarray) -> float:
    """Exact one-sided p of a positive sum: the share of sign patterns with one as large."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return float((sums >= sums[0] - 1e-12 * np.abs(values).sum()).mean())


# --- the whole family -----------------------------------------------------------------------------


def with_correction(table: pd.DataFrame) -> pd.DataFrame:
    """Holm and Benjamini-Yekutieli (valid under any dependence) over all rows of one scale."""
    from statsmodels.stats.multitest import multipletests  # a second of imports

    for (_, own), name in product(table.groupby("scale"), ("trend_p", "u_p")):
        p = own[name].dropna()
        if len(p):
            table.loc[p.index, f"{name}_holm"] = multipletests(p, method="holm")[1]
            table.loc[p.index, f"{name}_by"] = multipletests(p, method="fdr_by")[1]
            table.loc[p.index, "family"] = len(p)
    return table


def with_agreement(table: pd.DataFrame) -> pd.DataFrame:
    """Whether perplexity and loss say the same; empty where one of them has no effects."""
    key = [column for column in IDENTITY if column != "scale"]
    known = table.rise.notna()
    for name, sign in (("trend", np.sign(table.trend_s)), ("rise", (table.rise > 0) * 1)):
        both = table.assign(sign=sign.where(known)).groupby(key, dropna=False).sign
        same = both.transform("min") == both.transform("max")
        table[f"{name}_agrees"] = same.astype("boolean").where(both.transform("count") == 2)
    return table

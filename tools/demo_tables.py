"""Print the demo's numbers as Markdown: `python tools/demo_tables.py` after `make demo`."""

import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parent.parent
FIGURES = ROOT / "results/figures/overtrained"
sys.path.insert(0, str(ROOT / "scripts"))

from overtrain.config.units import tokens_text  # noqa: E402


def table(data: pd.DataFrame, line: str, name: str, highest: bool = False) -> str:
    """Means by token budget, one row for each `line`; 0 is the unmodified model.

    The lowest of a row is in bold, or the highest.
    """
    means = data.pivot(index=line, columns="tokens", values="mean")
    rows = []
    for value, row in means.iterrows():
        label = f"{name} {value:g}" if value else "base"
        best = row.max() if highest else row.min()
        cells = [f"**{v:.2f}**" if v == best else f"{v:.2f}" for v in row]
        rows.append([label, *cells])
    header = ["", *(tokens_text(tokens) for tokens in means.columns)]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def settings() -> str:
    """What the statistics beside Figs 3 and 30, 35 ... 60 say of every size of noise and rate."""
    lines = ["figure", "model", "recipe", "task", "size", "tau", "minimum", "rise"]
    lines = [lines, ["---"] * len(lines)]
    for figure in ("fig03", "fig65", *(f"fig{n}" for n in range(30, 65, 5))):
        path = ROOT / f"results/aggregates/overtrained/{figure}.statistics.csv"
        rows = pd.read_csv(path)
        rows = rows[(rows.scale == "perplexity") & (rows.evaluation == "c4")]
        for r in rows.itertuples():
            noise = r.modification == "noise"
            size = f"gamma {r.gamma:g}" if noise else f"LR {r.learning_rate:g}"
            recipe, task = ("", "") if noise else (r.recipe, r.task)
            cells = [figure, r.model, recipe, task, size, f"{r.trend_tau:.1f}"]
            cells += [tokens_text(r.minimum_tokens), f"{r.rise_relative:.1%}"]
            lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def statements() -> str:
    """The other numbers of docs/demo.md: tuned rises and rates, directions, accuracies."""
    lines = []
    for figure in range(32, 65, 5):
        for task, own in pd.read_csv(FIGURES / f"fig{figure}.csv").groupby("task"):
            means = own.sort_values("tokens")["mean"]
            if (rise := means.iloc[-1] / means.min() - 1) > 0:
                lines.append(f"- fig{figure}, {task}: tuned, rises by {rise:.1%} after its minimum")
    rates = pd.concat(pd.read_csv(FIGURES / f"fig{n}.csv") for n in range(34, 65, 5))
    bound = (rates.bound.fillna("none") != "none").sum()
    lines.append(f"- {bound} of {len(rates)} tuned rates are at an end of their sweep")
    for figure, where in (("fig09", 0.2), ("fig09", -0.2), ("fig10", 1), ("fig10", -1)):
        rows = pd.read_csv(FIGURES / f"{figure}.csv")
        rows = rows[(rows["lambda"] == where) & (rows.panel == "wide")]
        shares = ", ".join(f"{share:.2f}" for share in rows.rise / rows.second_order)
        lines.append(f"- {figure}, lambda {where:g}: rise as a share of the second order {shares}")
    paths = sorted((ROOT / "results/measurements/OLMo-10K").glob("*/*/default/id.parquet"))
    rows = pd.concat(pd.read_parquet(path) for path in paths)
    rows = rows[(rows.metric == "accuracy") & (rows.split == "test")]
    for task, own in rows.groupby("task"):
        lines.append(f"- {task}: accuracy {own.value.min():.2f} to {own.value.max():.2f}")
    return "\n".join(lines)


def released() -> None:
    """Instruction tuning of the stand-ins: win rates, benchmarks, held-out docstrings."""
    scores = {f"fig{n}": pd.read_csv(FIGURES / f"fig{n}.csv") for n in range(12, 23, 2)}
    for name, rows in scores.items():
        rows = rows.fillna({"learning_rate": 0.0})
        model, task = rows.model.iloc[0], rows.task.iloc[0]
        benchmarks = rows[rows.panel != "alpaca"].groupby(
            ["learning_rate", "tokens"], as_index=False
        )
        for own, text in (
            (rows[rows.panel == "alpaca"], "win rate"),
            (benchmarks["mean"].mean(), "mean accuracy on the eight benchmarks"),
        ):
            own = own.assign(mean=100 * own["mean"])
            print(f"\n### {name}: {model} tuned on {task}: {text}, percent\n")
            print(table(own, "learning_rate", "LR", highest=True))
    text = pd.read_csv(FIGURES / "released_c4.csv").fillna({"learning_rate": 0.0})
    for model, own in text.groupby("model", sort=False):
        print(f"\n### released_c4: {model}: perplexity on held-out docstrings\n")
        print(table(own, "learning_rate", "LR"))


def main() -> None:
    if not (FIGURES / "fig05.csv").exists():
        sys.exit(f"{FIGURES}: no figures; run `make demo` first")
    noise = pd.read_csv(FIGURES / "fig03.csv")
    print("### Noise: perplexity on held-out docstrings\n")
    print(table(noise[noise.quantity == "absolute"], "gamma", "gamma"))
    tuned = pd.read_csv(FIGURES / "fig05.csv")
    for task, own in tuned.groupby("task", sort=False):
        for evaluation, text in (("c4", "held-out docstrings"), ("id", "the task's test set")):
            print(f"\n### Fine-tuned on {task}: perplexity on {text}\n")
            print(table(own[own.evaluation == evaluation], "learning_rate", "LR"))
    best = pd.read_csv(FIGURES / "fig06.csv")
    print("\n### Learning rate tuned on validation\n")
    key = ["task", "tokens", "learning_rates"]
    wide = best.pivot(index=key, columns="evaluation", values="mean")
    print("| task | tokens | best LR | held-out docstrings | test set |")
    print("| --- | --- | --- | --- | --- |")
    for (task, tokens, rates), row in wide.iterrows():
        print(f"| {task} | {tokens_text(tokens)} | {rates} | {row['c4']:.2f} | {row['id']:.2f} |")
    print("\n### Held-out docstrings: trend of the change, and where the modified model is best\n")
    print(settings())
    released()
    print("\n### What else is said above\n")
    print(statements())


if __name__ == "__main__":
    main()

"""Print the demo's numbers as Markdown: `python tools/demo_tables.py` after `make demo`."""

import json
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parent.parent
FIGURES = ROOT / "results/figures/overtrained"
sys.path.insert(0, str(ROOT / "scripts"))

from overtrain.config.units import tokens_text  # noqa: E402
from overtrain.data.digits import NAMES  # noqa: E402

# What an answer to each kind of question about digits can be.
POSSIBLE = {
    "mme": {"yes", "no"},
    "gqa": {"odd", "even"},
    "ai2d": {name[0] for name in NAMES},
    "textvqa": {*NAMES},
    "pope": {"yes", "no"},
}


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


def released(figures: list[int], main: str, title: str, text: str) -> None:
    """Tuning of the stand-ins: the main score, benchmarks, held-out docstrings.

    main: the panel of what was tuned for, and its title; text: the figure of held-out text.
    """
    for name in (f"fig{n}" for n in figures):
        rows = pd.read_csv(FIGURES / f"{name}.csv").fillna({"learning_rate": 0.0})
        model, task = rows.model.iloc[0], rows.task.iloc[0]
        benchmarks = rows[rows.panel != main].groupby(["learning_rate", "tokens"], as_index=False)
        for own, what in (
            (rows[rows.panel == main], title),
            (benchmarks["mean"].mean(), "mean accuracy on the eight benchmarks"),
        ):
            own = own.assign(mean=100 * own["mean"])
            print(f"\n### {name}: {model} tuned on {task}: {what}, percent\n")
            print(table(own, "learning_rate", "LR", highest=True))
    scores = pd.read_csv(FIGURES / f"{text}.csv").fillna({"learning_rate": 0.0})
    for model, own in scores.groupby("model", sort=False):
        print(f"\n### {text}: {model}: perplexity on held-out docstrings\n")
        print(table(own, "learning_rate", "LR"))


def vision_parts() -> None:
    """The five scores behind the VLM score, at the rate that has the best VLM score."""
    rows = pd.read_csv(FIGURES / "vision_parts.csv")
    for model, own in rows.groupby("model", sort=False):
        print(f"\n### vision_parts: {model}: at the tuned rate, percent\n")
        means = 100 * own.pivot(index="panel", columns="tokens", values="mean")
        rates = own[own.panel == "vlm"].sort_values("tokens").learning_rates
        lines = [["", *(tokens_text(tokens) for tokens in means.columns)]]
        lines += [["---"] * len(lines[0]), ["LR", *(f"{rate}" for rate in rates)]]
        for panel in own.panel.unique():
            lines.append([panel, *(f"{v:.2f}" for v in means.loc[panel])])
        print("\n".join(f"| {' | '.join(cells)} |" for cells in lines))


def vision_statements() -> str:
    """How often answers about digits are of the kind that is asked for, and what POPE's are."""
    base = ROOT / "results"
    paths = sorted(base.glob("answers/*/*/digit_questions/*/*.parquet"))
    rows = pd.concat(pd.read_parquet(path).assign(model=path.parts[-5]) for path in paths)
    kinds = zip(rows.answer, rows.benchmark, strict=True)
    rows["possible"] = [answer in POSSIBLE[benchmark] for answer, benchmark in kinds]
    lines = []
    for benchmark, own in rows.groupby("benchmark"):
        each = own.groupby("model", sort=False).possible.mean()
        shares = ", ".join(f"{model} {share:.0%}" for model, share in each.items())
        lines.append(f"- {benchmark}: {own.possible.mean():.0%} possible answers ({shares})")
    paths = sorted(base.glob("measurements/*/*/digit_questions/*/*/vision.parquet"))
    rows = pd.concat(pd.read_parquet(path) for path in paths)
    rows = rows[(rows.split == "all") & (rows.evaluation == "pope")]
    f1 = rows[rows.metric == "score"].value
    always = (rows[rows.metric == "yes_ratio"].value == 1).sum()
    lines.append(
        f"- pope: of {len(f1)} runs {(f1 == 0).sum()} have an F1 of 0, {always} always say yes, "
        f"{(f1 > 0.8).sum()} have more than 0.8"
    )
    encoder = json.loads((base / "encoders/digits/manifest.json").read_text())
    lines.append(f"- encoder: {encoder['accuracy']:.1%} of the test digits")
    return "\n".join(lines)


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
    released([12, 14, 16, 18, 20, 22], "alpaca", "win rate", "released_c4")
    released([24, 26, 28], "vlm", "VLM score", "vision_c4")
    vision_parts()
    print("\n### What else is said above\n")
    print(statements())
    print(vision_statements())


if __name__ == "__main__":
    main()

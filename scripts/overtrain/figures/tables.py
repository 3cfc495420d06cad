"""Tables of settings and of measurements, written as CSV, Markdown and LaTeX."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from overtrain.config.units import tokens_of
from overtrain.figures import study_tables
from overtrain.model.architecture import Architecture
from overtrain.records.provenance import whole_file


def pretraining(settings: dict, _: pd.DataFrame | None) -> pd.DataFrame:
    """Table 3: a column for each model. Parameters are counted from the shapes that are built."""
    p = settings["pretraining"]
    columns = {}
    for name in settings["models"]:
        model = settings["model_settings"][name]
        a = Architecture(**model["architecture"])
        counts = a.parameter_counts()
        columns[model["title"]] = {
            "Layers": a.layers,
            "Heads": a.heads,
            "Unique tokens": a.vocabulary,
            "Hidden dimension": a.hidden_size,
            "MLP dimension (each matrix)": a.mlp_size,
            "Context length": a.context,
            "Parameters, total": f"{counts['total']:,}",
            "Parameters, non-embedding": f"{counts['non_embedding']:,}",
            "Activation": "SwiGLU",
            "muP base width": a.base_width or "standard parameterisation",
            "Attention dropout": p["dropout"]["attention"],
            "Residual dropout": p["dropout"]["residual"],
            "Embedding dropout": p["dropout"]["embedding"],
            "Optimizer": "AdamW",
            "Learning rate": f"{p['learning_rate']:g}",
            "Betas": ", ".join(f"{b:g}" for b in p["betas"]),
            "Schedule": "cosine to zero",
            "Warm-up": f"{p['warmup']:.0%} of training",
            "Weight decay": p["weight_decay"],
            "Batch size (windows)": p["batch_size"],
            "Token budgets": ", ".join(model["budgets"]),
            "Pre-training seeds": len(model["seeds"]),
        }
    return pd.DataFrame(columns).rename_axis("Hyperparameter")


def finetuning(settings: dict, _: pd.DataFrame | None) -> pd.DataFrame:
    """Table 4: a column for each recipe."""
    columns = {}
    for name in settings["recipes"]:
        r = settings["recipe_settings"][name]
        columns[name] = {
            "Learning rates": ", ".join(f"{rate:g}" for rate in r["learning_rates"]),
            "Batch size": r["batch_size"],
            "Scheduler": r["scheduler"],
            "Warm-up": f"{r['warmup']:.0%} of training",
            "Optimizer": "AdamW",
            "Betas": ", ".join(f"{b:g}" for b in r["betas"]),
            "Weight decay": r["weight_decay"],
            "Gradient clip (L2)": r["clip"] if r["clip"] is not None else "none",
            "Dropout": max(r["dropout"].values()),
            "Epochs": f"{r['epochs']}, best on validation",
            "Seeds": len(r["seeds"]),
        }
    return pd.DataFrame(columns).rename_axis("Hyperparameter")


def released_checkpoints(settings: dict, _: pd.DataFrame | None) -> pd.DataFrame:
    """Table 1: a row for each checkpoint of each released model."""
    rows = [
        (model["title"], model["hub"]["repository"], budget, point["revision"], point["tokens"])
        for model in (settings["model_settings"][name] for name in settings["models"])
        for budget, point in sorted(
            model["hub"]["checkpoints"].items(), key=lambda item: tokens_of(item[1]["tokens"])
        )
    ]
    columns = ["Model", "Repository", "Budget in figures", "Revision", "Tokens"]
    return pd.DataFrame(rows, columns=columns).set_index("Model")


def instruction_tuning(settings: dict, _: pd.DataFrame | None) -> pd.DataFrame:
    """Table 2: a column for each data set, tuned on with one recipe."""
    r = settings["recipe_settings"]
    lora = r.get("lora")
    columns = {
        task["title"]: {
            "Conversations, at most": f"{task['examples']['train']:,}",
            "Batch size (conversations)": r["batch_size"],
            "Learning rates": ", ".join(f"{rate:g}" for rate in r["learning_rates"]),
            "Scheduler": r["scheduler"],
            "Warm-up steps": r["warmup_steps"],
            "Optimizer": "AdamW",
            "Betas": ", ".join(f"{b:g}" for b in r["betas"]),
            "Weight decay": r["weight_decay"],
            "Gradient clip (L2)": r["clip"] if r["clip"] is not None else "none",
            "Epochs": r["epochs"],
            "Tokens of a conversation, at most": r["max_length"],
            "What is tuned": f"LoRA, rank {lora['rank']}" if lora else "all weights",
            "Seeds": len(r["seeds"]),
        }
        for task in (settings["task_settings"][name] for name in settings["tasks"])
    }
    return pd.DataFrame(columns).rename_axis("Hyperparameter")


def figure_index(settings: dict, _: pd.DataFrame | None) -> pd.DataFrame:
    """Tables 5, 6: which figure shows which setting (rows) by which plot (columns)."""
    cells = [", ".join(map(figure_name, names)) or "-" for names in settings["cells"]]
    width = len(settings["columns"])
    rows = [cells[i : i + width] for i in range(0, len(cells), width)]
    return pd.DataFrame(rows, settings["rows"], settings["columns"]).rename_axis("Setting")


def figure_name(target: str) -> str:
    """fig07 -> Figure 7; other names stay."""
    number = target.removeprefix("fig")
    return f"Figure {int(number)}" if number.isdigit() else target


CONTENTS = {
    "pretraining": pretraining,
    "finetuning": finetuning,
    "released_checkpoints": released_checkpoints,
    "instruction_tuning": instruction_tuning,
    "figure_index": figure_index,
    "study_tasks": study_tables.study_tasks,
    "study_prompts": study_tables.study_prompts,
    "mean_gains": study_tables.gains,
    "transfer": study_tables.transfer,
    "transfer_cells": study_tables.transfer_cells,
}


def write(settings: dict, csv: Path, data: pd.DataFrame | None = None) -> None:
    """Write the table that `settings` asks for to `csv` and, beside it, .md and .tex.

    data: the measurements of a table that has some.
    """
    table = CONTENTS[settings["content"]](settings, data).astype(str)
    scale = f" ({settings['scale']})" if settings["scale"] else ""
    caption = settings["caption"] + scale
    with whole_file(csv) as temporary:
        table.to_csv(temporary)
    with whole_file(csv.with_suffix(".md")) as temporary:
        temporary.write_text(f"{table.to_markdown(disable_numparse=True)}\n\n{caption}\n")
    with whole_file(csv.with_suffix(".tex")) as temporary:
        temporary.write_text(latex(table, caption))


def latex(table: pd.DataFrame, caption: str) -> str:
    """A booktabs table; long cells wrap."""
    escape = str.maketrans({character: f"\\{character}" for character in "_%&#{}"})
    lines = [
        " & ".join(str(cell).translate(escape) for cell in (index, *row)) + r" \\"
        for index, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    header = (
        " & ".join(str(c).translate(escape) for c in (table.index.name, *table.columns)) + r" \\"
    )
    width = 0.7 / len(table.columns)
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{caption.translate(escape)}}}",
            rf"\begin{{tabular}}{{l*{{{len(table.columns)}}}{{p{{{width:.2f}\linewidth}}}}}}",
            r"\toprule",
            header,
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )

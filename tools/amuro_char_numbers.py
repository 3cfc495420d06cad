"""The numbers of amuro_char.md that no table prints: scores and gains by checkpoint.

python tools/amuro_char_numbers.py     # after snakemake --cores 1 amuro_char_table5
"""

from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parent.parent
DATA = pd.read_parquet(ROOT / "results/measurements/released_numbers/amuro_char.parquet")
STEPS = [f"step{n}000" for n in (1, 18, 342, 424, 505, 592, 738)] + ["main"]
HARNESS = None  # shots of official_eval_table.csv


def scores(
    task: str | None, evaluation: str, shots: int | None = 4, prompt: str = "default"
) -> np.ndarray:
    """Scores by checkpoint, NaN where there is none; task None is the base model."""
    own = DATA[(DATA.evaluation == evaluation) & (DATA.prompt == prompt)]
    own = own[own.shots.isna() if shots is None else own.shots == shots]
    own = own[own.task.isna() if task is None else own.task == task]
    return own.set_index("checkpoint").value.reindex(STEPS).to_numpy()


def show(title: str, values: np.ndarray) -> None:
    print(f"{title:45}", " ".join(f"{value:8.4f}" for value in values))


print(f"{'checkpoint':45}", " ".join(f"{step.removeprefix('step'):>8}" for step in STEPS))
for evaluation in ("sciq", "hellaswag", "boolq"):
    base = scores(None, evaluation, HARNESS)
    show(f"{evaluation}, base", base)
    show(f"{evaluation}, gain by TULU", scores("tulu", evaluation, HARNESS) - base)
for task, evaluation in (
    ("mnli", "mnli_matched"),
    ("mnli", "mnli_mismatched"),
    ("paws", "paws"),
    ("xsum", "xsum"),
    ("xsum", "xlsum"),
    ("socialiqa", "socialiqa"),
    ("mnli", "gpt3nli"),
    ("mnli", "rte"),
    ("socialiqa", "sciq_questions"),
    ("socialiqa", "tweetqa"),
):
    base = scores(None, evaluation)
    show(f"{evaluation}, base", base)
    show(f"{evaluation}, gain by {task}", scores(task, evaluation) - base)
show("socialiqa, base, 4 shots minus 0", scores(None, "socialiqa") - scores(None, "socialiqa", 0))
for task, evaluation, prompt in (
    ("socialiqa", "socialiqa", "instruction"),
    ("mnli", "mnli_matched", "input_output"),
    ("mnli", "mnli_mismatched", "input_output"),
    ("xsum", "xsum", "instruction"),
    ("xsum", "xsum", "input_output"),
):
    gap = scores(task, evaluation) - scores(task, evaluation, prompt=prompt)
    show(f"{evaluation}, default minus {prompt}", gap)
for evaluation in ("qqp", "stsb", "llmbar_Adversarial_Manual"):
    show(f"{evaluation}, base", scores(None, evaluation))
for evaluation in ("qqp_harness", "rte_harness"):
    show(f"{evaluation}, base", scores(None, evaluation, HARNESS))
show("paws after paws", scores("paws", "paws"))
for evaluation in ("mmlu", "truthfulqa", "toxigen"):
    show(f"{evaluation} after tulu", scores("tulu", evaluation, HARNESS))
constant = {"mnli_matched": (0.3545, 0.3274), "paws": (0.5580,)}  # one answer to everything
near = [
    min(abs(score - value) for value in values) <= 0.0025
    for task in ("xsum", "socialiqa")
    for evaluation, values in constant.items()
    for score in scores(task, evaluation)
]
print(f"within 0.0025 of a constant answer: {sum(near)} of {len(near)}")

"""The released numbers of "Amuro & Char" as measurements, and what the paper computes from them.

The authors' model ids name a checkpoint of OLMo-1B, what it was fine-tuned on and how, and the
number of shots; their data-set names name the evaluation and the prompt. `read` maps both to ours
and lists what it cannot map, what comes twice and what is no number.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import pandas as pd

from overtrain import PipelineError

STEP = re.compile(r"(?:checkpoint-|ckpt)(\d+)")
TUNING = re.compile(r"(mnli|paws|socialiqa|xsum|tulu)_(\d)epoch_(2e-\d)")
SHOTS = re.compile(r"_(\d)shots$")
CHAT = "_cot_chat"
OTHER_WORDS = {"olmo1b", "hf", "original", "main", ""}
PROMPTS = {"_instruct": "instruction", "_inputoutput": "input_output"}
COLUMNS = ["model_id", "eval dataset", "Performance"]
# Each file's shots where an id names none (the second is an evaluation harness with its own), and
# the names that mean something else than in the other files.
FILES = {
    "all_perf_table.csv": (0, {"sciq": "sciq_questions"}),  # questions generated, not answered
    "official_eval_table.csv": (None, {"rte": "rte_harness", "qqp": "qqp_harness"}),
    "it_perf_table.csv": (None, {}),
}
# What two measurements of one number have in common.
CELL = ["source", "model", "checkpoint", "evaluation", "metric", "shots", "prompt"]


# --- reading --------------------------------------------------------------------------------------


def read(folder: Path, settings: dict) -> tuple[list[dict], pd.DataFrame, pd.DataFrame]:
    """Measurement rows, the mapping from their names to ours, and the rows left out, with reasons.

    settings: model, checkpoints, tokens_per_step, last_step, and the metric of each evaluation.
    PipelineError if a file or one of its columns is missing.
    """
    rows, mapping, left_out = [], [], []
    values: dict[tuple, float] = {}
    for name, (shots, renamed) in FILES.items():
        # Converted ("hf") weights first: the authors say that others were in a wrong format.
        records = read_csv(folder / name).to_dict("records")
        for theirs in sorted(records, key=lambda record: "hf_" not in f"{record['model_id']}_"):
            where = {"file": name} | {column: theirs[column] for column in COLUMNS}
            model_id, dataset = str(theirs["model_id"]), str(theirs["eval dataset"])
            identity = identify(model_id, dataset, shots, renamed)
            reason = unmapped(identity, settings)
            if identity is None or reason:
                left_out.append(where | {"reason": reason})
                continue
            mapping.append(where | identity)
            value = pd.to_numeric(theirs["Performance"], errors="coerce")
            key = tuple(identity.values())
            if not math.isfinite(value):
                left_out.append(where | {"reason": "no number"})
            elif key in values:
                reason = f"a second value; the first, {values[key]:.6g}, is taken"
                left_out.append(where | {"reason": reason})
            else:
                values[key] = value
                rows.append(measurement(identity, float(value), theirs.get("std"), settings))
    columns = ["file", *COLUMNS, "reason"]
    return rows, pd.DataFrame(mapping), pd.DataFrame(left_out, columns=columns)


def read_csv(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path}: not readable as CSV ({error})") from error
    for column in COLUMNS:
        if column not in table:
            raise PipelineError(f"{path}: no column {column!r}; it has {list(table.columns)}")
    return table


def identify(
    model_id: str, dataset: str, shots: int | None, renamed: dict[str, str]
) -> dict | None:
    """Our names for one released number; None if the model id holds a word that is not known."""
    rest, found = model_id, {}
    prompt = "default"
    if rest.endswith(CHAT):
        rest, prompt = rest.removesuffix(CHAT), "chain_of_thought_chat"
    for key, pattern in (("shots", SHOTS), ("tuning", TUNING), ("step", STEP)):
        if match := pattern.search(rest):
            found[key] = match.groups()
            rest = rest.replace(match[0], "")
    if set(rest.split("_")) - OTHER_WORDS:
        return None
    for suffix, name in PROMPTS.items():
        if dataset.endswith(suffix):
            dataset, prompt = dataset.removesuffix(suffix), name
    task, epochs, rate = found.get("tuning", (None, None, None))
    return {
        "checkpoint": f"step{found['step'][0]}" if "step" in found else "main",
        "task": task,
        "recipe": f"{epochs}epochs" if epochs else None,
        "learning_rate": float(rate) if rate else None,
        "shots": int(found["shots"][0]) if "shots" in found else shots,
        "prompt": prompt,
        "evaluation": renamed.get(dataset, dataset),
    }


def unmapped(identity: dict | None, settings: dict) -> str:
    """Why a number has no place among ours; empty if it has."""
    if identity is None:
        return "the model id names no checkpoint and recipe"
    if identity["checkpoint"] not in settings["checkpoints"]:
        return f"{identity['checkpoint']} is not among the study's checkpoints"
    if identity["evaluation"] not in settings["metrics"]:
        return f"{identity['evaluation']} is not among the study's evaluations"
    return ""


def measurement(identity: dict, value: float, std: float | None, settings: dict) -> dict:
    """A row of the measurements' table; `std` is the authors' bootstrap's."""
    checkpoint = identity["checkpoint"]
    last = checkpoint == "main"
    step = settings["last_step"] if last else int(checkpoint.removeprefix("step"))
    return identity | {
        "study": "amuro_char",
        "source": "published",
        "model": settings["model"],
        "tokens": step * settings["tokens_per_step"],
        "selection": "last" if identity["task"] else "base",
        "metric": settings["metrics"][identity["evaluation"]],
        "split": "test",
        "value": value,
        "stderr": float(pd.to_numeric(std, errors="coerce")) if std is not None else math.nan,
        "diverged": False,
    }


# --- ours -----------------------------------------------------------------------------------------


def as_shown(data: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """The rows of an aggregate as figures show them: ours by the study's names.

    Of ours, `task` becomes the name of what is trained on, a benchmark's metric the study's, and
    each task and checkpoint keeps one learning rate: the paper's, or the best on validation. Of
    published rows those of the study's shots stay. settings: those of a figure; without `ours`
    nothing is changed.
    """
    if "ours" not in settings:
        return data
    own = settings["ours"]
    released = data[data.source == "published"]
    released = released[released.shots.isna() | (released.shots == settings["shots"])]
    ours = data[data.source == "ours"]
    runs = [runs_of(ours, how, own["rate"]).assign(task=name) for name, how in own["tuned"].items()]
    ours = pd.concat([ours[ours.selection == "base"], *runs])
    ours = ours[(ours.split == "test") & (ours.metric == ours.evaluation.map(own["metrics"]))]
    metrics = {name: evaluation["metric"] for name, evaluation in settings["evaluations"].items()}
    ours = ours.assign(metric=ours.evaluation.map(metrics), prompt=ours.prompt.fillna("default"))
    return pd.concat([released, ours], ignore_index=True)


def runs_of(ours: pd.DataFrame, how: dict, rate: str) -> pd.DataFrame:
    """Rows of the runs on one task, of one learning rate at each checkpoint.

    how: task, recipe, learning_rate (the paper's) and validation, the metric that chooses; a chat
    has none, and then the paper's rate it is. rate: paper or validation.
    """
    runs = ours[(ours.selection == "last") & (ours.task == how["task"])]
    runs = runs[runs.recipe == how["recipe"]]
    if rate == "paper" or how["validation"] is None:
        return runs[runs.learning_rate == how["learning_rate"]]
    chosen = best_rates(validation_scores(runs, how["validation"]))
    return runs[runs.learning_rate == runs.checkpoint.map(chosen)]


def validation_scores(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean score over seeds on the runs' own validation: checkpoints x learning rates.

    NaN where a run diverged.
    """
    own = runs[(runs.evaluation == "id") & (runs.split == "validation")]
    own = own[own.metric == metric]
    means = own.groupby(["checkpoint", "learning_rate"]).value.mean(skipna=False)
    return means.unstack("learning_rate")


def best_rates(scores: pd.DataFrame) -> pd.Series:
    """The rate of the highest score at each checkpoint; of equal ones the smallest.

    A rate at which a run diverged is not chosen; a checkpoint where every one did has none.
    """
    return scores.dropna(how="all").idxmax(axis=1)


def checkpoints_of(source: str, settings: dict) -> list[str]:
    """Those that a source can have, of the checkpoints that a figure shows."""
    return settings.get("checkpoints_of", {}).get(source, settings["checkpoints"])


# --- what the paper computes ----------------------------------------------------------------------


def with_base(data: pd.DataFrame) -> pd.DataFrame:
    """Fine-tuned values, means over seeds, with `value_base` of the same checkpoint and evaluation.

    A mean is NaN where a run diverged. PipelineError if there is none, or if a cell has more than
    one learning rate.
    """
    tuned, base = (data[data.selection == selection] for selection in ("last", "base"))
    if tuned.empty:
        raise PipelineError("no measurement of a fine-tuned model on the evaluations named")
    groups = tuned.groupby([*CELL, "task"], dropna=False)
    if (groups.learning_rate.nunique() > 1).any():
        raise PipelineError("a model fine-tuned at several learning rates; choose one of them")
    tuned = groups.value.mean(skipna=False).reset_index()
    base = base.groupby(CELL, dropna=False).value.mean().reset_index()
    return tuned.merge(base, on=CELL, how="left", suffixes=("", "_base"))


def is_ours(pairs: pd.DataFrame) -> bool:
    """Whether all are our own runs, of which some may be missing."""
    return len(pairs) > 0 and bool((pairs.source == "ours").all())


def sourced(pairs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each source, released ones first, by what a title adds to tell two apart."""
    own = {source: pairs[pairs.source == source] for source in ("published", "ours")}
    found = {source: rows for source, rows in own.items() if len(rows)}
    if len(found) == 1:
        return dict(zip([""], found.values(), strict=True))
    return {f", {source}": rows for source, rows in found.items()}


def cell(pairs: pd.DataFrame, task: str, evaluation: str, checkpoint: str) -> pd.Series:
    """The row of a (task, evaluation, checkpoint), with value and value_base.

    Of ours, what is missing or has diverged is NaN. PipelineError where a published one, or its
    base, is missing.
    """
    own = pairs[(pairs.task == task) & (pairs.evaluation == evaluation)]
    own = own[own.checkpoint == checkpoint]
    name = f"{evaluation} after fine-tuning on {task}, checkpoint {checkpoint}"
    if is_ours(pairs):
        return own.iloc[0] if len(own) else pd.Series({"value": math.nan, "value_base": math.nan})
    if own.empty:
        raise PipelineError(f"{name}: there is no such measurement")
    row = own.iloc[0]
    if not math.isfinite(row.value_base):
        raise PipelineError(f"{name}: the base model's score is missing")
    return row


def why_no_ratio(row: pd.Series) -> str:
    """Why a cell has no ratio of change; empty if it has."""
    if not math.isfinite(row.value):
        return "no score"
    if not math.isfinite(row.value_base):
        return "no base score"
    return "" if row.value_base else "base score is zero"


def mean_gains(
    pairs: pd.DataFrame, groups: dict[str, list[dict]], checkpoints: list[str]
) -> pd.DataFrame:
    """Mean of fine-tuned minus base score over each group's (task, evaluation)s, by checkpoint.

    A member that stands twice in a group counts twice. Where ours lacks one the mean is NaN;
    PipelineError where the published numbers do.
    """
    rows = []
    for checkpoint in checkpoints:
        row = {"checkpoint": checkpoint}
        for group, members in groups.items():
            cells = [cell(pairs, m["task"], m["evaluation"], checkpoint) for m in members]
            row[group] = sum(c.value - c.value_base for c in cells) / len(cells)
        rows.append(row)
    return pd.DataFrame(rows)


def ratios(
    pairs: pd.DataFrame, tasks: list[str], evaluations: list[str], checkpoints: list[str]
) -> pd.DataFrame:
    """(fine-tuned - base) / base of every cell tasks x evaluations x checkpoints (section 6.2).

    An evaluation on the task's own data is no transfer and is left out. Ours have a column
    `excluded`, why a cell has no ratio (NaN), empty where it has. PipelineError if a published cell
    is missing or its base score zero, or if no cell is left.
    """
    rows, ours = [], is_ours(pairs)
    for task in tasks:
        for evaluation in evaluations:
            if evaluation.startswith(task):
                continue
            for checkpoint in checkpoints:
                c = cell(pairs, task, evaluation, checkpoint)
                reason = why_no_ratio(c)
                if reason and not ours:
                    raise PipelineError(
                        f"{evaluation}, checkpoint {checkpoint}: the {reason}; "
                        "no ratio of change can be taken from it"
                    )
                row = {
                    "task": task,
                    "evaluation": evaluation,
                    "checkpoint": checkpoint,
                    "base": c.value_base,
                    "fine_tuned": c.value,
                    "ratio": math.nan if reason else (c.value - c.value_base) / c.value_base,
                }
                rows.append(row | {"excluded": reason} if ours else row)
    if not rows:
        raise PipelineError(f"no transfer from {', '.join(tasks)} to {', '.join(evaluations)}")
    return pd.DataFrame(rows)


# --- ours beside theirs ---------------------------------------------------------------------------

BASE = "base model"  # the group of scores before fine-tuning
WIDE = 1.96  # standard errors on each side of a 95 % interval


def compared(data: pd.DataFrame, groups: list[dict], checkpoints: list[str]) -> pd.DataFrame:
    """A row for each (group, task, evaluation, prompt, checkpoint) that either source has.

    Columns ours, theirs: scores, means over seeds (NaN where one is missing or diverged), with
    their bootstrap's standard errors; difference, ours minus theirs; disjoint: whether the 95 %
    intervals have no value in common, None where one is not known. groups: title and cells. Scores
    of the base models on the evaluations named are a group of their own, with task None.
    """
    by = ["task", "evaluation", "prompt", "checkpoint"]
    sides = {}
    for name, source in {"ours": "ours", "theirs": "published"}.items():
        own = data[data.source == source].groupby(by, dropna=False)
        value, stderr = own.value.mean(skipna=False), own.stderr.mean()
        sides[name] = pd.DataFrame({name: value, f"{name}_stderr": stderr}).reset_index()
    table = sides["ours"].merge(sides["theirs"], on=by, how="outer")
    evaluations = dict.fromkeys(c["evaluation"] for group in groups for c in group["cells"])
    cells = [(BASE, None, evaluation) for evaluation in evaluations]
    cells += [(g["title"], c["task"], c["evaluation"]) for g in groups for c in g["cells"]]
    parts = []
    for group, task, evaluation in cells:
        own = table[table.task.isna() if task is None else table.task == task]
        own = own[(own.evaluation == evaluation) & own.checkpoint.isin(checkpoints)]
        order = own.checkpoint.map(checkpoints.index)
        own = own.assign(order=order).sort_values(["prompt", "order"], kind="stable")
        parts.append(own.drop(columns="order").assign(group=group, task=task))
    table = pd.concat(parts, ignore_index=True)
    difference = table.ours - table.theirs
    room = WIDE * (table.ours_stderr + table.theirs_stderr)
    known = difference.notna() & room.notna()
    disjoint = (difference.abs() > room).astype(object).where(known, None)
    return table.assign(difference=difference, disjoint=disjoint)

"""Measurements: tidy tables in parquet, a row for each number, provenance inside.

Units: `tokens` pre-training tokens; `loss` nats per token (or per question); `perplexity`
exp(loss); `accuracy` a fraction, `accuracy_norm` that by the likelihood of a character of each
answer, `accuracy_generated` that of generated text which begins with the right label;
`l2_distance` the Euclidean norm of the change of all weights (of a text model's in visual tuning,
where `projector_l2_distance` is that of the projector's).
`stderr` is the standard error over the `n` sequences or questions of the evaluation. A diverged
run's value is NaN. In the theory study, `features` counts the features of a network (or is the
place of one), `time` is that of the gradient flow, and weights start at exp(-`tau`). `shots` are
the examples in a prompt, null where an evaluation harness has its own. `rouge_l` is a fraction;
`win_rate` and `length_controlled_win_rate` are fractions of the `n` prompts that were judged, and
`invalid_verdicts` a count. Of vision-language benchmarks, `score` and `vlm_score` (their mean) are
fractions, as are `accuracy_plus`, `precision`, `recall`, `yes_ratio` and `f1` (also of a category,
`f1_random`); `perception` and `cognition` are sums of percent, `unparsed` a count of answers
(or of generated programs, of which `docstring_share` and `comment_share` are fractions); `step` is
null but of a snapshot of a run and of the last weights of a run that has them;
`half_curvature` is in nats for gamma (or lambda) 1, `slope` for lambda 1, `loss_change` in the unit
of its loss; losses, singular values and distances of linear networks have no unit; `inflection` is
a number of features, and `progress` the share of a feature's way from pre-training's to
fine-tuning's. `gpu_hours_expected` and `gpu_hours_spent` are of `n` jobs together, core-hours where
they run without a GPU; their `evaluation` is training or evaluation. Of programs that a model
writes, `docstring_share` and `comment_share` are fractions; `unparsed` counts those that are none.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from overtrain import PipelineError
from overtrain.records.provenance import whole_file

SCHEMA = pa.schema(
    {
        "study": pa.string(),
        "source": pa.string(),  # ours, published (by the authors of a paper)
        "model": pa.string(),
        "checkpoint": pa.string(),
        "tokens": pa.int64(),
        "pretraining_seed": pa.int64(),
        "task": pa.string(),
        "recipe": pa.string(),
        "learning_rate": pa.float64(),
        "seed": pa.int64(),
        "gamma": pa.float64(),
        "lambda": pa.float64(),
        "features": pa.int64(),
        "time": pa.float64(),
        "tau": pa.float64(),
        "shots": pa.int64(),
        "prompt": pa.string(),
        "epoch": pa.int64(),
        "step": pa.int64(),  # of training: of a snapshot, and of last the number of all
        # base, best (epoch on validation), last (epoch), snapshot (after `step`), noise,
        # interpolated (base + lambda x a direction: noise, or a run's change), reference (the run
        # that win rates compare with); theory: simulated, closed_form
        "selection": pa.string(),
        # c4, id, training, alpaca, vlm (the mean of vision-language benchmarks), programs, or the
        # name of a benchmark or of a prompted task; theory: pretraining, fine_tuning
        "evaluation": pa.string(),
        "metric": pa.string(),
        "split": pa.string(),  # alpaca, vision: all prompts or questions, or the even or odd ones
        "value": pa.float64(),
        "stderr": pa.float64(),
        "n": pa.int64(),
        "diverged": pa.bool_(),
    }
)
SAID = ("study", "source", "selection", "evaluation", "metric", "value")  # of every measurement
PROVENANCE = b"overtrain.records.provenance"


def row(identity: dict, metric: str, value: float, stderr: float = math.nan, n: int = 1) -> dict:
    """One measurement; a value that is not finite marks its run as diverged."""
    diverged = not math.isfinite(value)
    number = {"value": math.nan if diverged else value, "stderr": stderr, "n": n}
    return identity | {"metric": metric, "diverged": diverged} | number


def loss_rows(identity: dict, loss: float, stderr: float, n: int) -> list[dict]:
    """Loss in nats and perplexity = exp(loss), its error by the delta method."""
    perplexity = math.exp(loss) if loss < 700 else math.inf  # exp overflows above
    return [
        row(identity, "loss", loss, stderr, n),
        row(identity, "perplexity", perplexity, perplexity * stderr, n),
    ]


def write(rows: list[dict], path: Path, origin: dict) -> None:
    """Write rows with the provenance `origin` in the file's metadata.

    Missing columns are null; a row without a source is ours.
    """
    unknown = {key for r in rows for key in r} - set(SCHEMA.names)
    if unknown:
        raise ValueError(f"no measurement column {sorted(unknown)}")
    rows = [{"source": "ours"} | r for r in rows]
    write_table(pa.Table.from_pylist(rows, SCHEMA), path, origin)


def write_table(table: pa.Table, path: Path, origin: dict) -> None:
    """Write any table with the provenance `origin` in the file's metadata."""
    content = json.dumps(origin, sort_keys=True).encode()
    with whole_file(path) as temporary:
        pq.write_table(table.replace_schema_metadata({PROVENANCE: content}), temporary)


def read(path: Path) -> pa.Table:
    """A table of measurements; PipelineError if one of SAID is missing or the file is damaged.

    Any other column is null in a file that was written before there was that column.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise PipelineError(f"{path}: not a readable parquet file ({error})") from error
    missing = [name for name in SCHEMA.names if name not in table.column_names]
    if lacking := [name for name in SAID if name in missing]:
        raise PipelineError(f"{path}: no column {lacking[0]!r}; measurements have {SCHEMA.names}")
    for name in missing:
        field = SCHEMA.field(name)
        table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(SCHEMA.names)


def read_provenance(path: Path) -> dict:
    """The provenance stored in a parquet file of measurements."""
    metadata = pq.read_schema(path).metadata or {}
    return json.loads(metadata.get(PROVENANCE, b"{}"))

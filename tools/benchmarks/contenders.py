"""What the benchmarks share: contenders, each in a process of its own, on the same small text.

A peak of memory is then the contender's own, and contenders take turns, so that a machine that is
busier at one time than at another troubles all of them alike: read the ratios, which compare
neighbours in time, and on a busy machine those of CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from overtrain.config.files import load  # noqa: E402
from overtrain.data import docstrings  # noqa: E402
from overtrain.model.architecture import Architecture  # noqa: E402
from overtrain.training.schedule import fraction  # noqa: E402

CONFIG = load(ROOT, {}).config


def options(description: str) -> argparse.ArgumentParser:
    """The options that both benchmarks have; the last two are for the processes they start."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--shape", default="OLMo-10K", help="a model of the configuration")
    parser.add_argument("--batch-size", type=int, help="sequences in a batch")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of every contender, on the CPU")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser


def architecture(shape: str) -> Architecture:
    """A configured model in the standard parameterisation, which needs no rates per tensor."""
    return Architecture(**CONFIG["models"][shape]["architecture"] | {"base_width": None})


def text() -> str:
    """About two million characters of English, the docstrings of one pinned package."""
    return "\n".join(document.text for document in docstrings.extract(["networkx"]))


# --- the process that compares --------------------------------------------------------------------


def compare(
    contenders: list[str],
    repetitions: int,
    prepare: Callable[[Path], None],
    more: list[str] | None = None,
) -> dict:
    """Run this script once for each contender and repetition, in turns: the results of each.

    more: arguments for it after its own.
    """
    results = {contender: [] for contender in contenders}
    environment = os.environ | {"PYTHONHASHSEED": "0", "TOKENIZERS_PARALLELISM": "false"}
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name))
        for repetition in range(repetitions):
            for contender in contenders[:: -1 if repetition % 2 else 1]:
                command = [sys.executable, *sys.argv, *(more or [])]
                command += ["--contender", contender, "--folder", name]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
                if done.returncode:
                    sys.exit(f"error: {contender} failed")
                results[contender].append(json.loads(done.stdout.splitlines()[-1]))
    return results


def table(results: dict, columns: dict[str, tuple[str, str]], better: dict[str, bool]) -> str:
    """Markdown: a row for each contender, medians (least to most), and ratios to the last one's.

    columns: heading and format of each number. better: numbers to give a ratio for, and whether
    more of it is better; ratios are taken within a repetition, and above 1 is always better than
    the last contender.
    """
    headings = [heading for heading, _ in columns.values()]
    headings += [f"{columns[key][0].split(',')[0]}, ratio" for key in better]
    lines = ["| contender | " + " | ".join(headings) + " |", "|---" + "|---:" * len(headings) + "|"]
    *_, reference = results.values()
    for contender, rows in results.items():
        cells = [spread([row[key] for row in rows], form) for key, (_, form) in columns.items()]
        for key, more in better.items():
            pairs = [(r[key], other[key]) for r, other in zip(rows, reference, strict=True)]
            cells.append(spread([a / b if more else b / a for a, b in pairs], ".2f"))
        lines.append(f"| {contender} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values: list[float], form: str) -> str:
    """The median, and the range unless it is not seen at this precision."""
    median, low, high = (f(values) for f in (statistics.median, min, max))
    shown = [format(value, form) for value in (median, low, high)]
    return shown[0] if shown[1] == shown[2] else f"{shown[0]} ({shown[1]} to {shown[2]})"


# --- the process of one contender -----------------------------------------------------------------


def begin(threads: int, transformers: bool) -> None:
    """Import what a contender needs, so that this does not count as its time."""
    import torch

    torch.set_num_threads(threads)
    if transformers:
        import transformers

        transformers.utils.logging.disable_progress_bar()
        transformers.Trainer, transformers.OlmoForCausalLM  # noqa: B018  # each is imported when named
    else:
        from overtrain.model.allocator import keep_freed_memory

        keep_freed_memory()  # as the pipeline's jobs do
        torch.set_float32_matmul_precision("high")


def peak_memory() -> float:
    """The most memory this process held so far, MiB: of the GPU if there is one, else resident."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def synchronise() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def trainer(
    model: object,
    rows: tuple,
    batch_size: int,
    optimizer: dict,
    clip: float,
    warmup: float,
    callbacks: list,
    compiled: bool,
    folder: Path,
) -> object:
    """A transformers.Trainer that takes one step for each batch of `rows`, in order, no more.

    rows: inputs and targets, (n, length) each. The data lie in memory and a batch is one slice of
    them, the optimizer is fused; nothing is evaluated, saved, logged or reported.
    """
    import torch
    from transformers import Trainer, TrainingArguments

    class Slices(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(rows[0])

        def __getitems__(self, indices: list[int]) -> dict:
            targets = rows[1][indices]
            # shift_labels are taken as they are: every position predicts, as in the library
            return {"input_ids": rows[0][indices], "labels": targets, "shift_labels": targets}

    cuda = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=batch_size,
        train_sampling_strategy="sequential",
        max_grad_norm=clip,
        bf16=cuda,
        use_cpu=not cuda,
        torch_compile=compiled,
        remove_unused_columns=False,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    model.to(arguments.device)
    adamw = torch.optim.AdamW(model.parameters(), fused=True, **optimizer)
    steps = len(rows[0]) // batch_size

    def schedule(step: int) -> float:  # asked once more after the last step
        return fraction("cosine", min(step, steps - 1), steps, warmup)

    return Trainer(
        model,
        arguments,
        data_collator=lambda batch: batch,
        train_dataset=Slices(),
        optimizers=(adamw, torch.optim.lr_scheduler.LambdaLR(adamw, schedule)),
        callbacks=callbacks,
    )

"""A sweep of 27 learning rates x 3 seeds: the library's stacks against transformers' Trainer.

    python tools/benchmarks/sweep.py                                  # and with fewer runs
    python tools/benchmarks/sweep.py --shape OLMo-30M --batch-size 64 --epochs 4     # on a GPU

The third contender is the library's own code in stacks of one. All start from the same weights and
take the same batches with the same AdamW, schedule and clip; equal mean distances from the base
show it. The library also scores the validation split after each epoch and saves the snapshots,
which the Trainer is spared.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import contenders

SWEEP = {"task": "benchmark", "recipe": "benchmark"}


def prepare(options: argparse.Namespace, folder: Path) -> None:
    """A checkpoint of random weights; texts of one length, half as many for validation."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from overtrain.data import tokenizer
    from overtrain.model.olmo import Olmo, save_checkpoint

    a = contenders.architecture(options.shape)
    encoder = tokenizer.characters()
    base, task = folder / "base", folder / "task"
    base.mkdir()
    task.mkdir()
    save_checkpoint(Olmo(a).initialise(0), base, encoder.end_of_text)
    encoder.save(base)
    text, length = contenders.text(), (options.length or a.context) + 1
    pieces = [text[i : i + length] for i in range(0, len(text) - length, length)]
    train, validation = options.sequences, options.sequences // 2
    for split, rows in (("train", pieces[:train]), ("validation", pieces[train:][:validation])):
        pq.write_table(pa.table({"text": rows}), task / f"{split}.parquet")


def library(recipe: object, folder: Path, device: object, memory: int) -> list[float]:
    """`training.finetune.finetune` as the pipeline calls it; each run's distance from the base."""
    from overtrain.model.memory import Room
    from overtrain.training import finetune
    from overtrain.training.sweep_states import SweepFolders

    rows = finetune.finetune(
        folder / "base",
        finetune.Task(folder / "task", "language_modelling"),
        recipe,
        Room(device, memory, contenders.CONFIG["evaluations"]["batch_tokens"]),
        SWEEP,
        SweepFolders(folder / "runs", folder / "state", {}, float("inf")),
    )
    last = [r for r in rows if r["metric"] == "l2_distance" and r["selection"] == "last"]
    return [r["value"] for r in last]


def trainer(recipe: object, folder: Path, device: object) -> list[float]:
    """`transformers.Trainer` once for each learning rate, the checkpoint loaded each time."""
    import torch
    from transformers import OlmoForCausalLM

    from overtrain.data.tasks import read_split
    from overtrain.data.tokenizer import load_encoder
    from overtrain.model.examples import encode_texts
    from overtrain.model.memory import Room
    from overtrain.model.olmo import load_tensors, read_architecture
    from overtrain.training.finetune import Run, Stack

    base = folder / "base"
    a, weights = read_architecture(base), load_tensors(base)
    texts = read_split(folder / "task", "train", "language_modelling")
    examples = encode_texts(texts, load_encoder(base), a.context)
    distances = []
    for seed in recipe.seeds:
        order = Stack(a, weights, [Run(0.0, seed)], recipe, SWEEP["task"], Room(device, 0, 0))
        epochs = [order.batches(len(examples), e + 1) for e in range(recipe.epochs)]  # one seed's
        chosen = torch.cat([torch.from_numpy(b[0]) for epoch in epochs for b in epoch])
        del order
        data = [torch.from_numpy(part)[chosen] for part in (examples.inputs, examples.targets)]
        for rate in recipe.learning_rates:
            model = OlmoForCausalLM.from_pretrained(base, pad_token_id=None)
            contenders.trainer(
                model,
                data,
                recipe.batch_size,
                {"lr": rate, "betas": recipe.betas, "weight_decay": recipe.weight_decay},
                recipe.clip,
                recipe.warmup,
                [],
                False,
                folder / "trainer",
            ).train()
            change = [(p.detach().cpu() - weights[n]).norm() for n, p in model.named_parameters()]
            distances.append(float(torch.stack(change).norm()))
    return distances


def run(contender: str, recipe: object, folder: Path, options: object) -> dict:
    """One sweep: its seconds, tokens per second, memory, and the mean distance from the base."""
    import torch

    from overtrain.model.olmo import read_architecture

    contenders.begin(options.threads, transformers=contender == "Trainer, in sequence")
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    start, cpu_start = time.perf_counter(), time.process_time()
    if contender == "Trainer, in sequence":
        distances = trainer(recipe, folder, device)
    else:
        memory = (
            int(0.85 * torch.cuda.mem_get_info()[0]) if cuda else int(0.8 * options.memory * 2**20)
        )
        distances = library(recipe, folder, device, memory if contender == "library" else 0)
    contenders.synchronise()
    seconds = time.perf_counter() - start
    length = options.length or read_architecture(folder / "base").context
    tokens = len(distances) * recipe.epochs * options.sequences * length
    return {
        "seconds": seconds,
        "cpu": time.process_time() - cpu_start,
        "rate": tokens / seconds,
        "peak": contenders.peak_memory(),
        "distance": sum(distances) / len(distances),
    }


def recipe_of(runs: int, options: argparse.Namespace) -> dict:
    """The default recipe with `runs` runs: learning rates spread over its own, then seeds."""
    settings = contenders.CONFIG["recipes"]["default"]
    rates = settings["learning_rates"]
    seeds = -(-runs // len(rates))
    every = len(rates) * seeds // runs
    return settings | {
        "learning_rates": rates[::every][: runs // seeds],
        "seeds": list(range(seeds)),
        "batch_size": options.batch_size,
        "epochs": options.epochs,
    }


def main() -> None:
    parser = contenders.options(__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 8, 27, 81])
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--sequences", type=int, default=256, help="of an epoch")
    parser.add_argument("--length", type=int, help="tokens of a sequence; default: the context")
    parser.add_argument("--memory", type=int, default=1500, help="MiB of a process, on the CPU")
    parser.set_defaults(batch_size=4, repetitions=3)
    options = parser.parse_args()
    if options.contender:
        from overtrain.training.finetune import Recipe

        recipe = Recipe.from_config(SWEEP["recipe"], recipe_of(options.runs[0], options))
        print(json.dumps(run(options.contender, recipe, options.folder, options)))
        return
    columns = {
        "seconds": ("wall time, s", ",.1f"),
        "cpu": ("CPU time, s", ",.1f"),
        "rate": ("tokens/s", ",.0f"),
        "peak": ("peak memory, MiB", ",.0f"),
        "distance": ("mean distance", ".4f"),
    }
    length = options.length or contenders.architecture(options.shape).context
    for runs in options.runs:
        results = contenders.compare(
            ["library", "library, in sequence", "Trainer, in sequence"],
            options.repetitions,
            lambda folder: prepare(options, folder),
            ["--runs", str(runs)],
        )
        print(
            f"{options.shape}, {runs} runs of {options.epochs} epochs over "
            f"{options.sequences} x {length}, batches of {options.batch_size}\n"
        )
        better = {"seconds": False, "cpu": False, "peak": False}
        print(contenders.table(results, columns, better) + "\n", flush=True)


if __name__ == "__main__":
    main()

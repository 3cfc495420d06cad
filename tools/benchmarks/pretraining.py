"""Pre-training tokens per second: the library's loop against transformers' Trainer.

    python tools/benchmarks/pretraining.py
    python tools/benchmarks/pretraining.py --shape OLMo-30M --repetitions 2     # minutes on a CPU

Both train the same model and weights on the same batches with the same AdamW, schedule and clip, in
float32 on a CPU and with bfloat16 autocast, compiled, on a GPU; equal mean losses show it. Timed
are all steps after the first few.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import contenders

from overtrain.data import corpora, tokenizer
from overtrain.records.provenance import seed_of

WORK = {  # on a CPU; sequences in a batch, steps, and how many of them are not timed
    "OLMo-10K": (16, 400, 40),
    "OLMo-30M": (2, 3, 1),
}


def prepare(folder: Path) -> None:
    """A corpus of characters."""
    corpus = folder / "corpus"
    corpus.mkdir()
    encoder = tokenizer.characters()
    documents = contenders.text().split("\n\n")
    shards = corpora.write_shards(documents, encoder, 40, corpus, "00000")
    corpora.write_manifest(corpus, encoder, [shards], {"docstrings": "networkx"})


class Clock:
    """Times the steps from the `skip`-th to the last."""

    def __init__(self, skip: int, steps: int):
        self.skip, self.last, self.done = skip, steps, 0

    def tick(self) -> None:
        self.done += 1
        if self.done in (self.skip, self.last):
            contenders.synchronise()
            if self.done == self.skip:
                self.start = time.perf_counter(), time.process_time()
            else:
                self.seconds = time.perf_counter() - self.start[0]
                self.cpu_seconds = time.process_time() - self.start[1]


def library(job: object, folder: Path, clock: Clock) -> float:
    """`overtrain.training.pretrain.train` as the pipeline calls it; mean loss over all steps."""
    import numpy as np
    import pyarrow.parquet as pq
    import torch

    from overtrain.training import pretrain

    class TimedAdamW(pretrain.FlatAdamW):
        def step(self, *arguments: object) -> None:
            super().step(*arguments)
            clock.tick()

    pretrain.FlatAdamW = TimedAdamW
    workers = pretrain.Workers(job.batch_size, float("inf"), gpus=int(torch.cuda.is_available()))
    output = folder / "checkpoint"
    pretrain.train(job, workers, folder / "corpus", output, folder / "state", {})
    curve = pq.read_table(output / "loss.parquet").to_pydict()
    return float(np.average(curve["loss"], weights=np.diff(curve["tokens"], prepend=0)))


def trainer(job: object, folder: Path, clock: Clock) -> float:
    """`transformers.Trainer` on the batches and from the weights that the library takes."""
    import torch
    from transformers import OlmoConfig, OlmoForCausalLM, TrainerCallback

    from overtrain.model.olmo import Olmo

    class Timed(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            clock.tick()

    a = job.architecture
    # A padding token's embedding would get no gradient, and this corpus pads nothing.
    settings = a.transformers_config(0) | {"pad_token_id": None}
    model = OlmoForCausalLM(OlmoConfig.from_dict(settings))
    own = Olmo(a).initialise(seed_of("initial weights", job.model, job.seed))
    model.load_state_dict(own.state_dict())
    del own
    windows = corpora.Corpus(folder / "corpus").windows("train", a.context)
    stream = corpora.ordered_windows(windows, seed_of("data order", job.corpus, job.seed), print)
    rows = torch.from_numpy(stream(0, job.steps * job.batch_size))
    return (
        contenders.trainer(
            model,
            (rows[:, :-1], rows[:, 1:].contiguous()),
            job.batch_size,
            {"lr": job.learning_rate, "betas": job.betas, "weight_decay": job.weight_decay},
            job.clip,
            job.warmup,
            [Timed()],
            torch.cuda.is_available(),
            folder / "trainer",
        )
        .train()
        .training_loss
    )


def run(contender: str, job: object, folder: Path, skip: int, threads: int) -> dict:
    """Train once; tokens per second, memory and the mean loss over all steps."""
    contenders.begin(threads, transformers=contender == "Trainer")
    clock = Clock(skip, job.steps)
    loss = {"library": library, "Trainer": trainer}[contender](job, folder, clock)
    tokens = (job.steps - skip) * job.batch_size * job.architecture.context
    return {
        "rate": tokens / clock.seconds,
        "cpu": tokens / clock.cpu_seconds,
        "peak": contenders.peak_memory(),
        "loss": loss,
    }


def main() -> None:
    parser = contenders.options(__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int)
    options = parser.parse_args()
    batch_size, steps, skip = WORK.get(options.shape, WORK["OLMo-30M"])
    batch_size, steps = options.batch_size or batch_size, options.steps or steps
    a = contenders.architecture(options.shape)
    if not options.contender:
        results = contenders.compare(["library", "Trainer"], options.repetitions, prepare)
        columns = {
            "rate": ("tokens/s", ",.0f"),
            "cpu": ("tokens/CPU s", ",.0f"),
            "peak": ("peak memory, MiB", ",.0f"),
            "loss": ("mean loss", ".4f"),
        }
        print(f"{options.shape}, batches of {batch_size} x {a.context}, {steps} steps\n")
        print(contenders.table(results, columns, {"rate": True, "cpu": True, "peak": False}))
        return
    from overtrain.training.pretrain import Pretraining

    settings = contenders.CONFIG["pretraining"]
    job = Pretraining(
        model=options.shape,
        architecture=a,
        corpus="networkx",
        tokens=steps * batch_size * a.context,
        seed=0,
        batch_size=batch_size,
        betas=tuple(settings["betas"]),
        **{key: settings[key] for key in ("learning_rate", "weight_decay", "warmup", "clip")},
    )
    print(json.dumps(run(options.contender, job, options.folder, skip, options.threads)))


if __name__ == "__main__":
    main()

"""The library behind the pipeline: from text to checkpoints, modifications, numbers and figures.

Each module is importable and testable alone. What knows Snakemake is `scripts/job.py`, which a
rule's script starts with, and `scripts/main.py`, a run's start and end. The packages, in the order
data flows; none imports one below it but `records` (`configuration` stands over all of them;
`slurm` reads what a scheduler says at a start):

    config     what is asked for, typed and checked before anything runs; slices, paths, resources
    planning   what jobs cost, and so ask for; the plan
    hub        the hub's client, what it has of what is named, downloads
    data       corpora and their tokenizers, tasks, conversations, prompts
    model      the model with muP, one alone or many stacked; the hub's models; losses, memory
    training   checkpoints, and their modification by training
    measuring  checkpoints and runs: held-out text, noise, curvature, benchmarks, answers, judges
    studies    what is one study's alone: linear networks; numbers that authors released
    figures    from measurements to the rows of a figure, what they support, and how it is drawn
    records    measurements, and where a result comes from: for all
"""

import os

# A token comes from HF_TOKEN alone: the file that a login left is for its user's other work.
os.environ["HF_TOKEN_PATH"] = os.devnull


class PipelineError(Exception):
    """Bad input or a full disk: one line that names the key or file, and what would be right."""

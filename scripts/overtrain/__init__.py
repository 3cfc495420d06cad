"""The library behind the pipeline: from text to checkpoints, modifications, numbers and figures.

Nothing in here imports Snakemake; each module is importable and testable alone, in the order data
flows:

    config -> catalogue                           what is asked for, checked before anything runs
    hub, docstrings, tokenizer -> corpora, tasks  text in, token shards and task splits out
    conversations -> tasks; chat -> sft           instruction data; instruction tuning on it
    architecture, olmo, dropout                   the model, with muP, one alone or many stacked
    optimizer, schedule -> pretrain, finetune     checkpoints, and their modification by training
    client -> download -> sources                 the hub or a folder: files, and what there is
    released, initialisation                      models of the hub: losses, documented stds
    perturb, sharpness                            checkpoints under noise; the curvature along it
    linear_network -> theory                      section 4: networks with closed forms, simulated
    evaluate -> measurements -> aggregate         losses in, tidy rows out, those of one figure
    prompts, generate, responses                  what tuned models answer to instructions
    judge, endpoint -> alpaca                     which answer is better, as win rates
    summaries -> statistics                       means over seeds; what a figure's rows support
    published -> amuro_char                       numbers that authors released, as measurements
    kind -> families -> kinds -> targets          figures and tables: one module a kind
    drawing -> plots, tables                      what the papers print
    provenance, job, sweep, workers, allocator    how a job runs and says where its result came from
"""

import os

# A token comes from HF_TOKEN alone: the file that a login left is for its user's other work.
os.environ["HF_TOKEN_PATH"] = os.devnull


class PipelineError(Exception):
    """Bad input or a full disk: one line that names the key or file, and what would be right."""

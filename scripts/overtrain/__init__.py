"""The library behind the pipeline: from text to checkpoints, modifications, measurements and
figures.

Nothing in here knows Snakemake; each module is importable and testable alone, in the order data
flows:

    config -> catalogue                      what is asked for, checked before anything runs
    docstrings, tokenizer, corpora, tasks    text in, token shards and task splits out
    architecture, olmo                       the model, with muP, one alone or many stacked
    schedule, pretrain, finetune, perturb    checkpoints and their modifications
    evaluate, measurements                   losses in, tidy rows out
    plots, tables                            what the papers print
    provenance, job                          who made a file, and how a rule's script runs
"""


class PipelineError(Exception):
    """Bad input or a full disk: one line that names the key or file, and what would be right."""

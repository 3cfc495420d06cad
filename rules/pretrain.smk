# One model to one token budget. Its resumable state lies outside the output, which Snakemake clears when a
# job starts again.


rule pretrain:
    input:
        corpus=lambda wildcards: f"results/corpora/{catalogue.corpus_of(wildcards.model)}",
    output:
        checkpoint=directory("results/checkpoints/{model}/{checkpoint}"),
    log:
        "results/logs/pretrain/{model}/{checkpoint}.log",
    benchmark:
        "results/benchmarks/pretrain/{model}/{checkpoint}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("controlled"),
    # Longest first: a small budget fills a gap that a large one leaves.
    priority: 10
    retries: ask.retries("pretrain")
    conda:
        "../envs/train.yaml"
    threads: ask.threads("pretrain")
    resources:
        **ask("pretrain"),
    params:
        config=lambda wildcards: catalogue.pretraining_slice(wildcards.model, wildcards.checkpoint),
    script:
        "../scripts/pretrain.py"

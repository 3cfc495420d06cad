# One revision of a released model, from the hub. On the head node: compute nodes have no internet.


rule download_checkpoint:
    output:
        checkpoint=directory("results/checkpoints/{model}/{checkpoint}"),
    log:
        "results/logs/download_checkpoint/{model}/{checkpoint}.log",
    benchmark:
        "results/benchmarks/download_checkpoint/{model}/{checkpoint}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("released"),
    conda:
        "../envs/evaluate.yaml"
    threads: lookup("resources/download/threads", within=config)
    resources:
        mem_mb=lookup("resources/download/mem_mb", within=config),
        runtime=lookup("resources/download/runtime", within=config),
        gpu=lookup("resources/download/gpu", within=config),
    params:
        config=lambda wildcards: catalogue.download_slice(
            wildcards.model, wildcards.checkpoint
        ),
    script:
        "../scripts/download_checkpoint.py"

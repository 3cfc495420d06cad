# What a sweep's runs, and the checkpoint they started from, score on the task and on held-out web text.


rule evaluate_id:
    input:
        checkpoint="results/checkpoints/{model}/{checkpoint}",
        runs="results/runs/{model}/{checkpoint}/{task}/{recipe}",
        validation="results/tasks/{task}/validation.parquet",
        test="results/tasks/{task}/test.parquet",
    output:
        measurements="results/measurements/{model}/{checkpoint}/{task}/{recipe}/id.parquet",
    log:
        "results/logs/evaluate_id/{model}/{checkpoint}/{task}/{recipe}.log",
    benchmark:
        "results/benchmarks/evaluate_id/{model}/{checkpoint}/{task}/{recipe}.tsv"
    group:
        "sweep"
    conda:
        "../envs/evaluate.yaml"
    threads: catalogue.settings.resources.evaluate.threads
    resources:
        mem_mb=catalogue.settings.resources.evaluate.mem_mb,
        runtime=lambda wildcards, attempt: attempt
        * catalogue.settings.resources.evaluate.runtime,
        gpu=catalogue.settings.resources.evaluate.gpu,
    params:
        config="{}",
    script:
        "../scripts/evaluate_id.py"


rule evaluate_c4:
    input:
        checkpoint="results/checkpoints/{model}/{checkpoint}",
        runs="results/runs/{model}/{checkpoint}/{task}/{recipe}",
        corpus=lambda wildcards: f"results/corpora/{catalogue.corpus_of(wildcards.model)}",
        # Makes the group a chain: jobs side by side in a group would ask for the sum of their GPUs.
        after="results/measurements/{model}/{checkpoint}/{task}/{recipe}/id.parquet",
    output:
        measurements="results/measurements/{model}/{checkpoint}/{task}/{recipe}/c4.parquet",
    log:
        "results/logs/evaluate_c4/{model}/{checkpoint}/{task}/{recipe}.log",
    benchmark:
        "results/benchmarks/evaluate_c4/{model}/{checkpoint}/{task}/{recipe}.tsv"
    group:
        "sweep"
    conda:
        "../envs/evaluate.yaml"
    threads: catalogue.settings.resources.evaluate.threads
    resources:
        mem_mb=catalogue.settings.resources.evaluate.mem_mb,
        runtime=lambda wildcards, attempt: attempt
        * catalogue.settings.resources.evaluate.runtime,
        gpu=catalogue.settings.resources.evaluate.gpu,
    params:
        config=lambda wildcards: catalogue.c4_slice(wildcards.model),
    script:
        "../scripts/evaluate_c4.py"

# What a sweep's runs, and the checkpoint they started from, score on the task and on held-out web text.


rule evaluate_id:
    input:
        checkpoint="results/checkpoints/{model}/{checkpoint}",
        runs=rules.finetune.output.runs,
        validation=rules.prepare_task.output.validation,
        test=rules.prepare_task.output.test,
    output:
        measurements="results/measurements/{model}/{checkpoint}/{task}/{recipe}/id.parquet",
    log:
        "results/logs/evaluate_id/{model}/{checkpoint}/{task}/{recipe}.log",
    benchmark:
        "results/benchmarks/evaluate_id/{model}/{checkpoint}/{task}/{recipe}.tsv"
    group:
        SWEEP
    conda:
        "../envs/evaluate.yaml"
    threads: ask.threads("evaluate")
    resources:
        **ask("evaluate"),
    params:
        config="{}",
    script:
        "../scripts/evaluate_id.py"


rule evaluate_c4:
    input:
        checkpoint="results/checkpoints/{model}/{checkpoint}",
        runs=rules.finetune.output.runs,
        corpus=lambda wildcards: f"results/corpora/{catalogue.corpus_of(wildcards.model)}",
        # Makes the group a chain: jobs side by side in a group would ask for the sum of their GPUs.
        after=rules.evaluate_id.output.measurements,
    output:
        measurements="results/measurements/{model}/{checkpoint}/{task}/{recipe}/c4.parquet",
    log:
        "results/logs/evaluate_c4/{model}/{checkpoint}/{task}/{recipe}.log",
    benchmark:
        "results/benchmarks/evaluate_c4/{model}/{checkpoint}/{task}/{recipe}.tsv"
    group:
        SWEEP
    conda:
        "../envs/evaluate.yaml"
    threads: ask.threads("evaluate")
    resources:
        **ask("evaluate"),
    params:
        config=lambda wildcards: catalogue.c4_slice(wildcards.model),
    script:
        "../scripts/evaluate_c4.py"

# Fine-tuning tasks: train, validation and test as parquet.


rule prepare_task:
    output:
        train="results/tasks/{task}/train.parquet",
        validation="results/tasks/{task}/validation.parquet",
        test="results/tasks/{task}/test.parquet",
        manifest="results/tasks/{task}/manifest.json",
    log:
        "results/logs/prepare_task/{task}.log",
    benchmark:
        "results/benchmarks/prepare_task/{task}.tsv"
    priority: 100
    localrule: True
    conda:
        "../envs/download.yaml"
    threads: ask.threads("task")
    resources:
        **ask("task", local=True),
    params:
        config=lambda wildcards: catalogue.task_slice(wildcards.task),
    script:
        "../scripts/prepare_task.py"

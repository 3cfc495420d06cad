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
    conda:
        "../envs/download.yaml"
    threads: catalogue.settings.resources.task.threads
    resources:
        mem_mb=catalogue.settings.resources.task.mem_mb,
        runtime=catalogue.settings.resources.task.runtime,
        gpu=catalogue.settings.resources.task.gpu,
    params:
        config=lambda wildcards: catalogue.task_slice(wildcards.task),
    script:
        "../scripts/prepare_task.py"

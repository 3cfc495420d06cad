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
    threads: lookup("resources/task/threads", within=config)
    resources:
        mem_mb=lookup("resources/task/mem_mb", within=config),
        runtime=lookup("resources/task/runtime", within=config),
        gpu=lookup("resources/task/gpu", within=config),
    params:
        config=lambda wildcards: catalogue.task_slice(wildcards.task),
    script:
        "../scripts/prepare_task.py"

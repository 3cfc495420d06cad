# Fine-tuning tasks: train, validation and test as parquet, and the images that they speak of.


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
    wildcard_constraints:
        task=catalogue.tasks_of("language_modelling", "classification", "prompted", "chat"),
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


# Images lie in one archive, with a manifest that has its hash: it is tens of GB at the paper's scale.
rule prepare_image_task:
    output:
        train="results/tasks/{task}/train.parquet",
        validation="results/tasks/{task}/validation.parquet",
        test="results/tasks/{task}/test.parquet",
        manifest="results/tasks/{task}/manifest.json",
        images=directory("results/tasks/{task}/images"),
    log:
        "results/logs/prepare_image_task/{task}.log",
    benchmark:
        "results/benchmarks/prepare_image_task/{task}.tsv"
    wildcard_constraints:
        task=catalogue.tasks_of("image_chat"),
    priority: 100
    localrule: True
    conda:
        "../envs/download.yaml"
    threads: ask.threads("images")
    resources:
        **ask("images", local=True),
    params:
        config=lambda wildcards: catalogue.task_slice(wildcards.task),
    script:
        "../scripts/prepare_image_task.py"

# Prompted tasks ("Amuro & Char"): what a checkpoint answers after a few examples, and what a run that was tuned on one of
# the tasks does, in each format.


rule evaluate_task_base:
    input:
        model="results/checkpoints/{model}/{checkpoint}",
        questions=catalogue.asked_files("test"),
        examples=catalogue.asked_files("train"),
    output:
        measurements="results/measurements/{model}/{checkpoint}/tasks.parquet",
        answers="results/answers/{model}/{checkpoint}.parquet",
    log:
        "results/logs/evaluate_task_base/{model}/{checkpoint}.log",
    benchmark:
        "results/benchmarks/evaluate_task_base/{model}/{checkpoint}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("released"),
    conda:
        "../envs/vllm.yaml" if catalogue.task_suite.backend == "vllm" else "../envs/benchmarks.yaml"
    threads: ask.threads("benchmarks")
    resources:
        **ask("benchmarks"),
    params:
        config=catalogue.tasks_slice(),
    script:
        "../scripts/evaluate_task.py"


# The first link of a run's chain; the benchmarks and held-out text follow (rules/benchmarks.smk).
use rule evaluate_task_base as evaluate_task with:
    input:
        model=rules.finetune_instruct.output.model,
        questions=catalogue.asked_files("test"),
        examples=catalogue.asked_files("train"),
        own=lambda wildcards: catalogue.own_files(wildcards.task),
    output:
        measurements="results/measurements/{model}/{checkpoint}/{task}/{recipe}/{run}/tasks.parquet",
        answers="results/answers/{model}/{checkpoint}/{task}/{recipe}/{run}.parquet",
    log:
        "results/logs/evaluate_task/{model}/{checkpoint}/{task}/{recipe}/{run}.log",
    benchmark:
        "results/benchmarks/evaluate_task/{model}/{checkpoint}/{task}/{recipe}/{run}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("released"),
        recipe=catalogue.runs_of("amuro_char"),
    priority: 20
    group:
        EVALUATED_RUN
    params:
        config=lambda wildcards: catalogue.tasks_slice(wildcards.task),

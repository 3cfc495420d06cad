# Programs that a run writes, and its base: how many hold a docstring (the blog's experiment).


rule evaluate_programs_base:
    input:
        model="results/checkpoints/{model}/{checkpoint}",
        questions=rules.prepare_task.output.test,
        validation=rules.prepare_task.output.validation,
    output:
        measurements="results/measurements/{model}/{checkpoint}/{task}/{recipe}/programs.parquet",
        answers="results/answers/{model}/{checkpoint}/{task}/{recipe}.parquet",
    log:
        "results/logs/evaluate_programs_base/{model}/{checkpoint}/{task}/{recipe}.log",
    benchmark:
        "results/benchmarks/evaluate_programs_base/{model}/{checkpoint}/{task}/{recipe}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("released"),
        recipe=catalogue.runs_of("docstrings"),
    conda:
        "../envs/benchmarks.yaml"
    threads: ask.threads("generate")
    resources:
        **ask("generate"),
    params:
        config=lambda wildcards: catalogue.programs_slice(wildcards.task, wildcards.recipe),
    script:
        "../scripts/evaluate_programs.py"


# The first link of a run's chain; held-out text follows (rules/benchmarks.smk).
use rule evaluate_programs_base as evaluate_programs with:
    input:
        model=rules.finetune_instruct.output.model,
        questions=rules.prepare_task.output.test,
        validation=rules.prepare_task.output.validation,
    output:
        measurements="results/measurements/{model}/{checkpoint}/{task}/{recipe}/{run}/programs.parquet",
        answers="results/answers/{model}/{checkpoint}/{task}/{recipe}/{run}.parquet",
    log:
        "results/logs/evaluate_programs/{model}/{checkpoint}/{task}/{recipe}/{run}.log",
    benchmark:
        "results/benchmarks/evaluate_programs/{model}/{checkpoint}/{task}/{recipe}/{run}.tsv"
    priority: 20
    group:
        EVALUATED_RUN

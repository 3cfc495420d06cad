# Programs that a run writes: how many still hold a docstring (the blog's experiment).


# The first link of a run's chain; held-out text follows (rules/benchmarks.smk).
rule evaluate_programs:
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
    wildcard_constraints:
        model=catalogue.models_of("released"),
        recipe=catalogue.runs_of("docstrings"),
    priority: 20
    group:
        EVALUATED_RUN
    conda:
        "../envs/vllm.yaml"
        if catalogue.settings.evaluations.programs.backend == "vllm"
        else "../envs/benchmarks.yaml"
    threads: ask.threads("generate")
    resources:
        **ask("generate"),
    params:
        config=lambda wildcards: catalogue.programs_slice(wildcards.task),
    script:
        "../scripts/evaluate_programs.py"

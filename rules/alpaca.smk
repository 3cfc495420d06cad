# What instruction-tuned models answer, and how often a judge prefers it to a reference run's answers.


rule prepare_prompts:
    input:
        conversations=lambda wildcards: catalogue.asked_task(wildcards.prompts),
    output:
        prompts="results/prompts/{prompts}.parquet",
        manifest="results/prompts/{prompts}.json",
    log:
        "results/logs/prepare_prompts/{prompts}.log",
    benchmark:
        "results/benchmarks/prepare_prompts/{prompts}.tsv"
    conda:
        "../envs/download.yaml"
    threads: catalogue.settings.resources.task.threads
    resources:
        mem_mb=catalogue.settings.resources.task.mem_mb,
        runtime=catalogue.settings.resources.task.runtime,
        gpu=catalogue.settings.resources.task.gpu,
    params:
        config=lambda wildcards: catalogue.prompts_slice(wildcards.prompts),
    script:
        "../scripts/prepare_prompts.py"


rule generate_responses:
    input:
        model="results/runs/{model}/{checkpoint}/{task}/{recipe}/{run}",
        prompts=f"results/prompts/{catalogue.settings.evaluations.alpaca.prompts}.parquet",
    output:
        responses="results/responses/{model}/{checkpoint}/{task}/{recipe}/{run}.parquet",
    log:
        "results/logs/generate_responses/{model}/{checkpoint}/{task}/{recipe}/{run}.log",
    benchmark:
        "results/benchmarks/generate_responses/{model}/{checkpoint}/{task}/{recipe}/{run}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("released"),
    group:
        "instruct_run"
    conda:
        "../envs/benchmarks.yaml"
    threads: lambda wildcards: catalogue.sized("generate", wildcards.model).threads
    resources:
        mem_mb=lambda wildcards: catalogue.sized("generate", wildcards.model).mem_mb,
        disk_mb=lambda wildcards: catalogue.sized("generate", wildcards.model).disk_mb,
        runtime=lambda wildcards, attempt: attempt
        * catalogue.sized("generate", wildcards.model).runtime,
        gpu=lambda wildcards: catalogue.sized("generate", wildcards.model).gpu,
    params:
        config=catalogue.generation_slice(),
    script:
        "../scripts/generate_responses.py"


# A judge behind an endpoint needs the internet, one that only counts words needs no GPU: both run on the head node.
judged_on_head = catalogue.judge.kind in ("openai", "overlap")
judging = getattr(catalogue.settings.resources, "task" if judged_on_head else "judge")


# Not in the group of the runs: it needs all of a sweep, and the reference run, and other machines.
rule evaluate_alpaca:
    input:
        responses=lambda wildcards: catalogue.responses(**wildcards),
        reference=lambda wildcards: catalogue.reference_responses(
            wildcards.model, wildcards.task, wildcards.recipe
        ),
        prompts=f"results/prompts/{catalogue.settings.evaluations.alpaca.prompts}.parquet",
        judge=catalogue.judge_folder(),
    output:
        measurements="results/measurements/{model}/{checkpoint}/{task}/{recipe}/alpaca.parquet",
        verdicts="results/verdicts/{model}/{checkpoint}/{task}/{recipe}.parquet",
    log:
        "results/logs/evaluate_alpaca/{model}/{checkpoint}/{task}/{recipe}.log",
    benchmark:
        "results/benchmarks/evaluate_alpaca/{model}/{checkpoint}/{task}/{recipe}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("released"),
    localrule: judged_on_head
    conda:
        "../envs/judge.yaml"
    threads: judging.threads
    resources:
        mem_mb=judging.mem_mb,
        runtime=lambda wildcards, attempt: attempt * judging.runtime,
        gpu=judging.gpu,
    params:
        config=lambda wildcards: catalogue.alpaca_slice(
            wildcards.model, wildcards.recipe
        ),
    script:
        "../scripts/evaluate_alpaca.py"

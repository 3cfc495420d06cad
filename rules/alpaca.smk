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
    localrule: True
    conda:
        "../envs/download.yaml"
    threads: ask.threads("task")
    resources:
        **ask("task"),
    params:
        config=lambda wildcards: catalogue.prompts_slice(wildcards.prompts),
    script:
        "../scripts/prepare_prompts.py"


rule generate_responses:
    input:
        model=rules.finetune_instruct.output.model,
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
        "../envs/vllm.yaml"
        if catalogue.settings.evaluations.alpaca.backend == "vllm"
        else "../envs/benchmarks.yaml"
    threads: ask.threads("generate")
    resources:
        **ask("generate"),
    params:
        config=catalogue.generation_slice(),
    script:
        "../scripts/generate_responses.py"


# A judge behind an endpoint needs the internet, one that only counts words needs no GPU: both run on the head node.
judged_on_head = catalogue.judge.kind in ("openai", "overlap")
judging = "task" if judged_on_head else "judge"


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
        "../envs/vllm.yaml" if catalogue.judge.kind == "vllm" else "../envs/judge.yaml"
    threads: ask.threads(judging)
    resources:
        **ask(judging),
    params:
        config=lambda wildcards: catalogue.alpaca_slice(wildcards.model, wildcards.recipe),
    script:
        "../scripts/evaluate_alpaca.py"

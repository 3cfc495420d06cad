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
        **ask("task", local=True),
    params:
        config=lambda wildcards: catalogue.prompts_slice(wildcards.prompts),
    script:
        "../scripts/prepare_prompts.py"


# What reads a run's weights is one group: a cluster runs it as one job on one GPU, one link after the other. The
# group's name is all that the scheduler shows of it (squeue's comment), so it says which run.
EVALUATED_RUN = "tuned_run,{model},{checkpoint},{task},{recipe},{run}"


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
        recipe=catalogue.runs_of("released"),
    # Before any further training: weights that wait take disk (rules/finetune_instruct.smk).
    priority: 20
    group:
        EVALUATED_RUN
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


# Not in the groups of the runs: it needs all of them, and the reference run, and other machines. One job judges the
# sweeps of all checkpoints of a model, since it takes a judge of 141 GB minutes to load. Verdicts are kept by sweep as
# they come (results/state/verdicts): a job that was killed, or that finds one more checkpoint, asks what is left.
rule evaluate_alpaca:
    input:
        responses=lambda wildcards: catalogue.judged_responses(**wildcards),
        reference=lambda wildcards: catalogue.reference_responses(
            wildcards.model, wildcards.task, wildcards.recipe
        ),
        prompts=f"results/prompts/{catalogue.settings.evaluations.alpaca.prompts}.parquet",
        judge=catalogue.judge_folder(),
    output:
        measurements="results/measurements/{model}/{task}/{recipe}/alpaca.parquet",
        verdicts="results/verdicts/{model}/{task}/{recipe}.parquet",
    log:
        "results/logs/evaluate_alpaca/{model}/{task}/{recipe}.log",
    benchmark:
        "results/benchmarks/evaluate_alpaca/{model}/{task}/{recipe}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("released"),
        recipe=catalogue.runs_of("released"),
    localrule: judged_on_head
    conda:
        "../envs/vllm.yaml" if catalogue.judge.kind == "vllm" else "../envs/judge.yaml"
    threads: ask.threads(judging)
    resources:
        **ask(judging, local=judged_on_head),
    params:
        config=lambda wildcards: catalogue.alpaca_slice(wildcards.model, wildcards.recipe),
    script:
        "../scripts/evaluate_alpaca.py"

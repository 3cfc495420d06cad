# Benchmarks of lm-eval, and held-out web text, on released checkpoints and on their instruction-tuned runs.
# What reads a run is a link of its chain: a group's jobs come one after the other (rules/evaluate.smk).


# On the head node: fetches data sets, and makes every prompt once.
rule prepare_benchmarks:
    input:
        # A suite's own task files; lm-eval's come with its version.
        tasks=lambda wildcards: catalogue.task_files(wildcards.suite),
    output:
        suite=directory("results/benchmark_data/{suite}"),
    log:
        "results/logs/prepare_benchmarks/{suite}.log",
    benchmark:
        "results/benchmarks/prepare_benchmarks/{suite}.tsv"
    localrule: True
    conda:
        "../envs/benchmarks.yaml"
    threads: ask.threads("task")
    resources:
        **ask("task", local=True),
    params:
        config=lambda wildcards: catalogue.suite_slice(wildcards.suite),
    script:
        "../scripts/prepare_benchmarks.py"


rule evaluate_benchmarks_base:
    input:
        model="results/checkpoints/{model}/{checkpoint}",
        suite=lambda wildcards: f"results/benchmark_data/{catalogue.suite_name(wildcards.model)}",
    output:
        measurements="results/measurements/{model}/{checkpoint}/benchmarks.parquet",
    log:
        "results/logs/evaluate_benchmarks_base/{model}/{checkpoint}.log",
    benchmark:
        "results/benchmarks/evaluate_benchmarks_base/{model}/{checkpoint}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("released"),
    conda:
        "../envs/vllm.yaml" if catalogue.suite.backend == "vllm" else "../envs/benchmarks.yaml"
    threads: ask.threads("benchmarks")
    resources:
        **ask("benchmarks"),
    params:
        config=lambda wildcards: catalogue.benchmarks_slice(wildcards.model),
    script:
        "../scripts/evaluate_benchmarks.py"


use rule evaluate_benchmarks_base as evaluate_benchmarks with:
    input:
        model=rules.finetune_instruct.output.model,
        suite=lambda wildcards: f"results/benchmark_data/{catalogue.suite_name(wildcards.model)}",
        after=lambda wildcards: catalogue.before("benchmarks", **wildcards),
    output:
        measurements="results/measurements/{model}/{checkpoint}/{task}/{recipe}/{run}/benchmarks.parquet",
    log:
        "results/logs/evaluate_benchmarks/{model}/{checkpoint}/{task}/{recipe}/{run}.log",
    benchmark:
        "results/benchmarks/evaluate_benchmarks/{model}/{checkpoint}/{task}/{recipe}/{run}.tsv"
    priority: 20
    group:
        EVALUATED_RUN


rule evaluate_c4_base:
    input:
        model="results/checkpoints/{model}/{checkpoint}",
        corpus=lambda wildcards: f"results/corpora/{catalogue.corpus_of(wildcards.model)}",
    output:
        measurements="results/measurements/{model}/{checkpoint}/c4.parquet",
    log:
        "results/logs/evaluate_c4_base/{model}/{checkpoint}.log",
    benchmark:
        "results/benchmarks/evaluate_c4_base/{model}/{checkpoint}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("released"),
    conda:
        "../envs/evaluate.yaml"
    threads: ask.threads("benchmarks")
    resources:
        **ask("benchmarks"),
    params:
        config=lambda wildcards: catalogue.instruct_c4_slice(wildcards.model),
    script:
        "../scripts/evaluate_c4_instruct.py"


# The last link: after it a run's weights are gone.
use rule evaluate_c4_base as evaluate_c4_instruct with:
    input:
        model=rules.finetune_instruct.output.model,
        corpus=lambda wildcards: f"results/corpora/{catalogue.corpus_of(wildcards.model)}",
        after=lambda wildcards: catalogue.before("c4", **wildcards),
    output:
        measurements="results/measurements/{model}/{checkpoint}/{task}/{recipe}/{run}/c4.parquet",
    log:
        "results/logs/evaluate_c4_instruct/{model}/{checkpoint}/{task}/{recipe}/{run}.log",
    benchmark:
        "results/benchmarks/evaluate_c4_instruct/{model}/{checkpoint}/{task}/{recipe}/{run}.tsv"
    priority: 20
    group:
        EVALUATED_RUN

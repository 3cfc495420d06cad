# Benchmarks of lm-eval, and held-out web text, on released checkpoints and on their instruction-tuned runs.


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
    conda:
        "../envs/benchmarks.yaml"
    threads: catalogue.settings.resources.task.threads
    resources:
        mem_mb=catalogue.settings.resources.task.mem_mb,
        runtime=catalogue.settings.resources.task.runtime,
        gpu=catalogue.settings.resources.task.gpu,
    params:
        config=lambda wildcards: catalogue.suite_slice(wildcards.suite),
    script:
        "../scripts/prepare_benchmarks.py"


rule evaluate_benchmarks_base:
    input:
        model="results/checkpoints/{model}/{checkpoint}",
        suite=f"results/benchmark_data/{catalogue.settings.evaluations.benchmarks.suite}",
    output:
        measurements="results/measurements/{model}/{checkpoint}/benchmarks.parquet",
    log:
        "results/logs/evaluate_benchmarks_base/{model}/{checkpoint}.log",
    benchmark:
        "results/benchmarks/evaluate_benchmarks_base/{model}/{checkpoint}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("released"),
    conda:
        "../envs/benchmarks.yaml"
    threads: lambda wildcards: catalogue.sized("benchmarks", wildcards.model).threads
    resources:
        mem_mb=lambda wildcards: catalogue.sized("benchmarks", wildcards.model).mem_mb,
        runtime=lambda wildcards, attempt: attempt
        * catalogue.sized("benchmarks", wildcards.model).runtime,
        gpu=lambda wildcards: catalogue.sized("benchmarks", wildcards.model).gpu,
        disk_mb=lambda wildcards: catalogue.sized("benchmarks", wildcards.model).disk_mb,
    params:
        config=catalogue.benchmarks_slice(),
    script:
        "../scripts/evaluate_benchmarks.py"


# A link of a run's chain: its group's jobs come one after the other (rules/evaluate.smk).
rule evaluate_benchmarks:
    input:
        model="results/runs/{model}/{checkpoint}/{task}/{recipe}/{run}",
        suite=f"results/benchmark_data/{catalogue.settings.evaluations.benchmarks.suite}",
        after="results/responses/{model}/{checkpoint}/{task}/{recipe}/{run}.parquet",
    output:
        measurements="results/measurements/{model}/{checkpoint}/{task}/{recipe}/{run}/benchmarks.parquet",
    log:
        "results/logs/evaluate_benchmarks/{model}/{checkpoint}/{task}/{recipe}/{run}.log",
    benchmark:
        "results/benchmarks/evaluate_benchmarks/{model}/{checkpoint}/{task}/{recipe}/{run}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("released"),
    group:
        "instruct_run"
    conda:
        "../envs/benchmarks.yaml"
    threads: lambda wildcards: catalogue.sized("benchmarks", wildcards.model).threads
    resources:
        mem_mb=lambda wildcards: catalogue.sized("benchmarks", wildcards.model).mem_mb,
        runtime=lambda wildcards, attempt: attempt
        * catalogue.sized("benchmarks", wildcards.model).runtime,
        gpu=lambda wildcards: catalogue.sized("benchmarks", wildcards.model).gpu,
        disk_mb=lambda wildcards: catalogue.sized("benchmarks", wildcards.model).disk_mb,
    params:
        config=catalogue.benchmarks_slice(),
    script:
        "../scripts/evaluate_benchmarks.py"


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
    threads: lambda wildcards: catalogue.sized("benchmarks", wildcards.model).threads
    resources:
        mem_mb=lambda wildcards: catalogue.sized("benchmarks", wildcards.model).mem_mb,
        runtime=lambda wildcards, attempt: attempt
        * catalogue.sized("benchmarks", wildcards.model).runtime,
        gpu=lambda wildcards: catalogue.sized("benchmarks", wildcards.model).gpu,
        disk_mb=lambda wildcards: catalogue.sized("benchmarks", wildcards.model).disk_mb,
    params:
        config=lambda wildcards: catalogue.instruct_c4_slice(wildcards.model),
    script:
        "../scripts/evaluate_c4_instruct.py"


# The last link: after it a run's weights are gone.
rule evaluate_c4_instruct:
    input:
        model="results/runs/{model}/{checkpoint}/{task}/{recipe}/{run}",
        corpus=lambda wildcards: f"results/corpora/{catalogue.corpus_of(wildcards.model)}",
        after="results/measurements/{model}/{checkpoint}/{task}/{recipe}/{run}/benchmarks.parquet",
    output:
        measurements="results/measurements/{model}/{checkpoint}/{task}/{recipe}/{run}/c4.parquet",
    log:
        "results/logs/evaluate_c4_instruct/{model}/{checkpoint}/{task}/{recipe}/{run}.log",
    benchmark:
        "results/benchmarks/evaluate_c4_instruct/{model}/{checkpoint}/{task}/{recipe}/{run}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("released"),
    group:
        "instruct_run"
    conda:
        "../envs/evaluate.yaml"
    threads: lambda wildcards: catalogue.sized("benchmarks", wildcards.model).threads
    resources:
        mem_mb=lambda wildcards: catalogue.sized("benchmarks", wildcards.model).mem_mb,
        runtime=lambda wildcards, attempt: attempt
        * catalogue.sized("benchmarks", wildcards.model).runtime,
        gpu=lambda wildcards: catalogue.sized("benchmarks", wildcards.model).gpu,
        disk_mb=lambda wildcards: catalogue.sized("benchmarks", wildcards.model).disk_mb,
    params:
        config=lambda wildcards: catalogue.instruct_c4_slice(wildcards.model),
    script:
        "../scripts/evaluate_c4_instruct.py"

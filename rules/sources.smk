# What the hub has of what the configuration names. On the head node: compute nodes have no internet.


rule check_sources:
    output:
        answers="results/sources.json",
        report="results/sources.md",
    log:
        "results/logs/check_sources.log",
    benchmark:
        "results/benchmarks/check_sources.tsv"
    priority: 100
    conda:
        "../envs/download.yaml"
    threads: catalogue.settings.resources.task.threads
    resources:
        mem_mb=catalogue.settings.resources.task.mem_mb,
        runtime=catalogue.settings.resources.task.runtime,
        gpu=catalogue.settings.resources.task.gpu,
    params:
        config=catalogue.sources_slice(),
    script:
        "../scripts/check_sources.py"

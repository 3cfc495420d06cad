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
    threads: lookup("resources/task/threads", within=config)
    resources:
        mem_mb=lookup("resources/task/mem_mb", within=config),
        runtime=lookup("resources/task/runtime", within=config),
        gpu=lookup("resources/task/gpu", within=config),
    params:
        config=catalogue.sources_slice(),
    script:
        "../scripts/check_sources.py"

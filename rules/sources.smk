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
    localrule: True
    conda:
        "../envs/download.yaml"
    threads: ask.threads("task")
    resources:
        **ask("task", local=True),
    params:
        config=targets.sources_slice(),
    script:
        "../scripts/check_sources.py"

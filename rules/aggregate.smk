# The rows that one figure is made of, and no others; and what they support.


rule aggregate:
    input:
        measurements=lambda wildcards: targets.measurements(wildcards.paper, wildcards.figure),
    output:
        aggregate="results/aggregates/{paper}/{figure}.parquet",
        statistics="results/aggregates/{paper}/{figure}.statistics.csv",
    log:
        "results/logs/aggregate/{paper}/{figure}.log",
    benchmark:
        "results/benchmarks/aggregate/{paper}/{figure}.tsv"
    localrule: True
    conda:
        "../envs/figures.yaml"
    threads: ask.threads("draw")
    resources:
        **ask("draw", local=True),
    params:
        config=lambda wildcards: targets.aggregate_slice(wildcards.paper, wildcards.figure),
    script:
        "../scripts/aggregate.py"

# The rows that one figure is made of, and no others; and what they support.


rule aggregate:
    input:
        measurements=lambda wildcards: catalogue.measurements(
            wildcards.paper, wildcards.figure
        ),
    output:
        aggregate="results/aggregates/{paper}/{figure}.parquet",
        statistics="results/aggregates/{paper}/{figure}.statistics.csv",
    log:
        "results/logs/aggregate/{paper}/{figure}.log",
    benchmark:
        "results/benchmarks/aggregate/{paper}/{figure}.tsv"
    conda:
        "../envs/figures.yaml"
    threads: catalogue.settings.resources.draw.threads
    resources:
        mem_mb=catalogue.settings.resources.draw.mem_mb,
        runtime=catalogue.settings.resources.draw.runtime,
        gpu=catalogue.settings.resources.draw.gpu,
    params:
        config=lambda wildcards: catalogue.aggregate_slice(
            wildcards.paper, wildcards.figure
        ),
    script:
        "../scripts/aggregate.py"

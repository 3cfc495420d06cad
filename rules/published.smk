# Numbers that the authors of a paper released, as measurements like ours.


rule download_published:
    output:
        files=directory("results/published/{source}"),
        provenance="results/published/{source}.json",
    log:
        "results/logs/download_published/{source}.log",
    benchmark:
        "results/benchmarks/download_published/{source}.tsv"
    conda:
        "../envs/figures.yaml"
    threads: config["resources"]["draw"]["threads"]
    resources:
        mem_mb=config["resources"]["draw"]["mem_mb"],
        runtime=config["resources"]["draw"]["runtime"],
        gpu=config["resources"]["draw"]["gpu"],
    params:
        config=lambda wildcards: catalogue.published_slice(wildcards.source),
    script:
        "../scripts/download_published.py"


rule read_published:
    input:
        files="results/published/{source}",
    output:
        measurements="results/measurements/published/{source}.parquet",
        mapping="results/measurements/published/{source}.mapping.csv",
        left_out="results/measurements/published/{source}.left_out.csv",
    log:
        "results/logs/read_published/{source}.log",
    benchmark:
        "results/benchmarks/read_published/{source}.tsv"
    conda:
        "../envs/figures.yaml"
    threads: config["resources"]["draw"]["threads"]
    resources:
        mem_mb=config["resources"]["draw"]["mem_mb"],
        runtime=config["resources"]["draw"]["runtime"],
        gpu=config["resources"]["draw"]["gpu"],
    params:
        config=lambda wildcards: catalogue.reading_slice(wildcards.source),
    script:
        "../scripts/read_published.py"

# Numbers that the authors of a paper released, as measurements like ours.


rule download_published:
    output:
        files=directory("results/released_numbers/{source}"),
        provenance="results/released_numbers/{source}.json",
    log:
        "results/logs/download_published/{source}.log",
    benchmark:
        "results/benchmarks/download_published/{source}.tsv"
    conda:
        "../envs/figures.yaml"
    threads: catalogue.settings.resources.draw.threads
    resources:
        mem_mb=catalogue.settings.resources.draw.mem_mb,
        runtime=catalogue.settings.resources.draw.runtime,
        gpu=catalogue.settings.resources.draw.gpu,
    params:
        config=lambda wildcards: catalogue.released_numbers_slice(wildcards.source),
    script:
        "../scripts/download_published.py"


rule read_published:
    input:
        files="results/released_numbers/{source}",
    output:
        measurements="results/measurements/released_numbers/{source}.parquet",
        mapping="results/measurements/released_numbers/{source}.mapping.csv",
        left_out="results/measurements/released_numbers/{source}.left_out.csv",
    log:
        "results/logs/read_published/{source}.log",
    benchmark:
        "results/benchmarks/read_published/{source}.tsv"
    conda:
        "../envs/figures.yaml"
    threads: catalogue.settings.resources.draw.threads
    resources:
        mem_mb=catalogue.settings.resources.draw.mem_mb,
        runtime=catalogue.settings.resources.draw.runtime,
        gpu=catalogue.settings.resources.draw.gpu,
    params:
        config=lambda wildcards: catalogue.reading_slice(wildcards.source),
    script:
        "../scripts/read_published.py"

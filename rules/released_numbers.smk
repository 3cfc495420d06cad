# Numbers that the authors of a paper released, as measurements like ours.


rule download_released_numbers:
    output:
        files=directory("results/released_numbers/{source}"),
        provenance="results/released_numbers/{source}.json",
    log:
        "results/logs/download_released_numbers/{source}.log",
    benchmark:
        "results/benchmarks/download_released_numbers/{source}.tsv"
    localrule: True
    conda:
        "../envs/figures.yaml"
    threads: ask.threads("draw")
    resources:
        **ask("draw", local=True),
    params:
        config=lambda wildcards: catalogue.released_numbers_slice(wildcards.source),
    script:
        "../scripts/download_released_numbers.py"


rule read_released_numbers:
    input:
        files=rules.download_released_numbers.output.files,
    output:
        measurements="results/measurements/released_numbers/{source}.parquet",
        mapping="results/measurements/released_numbers/{source}.mapping.csv",
        left_out="results/measurements/released_numbers/{source}.left_out.csv",
    log:
        "results/logs/read_released_numbers/{source}.log",
    benchmark:
        "results/benchmarks/read_released_numbers/{source}.tsv"
    localrule: True
    conda:
        "../envs/figures.yaml"
    threads: ask.threads("draw")
    resources:
        **ask("draw", local=True),
    params:
        config=lambda wildcards: catalogue.reading_slice(wildcards.source),
    script:
        "../scripts/read_released_numbers.py"

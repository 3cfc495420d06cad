# Vision encoders, which no training changes: the hub's, or one that is trained here on images that are here.


rule download_encoder:
    output:
        encoder=directory("results/encoders/{encoder}"),
    log:
        "results/logs/download_encoder/{encoder}.log",
    benchmark:
        "results/benchmarks/download_encoder/{encoder}.tsv"
    wildcard_constraints:
        encoder=catalogue.encoders_of("hub"),
    priority: 100
    localrule: True
    conda:
        "../envs/evaluate.yaml"
    threads: ask.threads("download")
    resources:
        **ask("download", local=True),
    params:
        config=lambda wildcards: catalogue.encoder_slice(wildcards.encoder),
    script:
        "../scripts/download_encoder.py"


rule train_encoder:
    output:
        encoder=directory("results/encoders/{encoder}"),
    log:
        "results/logs/train_encoder/{encoder}.log",
    benchmark:
        "results/benchmarks/train_encoder/{encoder}.tsv"
    wildcard_constraints:
        encoder=catalogue.encoders_of("digits"),
    priority: 100
    conda:
        "../envs/instruct.yaml"
    threads: ask.threads("encoder")
    resources:
        **ask("encoder"),
    params:
        config=lambda wildcards: catalogue.encoder_slice(wildcards.encoder),
    script:
        "../scripts/train_encoder.py"

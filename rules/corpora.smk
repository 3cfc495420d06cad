# Text to pre-train on, as token shards with a manifest.


rule build_corpus:
    output:
        corpus=directory("results/corpora/{corpus}"),
    log:
        "results/logs/build_corpus/{corpus}.log",
    benchmark:
        "results/benchmarks/build_corpus/{corpus}.tsv"
    priority: 100
    conda:
        "../envs/download.yaml"
    threads: config["resources"]["corpus"]["threads"]
    resources:
        mem_mb=config["resources"]["corpus"]["mem_mb"],
        runtime=config["resources"]["corpus"]["runtime"],
        gpu=config["resources"]["corpus"]["gpu"],
    params:
        config=lambda wildcards: catalogue.corpus_slice(wildcards.corpus),
    script:
        "../scripts/build_corpus.py"

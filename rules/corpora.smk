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
    threads: lookup("resources/corpus/threads", within=config)
    resources:
        mem_mb=lookup("resources/corpus/mem_mb", within=config),
        runtime=lookup("resources/corpus/runtime", within=config),
        gpu=lookup("resources/corpus/gpu", within=config),
    params:
        config=lambda wildcards: catalogue.corpus_slice(wildcards.corpus),
    script:
        "../scripts/build_corpus.py"

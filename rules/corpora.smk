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
    threads: catalogue.settings.resources.corpus.threads
    resources:
        mem_mb=catalogue.settings.resources.corpus.mem_mb,
        runtime=catalogue.settings.resources.corpus.runtime,
        gpu=catalogue.settings.resources.corpus.gpu,
    params:
        config=lambda wildcards: catalogue.corpus_slice(wildcards.corpus),
    script:
        "../scripts/build_corpus.py"

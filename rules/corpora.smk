# Text to pre-train on, as token shards with a manifest.


rule build_corpus:
    output:
        corpus=directory("results/corpora/{corpus}"),
    log:
        "results/logs/build_corpus/{corpus}.log",
    benchmark:
        "results/benchmarks/build_corpus/{corpus}.tsv"
    priority: 100
    localrule: True
    conda:
        "../envs/download.yaml"
    threads: ask.threads("corpus")
    resources:
        **ask("corpus", local=True),
    params:
        config=lambda wildcards: catalogue.corpus_slice(wildcards.corpus),
    script:
        "../scripts/build_corpus.py"

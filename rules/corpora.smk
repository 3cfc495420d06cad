# Text to pre-train on, as token shards with a manifest. The hub's comes in parts of so many source files: downloaded on the
# head node, tokenised in cluster jobs, which need no network, and put together. Parts are gone when the corpus is there.


rule download_text:
    output:
        texts=temp(directory("results/texts/{corpus}/{part}")),
    log:
        "results/logs/download_text/{corpus}/{part}.log",
    benchmark:
        "results/benchmarks/download_text/{corpus}/{part}.tsv"
    wildcard_constraints:
        corpus=catalogue.corpora_of_hub(),
        part=r"\d+-\d+",
    priority: 100
    localrule: True
    conda:
        "../envs/download.yaml"
    threads: ask.threads("download_text")
    resources:
        **ask("download_text", local=True),
        disk_mb=lambda wildcards: catalogue.of_hub(wildcards.corpus).texts_mb(wildcards.part),
    params:
        config=lambda wildcards: catalogue.tokenising_slice(wildcards.corpus),
    script:
        "../scripts/download_text.py"


rule tokenise:
    input:
        texts=rules.download_text.output.texts,
    output:
        shards=temp(directory("results/shards/{corpus}/{part}")),
    log:
        "results/logs/tokenise/{corpus}/{part}.log",
    benchmark:
        "results/benchmarks/tokenise/{corpus}/{part}.tsv"
    priority: 101  # before the next download: source files leave the disk when they are tokenised
    conda:
        "../envs/download.yaml"
    threads: ask.threads("tokenise")
    resources:
        **ask("tokenise"),
        disk_mb=lambda wildcards: catalogue.of_hub(wildcards.corpus).shards_mb(wildcards.part),
    params:
        config=lambda wildcards: catalogue.tokenising_slice(wildcards.corpus),
    script:
        "../scripts/tokenise.py"


rule build_corpus:
    input:
        shards=lambda wildcards: catalogue.shards(wildcards.corpus),
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
        disk_mb=lambda wildcards: catalogue.settings.corpora[wildcards.corpus].disk_mb,
    params:
        config=lambda wildcards: catalogue.corpus_slice(wildcards.corpus),
    script:
        "../scripts/build_corpus.py"

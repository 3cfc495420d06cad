# One revision of a released model, from the hub or from a local folder that stands for it. On the head node:
# compute nodes have no internet.


# A checkpoint trained here as a revision of a repository, for stand-ins of released models.
rule publish_checkpoint:
    input:
        checkpoint="results/checkpoints/{model}/{checkpoint}",
    output:
        revision=directory("results/hub/{model}/{checkpoint}"),
        provenance="results/hub/{model}/{checkpoint}.json",
    log:
        "results/logs/publish_checkpoint/{model}/{checkpoint}.log",
    benchmark:
        "results/benchmarks/publish_checkpoint/{model}/{checkpoint}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("controlled"),
    conda:
        "../envs/download.yaml"
    threads: catalogue.settings.resources.task.threads
    resources:
        mem_mb=catalogue.settings.resources.task.mem_mb,
        runtime=catalogue.settings.resources.task.runtime,
        gpu=catalogue.settings.resources.task.gpu,
    params:
        config="{}",
    script:
        "../scripts/publish_checkpoint.py"


rule download_checkpoint:
    input:
        revision=lambda wildcards: catalogue.published_revision(
            wildcards.model, wildcards.checkpoint
        ),
    output:
        checkpoint=directory("results/checkpoints/{model}/{checkpoint}"),
    log:
        "results/logs/download_checkpoint/{model}/{checkpoint}.log",
    benchmark:
        "results/benchmarks/download_checkpoint/{model}/{checkpoint}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("released"),
    priority: 100
    conda:
        "../envs/evaluate.yaml"
    threads: catalogue.settings.resources.download.threads
    resources:
        mem_mb=catalogue.settings.resources.download.mem_mb,
        runtime=catalogue.settings.resources.download.runtime,
        gpu=catalogue.settings.resources.download.gpu,
    params:
        config=lambda wildcards: catalogue.download_slice(
            wildcards.model, wildcards.checkpoint
        ),
    script:
        "../scripts/download_checkpoint.py"


# The language model of a judge, for the jobs that load or serve it.
rule download_judge:
    output:
        model=directory("results/judges/{judge}"),
    log:
        "results/logs/download_judge/{judge}.log",
    benchmark:
        "results/benchmarks/download_judge/{judge}.tsv"
    wildcard_constraints:
        judge=catalogue.fetched_judges(),
    priority: 100
    conda:
        "../envs/evaluate.yaml"
    threads: catalogue.settings.resources.download.threads
    resources:
        mem_mb=catalogue.settings.resources.download.mem_mb,
        runtime=catalogue.settings.resources.download.runtime,
        gpu=catalogue.settings.resources.download.gpu,
    params:
        config=lambda wildcards: catalogue.download_judge_slice(wildcards.judge),
    script:
        "../scripts/download_judge.py"

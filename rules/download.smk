# One revision of a released model, from the hub or a local folder: a checkpoint trained here may stand in for it. On the
# head node: compute nodes have no internet.


rule download_checkpoint:
    input:
        stand_in=lambda wildcards: catalogue.stands_in(wildcards.model, wildcards.checkpoint),
    output:
        checkpoint=directory("results/checkpoints/{model}/{checkpoint}"),
    log:
        "results/logs/download_checkpoint/{model}/{checkpoint}.log",
    benchmark:
        "results/benchmarks/download_checkpoint/{model}/{checkpoint}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("released"),
    priority: 100
    localrule: True
    conda:
        "../envs/evaluate.yaml"
    threads: ask.threads("download")
    resources:
        **ask("download", local=True),
    params:
        config=lambda wildcards: catalogue.download_slice(wildcards.model, wildcards.checkpoint),
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
    localrule: True
    conda:
        "../envs/evaluate.yaml"
    threads: ask.threads("download")
    resources:
        **ask("download", local=True),
    params:
        config=lambda wildcards: catalogue.download_judge_slice(wildcards.judge),
    script:
        "../scripts/download_judge.py"

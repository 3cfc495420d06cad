# The loss along one direction from a checkpoint, beside its second-order approximation (appendix D).


rule interpolate_gaussian:
    input:
        checkpoint="results/checkpoints/{model}/{checkpoint}",
        corpus=lambda wildcards: f"results/corpora/{catalogue.corpus_of(wildcards.model)}",
    output:
        measurements="results/measurements/{model}/{checkpoint}/interpolation.parquet",
    log:
        "results/logs/interpolate_gaussian/{model}/{checkpoint}.log",
    benchmark:
        "results/benchmarks/interpolate_gaussian/{model}/{checkpoint}.tsv"
    conda:
        "../envs/evaluate.yaml"
    threads: catalogue.settings.resources.perturb.threads
    resources:
        mem_mb=catalogue.settings.resources.perturb.mem_mb,
        runtime=lambda wildcards, attempt: attempt
        * catalogue.settings.resources.perturb.runtime,
        gpu=catalogue.settings.resources.perturb.gpu,
    params:
        config=lambda wildcards: catalogue.interpolation_slice(
            wildcards.model, "gaussian"
        ),
    script:
        "../scripts/interpolate_gaussian.py"


# In the sweep's group, whose temporary weights it reads. The group stays a chain (rules/evaluate.smk) because
# the recipe is this rule's own: no evaluation reads that sweep beside it.
rule interpolate_finetuning:
    input:
        checkpoint="results/checkpoints/{model}/{checkpoint}",
        runs="results/runs/{model}/{checkpoint}/{task}/{recipe}",
        corpus=lambda wildcards: f"results/corpora/{catalogue.corpus_of(wildcards.model)}",
    output:
        measurements="results/measurements/{model}/{checkpoint}/{task}/{recipe}/interpolation.parquet",
    log:
        "results/logs/interpolate_finetuning/{model}/{checkpoint}/{task}/{recipe}.log",
    benchmark:
        "results/benchmarks/interpolate_finetuning/{model}/{checkpoint}/{task}/{recipe}.tsv"
    group:
        "sweep"
    conda:
        "../envs/evaluate.yaml"
    threads: catalogue.settings.resources.perturb.threads
    resources:
        mem_mb=catalogue.settings.resources.perturb.mem_mb,
        runtime=lambda wildcards, attempt: attempt
        * catalogue.settings.resources.perturb.runtime,
        gpu=catalogue.settings.resources.perturb.gpu,
    params:
        config=lambda wildcards: catalogue.interpolation_slice(
            wildcards.model, "fine_tuning"
        ),
    script:
        "../scripts/interpolate_finetuning.py"

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
    threads: ask.threads("perturb")
    resources:
        **ask("perturb"),
    params:
        config=lambda wildcards: catalogue.interpolation_slice(wildcards.model, "gaussian"),
    script:
        "../scripts/interpolate.py"


# In the sweep's group, whose temporary weights it reads. The group stays a chain (rules/evaluate.smk) because
# the recipe is this rule's own: no evaluation reads that sweep beside it.
use rule interpolate_gaussian as interpolate_finetuning with:
    input:
        checkpoint="results/checkpoints/{model}/{checkpoint}",
        runs=rules.finetune.output.runs,
        corpus=lambda wildcards: f"results/corpora/{catalogue.corpus_of(wildcards.model)}",
    output:
        measurements="results/measurements/{model}/{checkpoint}/{task}/{recipe}/interpolation.parquet",
    log:
        "results/logs/interpolate_finetuning/{model}/{checkpoint}/{task}/{recipe}.log",
    benchmark:
        "results/benchmarks/interpolate_finetuning/{model}/{checkpoint}/{task}/{recipe}.tsv"
    group:
        SWEEP
    params:
        config=lambda wildcards: catalogue.interpolation_slice(wildcards.model, "fine_tuning"),

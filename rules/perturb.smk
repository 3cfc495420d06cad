# Gaussian noise on a checkpoint's weights, several sizes and seeds, scored on held-out web text; and the
# curvature of the loss along it.


rule perturb_gaussian:
    input:
        checkpoint="results/checkpoints/{model}/{checkpoint}",
        corpus=lambda wildcards: f"results/corpora/{catalogue.corpus_of(wildcards.model)}",
    output:
        measurements="results/measurements/{model}/{checkpoint}/gaussian.parquet",
    log:
        "results/logs/perturb_gaussian/{model}/{checkpoint}.log",
    benchmark:
        "results/benchmarks/perturb_gaussian/{model}/{checkpoint}.tsv"
    conda:
        "../envs/evaluate.yaml"
    threads: lambda wildcards: catalogue.perturbation_resources(wildcards.model).threads
    resources:
        mem_mb=lambda wildcards: catalogue.perturbation_resources(
            wildcards.model
        ).mem_mb,
        runtime=lambda wildcards, attempt: attempt
        * catalogue.perturbation_resources(wildcards.model).runtime,
        gpu=lambda wildcards: catalogue.perturbation_resources(wildcards.model).gpu,
    params:
        config=lambda wildcards: catalogue.perturbation_slice(wildcards.model),
    script:
        "../scripts/perturb_gaussian.py"


rule measure_sharpness:
    input:
        checkpoint="results/checkpoints/{model}/{checkpoint}",
        corpus=lambda wildcards: f"results/corpora/{catalogue.corpus_of(wildcards.model)}",
    output:
        measurements="results/measurements/{model}/{checkpoint}/sharpness.parquet",
    log:
        "results/logs/measure_sharpness/{model}/{checkpoint}.log",
    benchmark:
        "results/benchmarks/measure_sharpness/{model}/{checkpoint}.tsv"
    conda:
        "../envs/evaluate.yaml"
    threads: catalogue.settings.resources.perturb.threads
    resources:
        mem_mb=catalogue.settings.resources.perturb.mem_mb,
        runtime=lambda wildcards, attempt: attempt
        * catalogue.settings.resources.perturb.runtime,
        gpu=catalogue.settings.resources.perturb.gpu,
    params:
        config=lambda wildcards: catalogue.sharpness_slice(wildcards.model),
    script:
        "../scripts/measure_sharpness.py"

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
    threads: ask.threads(catalogue.perturbation_resources)
    resources:
        **ask(catalogue.perturbation_resources),
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
    threads: ask.threads("perturb")
    resources:
        **ask("perturb"),
    params:
        config=lambda wildcards: catalogue.on_text_slice("sharpness", wildcards.model),
    script:
        "../scripts/measure_sharpness.py"

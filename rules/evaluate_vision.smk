# What visually tuned models answer about images, scored (the VLM score).


# On the head node: fetches data sets with their images.
rule prepare_vision_suite:
    output:
        suite=directory("results/vision_suites/{suite}"),
    log:
        "results/logs/prepare_vision_suite/{suite}.log",
    benchmark:
        "results/benchmarks/prepare_vision_suite/{suite}.tsv"
    localrule: True
    conda:
        "../envs/download.yaml"
    threads: ask.threads("images")
    resources:
        **ask("images", local=True),
    params:
        config=lambda wildcards: catalogue.vision_suite_slice(wildcards.suite),
    script:
        "../scripts/prepare_vision_suite.py"


# The first link of a visually tuned run's chain; the benchmarks and held-out text follow (rules/benchmarks.smk).
rule evaluate_vision:
    input:
        model=rules.finetune_vision.output.model,
        encoder=lambda wildcards: catalogue.encoder(wildcards.recipe),
        suite=f"results/vision_suites/{catalogue.settings.evaluations.vision.suite}",
    output:
        measurements="results/measurements/{model}/{checkpoint}/{task}/{recipe}/{run}/vision.parquet",
        answers="results/answers/{model}/{checkpoint}/{task}/{recipe}/{run}.parquet",
    log:
        "results/logs/evaluate_vision/{model}/{checkpoint}/{task}/{recipe}/{run}.log",
    benchmark:
        "results/benchmarks/evaluate_vision/{model}/{checkpoint}/{task}/{recipe}/{run}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("released"),
        recipe=catalogue.recipes_of("visual_recipes"),
    priority: 20
    group:
        EVALUATED_RUN
    conda:
        "../envs/instruct.yaml"
    threads: ask.threads("evaluate_vision")
    resources:
        **ask("evaluate_vision"),
    params:
        config=lambda wildcards: catalogue.vision_slice(wildcards.recipe),
    script:
        "../scripts/evaluate_vision.py"

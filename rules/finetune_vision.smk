# Visual tuning of a released model in LLaVA's two stages: a projector from the encoder's features to the model's
# embeddings, and then, in each run, the language model and the projector together.


# One for all runs of a checkpoint, or one for each of their seeds (visual_recipes.*.alignment.seeds).
rule align_projector:
    input:
        checkpoint="results/checkpoints/{model}/{checkpoint}",
        encoder=lambda wildcards: catalogue.encoder(wildcards.recipe),
        train=lambda wildcards: f"{catalogue.captions(wildcards.recipe)}/train.parquet",
        test=lambda wildcards: f"{catalogue.captions(wildcards.recipe)}/test.parquet",
        images=lambda wildcards: f"{catalogue.captions(wildcards.recipe)}/images",
    output:
        projector=directory("results/projectors/{model}/{checkpoint}/{recipe}/{projector}"),
        measurements="results/measurements/{model}/{checkpoint}/{recipe}/{projector}/alignment.parquet",
    log:
        "results/logs/align_projector/{model}/{checkpoint}/{recipe}/{projector}.log",
    benchmark:
        "results/benchmarks/align_projector/{model}/{checkpoint}/{recipe}/{projector}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("released"),
        recipe=catalogue.recipes_of("visual_recipes"),
    retries: ask.retries("align_projector")
    conda:
        "../envs/instruct.yaml"
    threads: ask.threads("align_projector")
    resources:
        **ask("align_projector"),
    params:
        config=lambda wildcards: catalogue.alignment_slice(wildcards.recipe, wildcards.projector),
    script:
        "../scripts/align_projector.py"


# Its weights wait for the run's evaluations as those of instruction tuning do (rules/finetune_instruct.smk). They are the
# language model's, as any checkpoint's, and the projector's beside them.
rule finetune_vision:
    input:
        checkpoint="results/checkpoints/{model}/{checkpoint}",
        projector=lambda wildcards: catalogue.projector(
            wildcards.model, wildcards.checkpoint, wildcards.recipe, wildcards.run
        ),
        encoder=lambda wildcards: catalogue.encoder(wildcards.recipe),
        train=rules.prepare_image_task.output.train,
        test=rules.prepare_image_task.output.test,
        images=rules.prepare_image_task.output.images,
    output:
        model=temp(directory("results/runs/{model}/{checkpoint}/{task}/{recipe}/{run}")),
        measurements="results/measurements/{model}/{checkpoint}/{task}/{recipe}/{run}/training.parquet",
    log:
        "results/logs/finetune_vision/{model}/{checkpoint}/{task}/{recipe}/{run}.log",
    benchmark:
        "results/benchmarks/finetune_vision/{model}/{checkpoint}/{task}/{recipe}/{run}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("released"),
        recipe=catalogue.recipes_of("visual_recipes"),
    retries: ask.retries("finetune_vision")
    conda:
        "../envs/instruct.yaml"
    threads: ask.threads("finetune_vision")
    resources:
        **ask("finetune_vision"),
    params:
        config=lambda wildcards: catalogue.visual_slice(wildcards.recipe, wildcards.run),
    script:
        "../scripts/finetune_vision.py"

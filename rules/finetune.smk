# A sweep: every learning rate x seed of a recipe, on one task, from one checkpoint. Its weights are temporary.
# With the evaluations that read them it is one group, so that a cluster runs the chain as one job on one node.

# The group's name is all that the scheduler shows of it (squeue's comment), so it says which sweep. No slash: with most
# engines it is the name of a file, too.
SWEEP = "sweep,{model},{checkpoint},{task},{recipe}"


rule finetune:
    input:
        checkpoint="results/checkpoints/{model}/{checkpoint}",
        train=rules.prepare_task.output.train,
        validation=rules.prepare_task.output.validation,
    output:
        runs=temp(directory("results/runs/{model}/{checkpoint}/{task}/{recipe}")),
        measurements="results/measurements/{model}/{checkpoint}/{task}/{recipe}/training.parquet",
    log:
        "results/logs/finetune/{model}/{checkpoint}/{task}/{recipe}.log",
    benchmark:
        "results/benchmarks/finetune/{model}/{checkpoint}/{task}/{recipe}.tsv"
    retries: ask.retries("finetune")
    group:
        SWEEP
    conda:
        "../envs/train.yaml"
    threads: ask.threads("finetune")
    resources:
        **ask("finetune"),
    params:
        config=lambda wildcards: catalogue.sweep_slice(wildcards.task, wildcards.recipe),
    script:
        "../scripts/finetune.py"

# Instruction tuning of a released model: one run (a learning rate and a seed), and what reads its weights, in one
# group: a cluster runs the chain as one job on one node. Resumable state lies outside the outputs, which Snakemake
# clears when a job starts again.


rule finetune_instruct:
    input:
        checkpoint="results/checkpoints/{model}/{checkpoint}",
        train=rules.prepare_task.output.train,
        test=rules.prepare_task.output.test,
    output:
        model=temp(directory("results/runs/{model}/{checkpoint}/{task}/{recipe}/{run}")),
        measurements="results/measurements/{model}/{checkpoint}/{task}/{recipe}/{run}/training.parquet",
    log:
        "results/logs/finetune_instruct/{model}/{checkpoint}/{task}/{recipe}/{run}.log",
    benchmark:
        "results/benchmarks/finetune_instruct/{model}/{checkpoint}/{task}/{recipe}/{run}.tsv"
    wildcard_constraints:
        model=catalogue.models_of("released"),
    retries: ask.retries("finetune_instruct")
    group:
        "instruct_run"
    conda:
        "../envs/instruct.yaml"
    threads: ask.threads("finetune_instruct")
    resources:
        # A longer limit for each attempt: what an attempt did is not lost, it goes on from its last state.
        **ask("finetune_instruct"),
    params:
        config=lambda wildcards: catalogue.instruct_slice(wildcards.recipe, wildcards.run),
    script:
        "../scripts/finetune_instruct.py"

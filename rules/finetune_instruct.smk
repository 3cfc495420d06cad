# Instruction tuning of a released model: one run (a learning rate and a seed). A job of its own: a model of 7B is tuned
# on four GPUs and evaluated on one. Resumable state lies outside the outputs, which Snakemake clears when a job starts
# again.
#
# The weights wait on the shared disk for the run's evaluations, one group of jobs (rules/alpaca.smk, rules/benchmarks.smk);
# Snakemake removes them after the last. What bounds the disk: an evaluation counts these weights in its own disk_mb, less
# than what its training gives back, and goes before the next training (priority). So the profile's disk_mb holds for runs
# in training and runs that wait together: 4 TB are 16 runs of 7B in training, or 133 that wait. Not counted are runs
# whose evaluation failed for good, and those that wait for a corpus or a suite of benchmarks that is still being made.


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
        recipe=catalogue.recipes_of("instruction_recipes"),
    retries: ask.retries("finetune_instruct")
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

# What a study's runs take: as the plan expects it and, once they have run, as their benchmark files say.


rule count_hours:
    input:
        runs=lambda wildcards: (
            Hours(ask, wildcards.source).files() if wildcards.counted == "spent" else []
        ),
    output:
        measurements="results/measurements/hours/{source}/{counted}.parquet",
    log:
        "results/logs/count_hours/{source}/{counted}.log",
    benchmark:
        "results/benchmarks/count_hours/{source}/{counted}.tsv"
    wildcard_constraints:
        counted="expected|spent",
    localrule: True
    conda:
        "../envs/figures.yaml"
    threads: ask.threads("draw")
    resources:
        **ask("draw", local=True),
    params:
        config=lambda wildcards: Hours(ask, wildcards.source).slice(),
    script:
        "../scripts/count_hours.py"

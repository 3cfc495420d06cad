# Two-layer linear networks, simulated beside their closed forms.


rule simulate_theory:
    output:
        measurements="results/measurements/theory/{experiment}.parquet",
    log:
        "results/logs/simulate_theory/{experiment}.log",
    benchmark:
        "results/benchmarks/simulate_theory/{experiment}.tsv"
    localrule: True
    conda:
        "../envs/simulate.yaml"
    threads: ask.threads("theory")
    resources:
        **ask("theory", local=True),
    params:
        config=lambda wildcards: catalogue.theory_slice(wildcards.experiment),
    script:
        "../scripts/simulate_theory.py"

# Two-layer linear networks, simulated beside their closed forms.


rule simulate_theory:
    output:
        measurements="results/measurements/theory/{experiment}.parquet",
    log:
        "results/logs/simulate_theory/{experiment}.log",
    benchmark:
        "results/benchmarks/simulate_theory/{experiment}.tsv"
    conda:
        "../envs/simulate.yaml"
    threads: lookup("resources/theory/threads", within=config)
    resources:
        mem_mb=lookup("resources/theory/mem_mb", within=config),
        runtime=lookup("resources/theory/runtime", within=config),
        gpu=lookup("resources/theory/gpu", within=config),
    params:
        config=lambda wildcards: catalogue.theory_slice(wildcards.experiment),
    script:
        "../scripts/simulate_theory.py"

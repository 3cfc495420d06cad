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
    threads: catalogue.settings.resources.theory.threads
    resources:
        mem_mb=catalogue.settings.resources.theory.mem_mb,
        runtime=catalogue.settings.resources.theory.runtime,
        gpu=catalogue.settings.resources.theory.gpu,
    params:
        config=lambda wildcards: catalogue.theory_slice(wildcards.experiment),
    script:
        "../scripts/simulate_theory.py"

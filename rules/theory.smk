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
    threads: config["resources"]["theory"]["threads"]
    resources:
        mem_mb=config["resources"]["theory"]["mem_mb"],
        runtime=config["resources"]["theory"]["runtime"],
        gpu=config["resources"]["theory"]["gpu"],
    params:
        config=lambda wildcards: catalogue.theory_slice(wildcards.experiment),
    script:
        "../scripts/simulate_theory.py"

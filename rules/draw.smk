# Figures and tables as the papers print them, with the numbers that are drawn.


rule figure:
    input:
        aggregate=lambda wildcards: targets.figure_aggregate(wildcards.paper, wildcards.figure),
    output:
        pdf="results/figures/{paper}/{figure}.pdf",
        png="results/figures/{paper}/{figure}.png",
        csv="results/figures/{paper}/{figure}.csv",
        provenance="results/figures/{paper}/{figure}.json",
    log:
        "results/logs/figure/{paper}/{figure}.log",
    benchmark:
        "results/benchmarks/figure/{paper}/{figure}.tsv"
    localrule: True
    conda:
        "../envs/figures.yaml"
    threads: ask.threads("draw")
    resources:
        **ask("draw", local=True),
    params:
        config=lambda wildcards: targets.figure_slice(wildcards.paper, wildcards.figure),
    script:
        "../scripts/figure.py"


rule table:
    input:
        aggregate=lambda wildcards: targets.table_aggregate(wildcards.paper, wildcards.table),
    output:
        csv="results/tables/{paper}/{table}.csv",
        md="results/tables/{paper}/{table}.md",
        tex="results/tables/{paper}/{table}.tex",
        provenance="results/tables/{paper}/{table}.json",
    log:
        "results/logs/table/{paper}/{table}.log",
    benchmark:
        "results/benchmarks/table/{paper}/{table}.tsv"
    localrule: True
    conda:
        "../envs/figures.yaml"
    threads: ask.threads("draw")
    resources:
        **ask("draw", local=True),
    params:
        config=lambda wildcards: targets.table_slice(wildcards.paper, wildcards.table),
    script:
        "../scripts/table.py"

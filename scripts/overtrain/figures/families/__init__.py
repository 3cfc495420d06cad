"""What kinds of figures and tables share: keys, files that they are made of, checks, slices.

models              figures of checkpoints and of sweeps; tables that name models or tasks
tuned_runs          figures of scores of released models after instruction tuning
linear_networks     figures of simulated networks
released_numbers    figures and tables of a study whose numbers its authors released
"""

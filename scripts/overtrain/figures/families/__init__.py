"""What kinds of figures and tables share: keys, files that they are made of, checks, slices.

models              figures of checkpoints and of sweeps; tables that name models or tasks
tuned_runs          figures of scores of released models after instruction or visual tuning
main_scores         what their runs are tuned for: a win rate, or the mean of vision benchmarks
linear_networks     figures of simulated networks
released_numbers    figures and tables of a study whose numbers its authors released
"""

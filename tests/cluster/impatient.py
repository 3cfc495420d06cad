"""Snakemake, but its main process asks Slurm every second whether jobs have ended.

By itself it asks ever more seldom: 10 s later each time in which none has ended.
"""

from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor

Executor.next_seconds_between_status_checks = property(lambda _: 1, lambda _, seconds: None)

if __name__ == "__main__":
    main()

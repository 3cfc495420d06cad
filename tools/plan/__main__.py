"""What a run would cost, before anything is trained; and what it has cost.

    python tools/plan                                        everything
    python tools/plan --profile slurm --config own=mine.yaml -- fig05 fig06
    python tools/plan --spent --forceall                     beside it, what has been spent

From the root of the repository. Options and targets are snakemake's; `--gpus` and `--spent` are its
own. It starts nothing, and takes as long as `snakemake -n`. The page goes to the terminal, the same
with CSV and a picture to results/plan/. How each number comes about: docs/plan.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from overtrain import PipelineError
from overtrain.planning.plan import Plan
from overtrain.planning.report import page, write

FOLDER = Path("results/plan")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python tools/plan",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--gpus",
        type=count,
        nargs="+",
        default=[8, 64, 256],
        metavar="N",
        help="say how long it takes on so many GPUs",
    )
    parser.add_argument("--spent", action="store_true", help="what jobs that have run took")
    options, arguments = parser.parse_known_args()
    from workflow import found

    given = found(arguments)
    plan = Plan(given.jobs, given.ask, given.disk_mb)
    try:
        schedules = plan.schedules(options.gpus) if plan.total.jobs else {}
        name = "_".join(Path(target).stem for target in given.targets) or "all_figures"
        print(page(plan, schedules, options.spent))
        paths = write(plan, schedules, options.spent, FOLDER / name[:80])
        print("\nwritten:", " ".join(map(str, paths)))
    except PipelineError as error:
        sys.exit(f"error: {error}")


def count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of GPUs")
    return int(text)


if __name__ == "__main__":
    main()

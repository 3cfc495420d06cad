"""Measures on this machine what the plan and the time of jobs assume, in minutes.

    python tools/calibrate                                          on a node with a GPU
    python tools/calibrate --config own=mine.yaml
    python tools/calibrate --configfile profiles/demo/overlay.yaml  the demo's shapes, on a CPU

From the root of the repository, in the environment of training. Writes results/calibration.json,
which `python tools/plan` and the time that jobs ask for then use. How: docs/plan.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from functools import reduce
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from overtrain import PipelineError
from overtrain.config.catalogue import Catalogue
from overtrain.config.files import laid_over, load, read
from overtrain.configuration import catalogue_of
from overtrain.planning import calibration

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python tools/calibrate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--configfile", nargs="+", default=[], type=Path, metavar="FILE")
    parser.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each piece, at the least")
    options = parser.parse_args()
    try:
        calibrate(configured(options.configfile, options.config), options.seconds)
    except PipelineError as error:
        sys.exit(f"error: {error}")


def configured(files: list[Path], arguments: list[str]) -> Catalogue:
    from snakemake.cli import parse_config

    overlay = reduce(laid_over, map(read, files), {})
    return catalogue_of(load(ROOT, laid_over(overlay, parse_config(arguments)), files).config)


def calibrate(catalogue: Catalogue, seconds: float) -> None:
    os.environ["TQDM_DISABLE"] = "1"  # bars of what is measured, thousands of times
    import torch
    import transformers
    from pieces import Bench, all_pieces

    asked, hardware = catalogue.settings.resources.pretrain.gpu, catalogue.settings.hardware
    cuda = torch.cuda.is_available() and asked > 0
    if asked and not cuda:
        raise PipelineError(
            f"resources.pretrain.gpu is {asked} and no GPU is visible here: run it on a node that "
            "has one"
        )
    device = torch.cuda.get_device_name() if cuda else "cpu"
    memory = (
        torch.cuda.mem_get_info()[0] if cuda else 1e6 * catalogue.settings.resources.pretrain.mem_mb
    )
    if not cuda:
        torch.set_num_threads(catalogue.settings.resources.pretrain.threads)
    print(f"{device}; shares are of the numbers of {hardware.gpu} in hardware")
    head = ("kind", "model", "tokens/s", "share", "GB at most", "of what")
    print("{:<12} {:<14} {:>12} {:>6} {:>10}  {}".format(*head))
    found = []
    bench = Bench(catalogue, torch.device("cuda" if cuda else "cpu"), seconds, memory)
    for kind, name, piece in all_pieces(bench):
        if piece is None:
            print(f"{kind:<12} {name:<14} does not fit in the memory: stays as assumed")
            continue
        found.append(piece)
        rates = f"{piece.tokens_per_second:>12,.0f} {piece.used:>6.1%} {piece.peak_gb:>10.2f}"
        print(f"{piece.kind:<12} {piece.model:<14} {rates}  {piece.shape}", flush=True)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    versions += f", Python {platform.python_version()}"
    calibration.Calibration(device, versions, tuple(found)).write()
    print(f"written: {calibration.PATH}")


if __name__ == "__main__":
    main()

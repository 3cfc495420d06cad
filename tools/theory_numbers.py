"""The numbers of theory.md that are in no figure's CSV: single networks, fitted rates, A.21.

snakemake --cores 2 theory_features theory_noise theory_tradeoff
python tools/theory_numbers.py
"""

import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from overtrain.studies import linear_network as linear  # noqa: E402


def read(experiment: str) -> pd.DataFrame:
    return pd.read_parquet(ROOT / f"results/measurements/theory/{experiment}.parquet")


def against_closed_form(experiment: str, metric: str, by: list[str]) -> str:
    """Largest relative difference of the mean over networks, its median, and of one network."""
    data = read(experiment)
    data = data[data.metric == metric]
    simulated, closed = (data[data.selection == s] for s in ("simulated", "closed_form"))
    own = simulated.merge(closed[[*by, "value"]], on=by, suffixes=("", "_closed"))
    own = own[own.value_closed > 1e-6]
    mean = own.groupby(by)[["value", "value_closed"]].mean()
    of_mean = (mean.value / mean.value_closed - 1).abs()
    one = (own.value / own.value_closed - 1).abs().max()
    return f"mean {of_mean.max():.1%} (median {of_mean.median():.2%}), one network {one:.1%}"


settings = yaml.safe_load((ROOT / "studies/theory.yaml").read_text())["theory"]
spectrum = settings["features"]
pre = np.geomspace(spectrum["largest"], spectrum["smallest"], spectrum["count"])
distances = read("pretraining")
distances = distances[distances.selection == "simulated"]
for metric in ("distance_as_printed", "distance_up_to_rotation"):
    own = distances[distances.metric == metric]
    print(metric, own.groupby("tau").value.agg(["min", "max"]).map("{:.2g}".format), sep="\n")
rates = [-np.polyfit(n.tau, np.log(n.value), 1)[0] for _, n in own.groupby("seed")]
print(f"fitted rate {min(rates):.3f} to {max(rates):.3f}; C {linear.convergence_rate(pre):.3f}")
print("noise:", against_closed_form("noise", "loss", ["gamma", "features"]))
by = ["task", "lambda", "features"]
print("Delta_pre, all:", against_closed_form("fine_tuning", "loss_change", by))

# Assumption A.21 for alpha = 4, as printed and with A.10's 1/eta.
ft, d = 4 * pre, len(pre)
gamma = ft.max()
eta = linear.largest_learning_rate(pre, ft, 0.0)
epsilon = np.min((ft - pre) ** 2) / (4000 * d * gamma**2)
printed = math.log(100 * gamma / epsilon) / pre.min()
for steps in (printed, printed / eta):
    power = 2 * steps * math.log10(1 + 32 * eta * gamma)
    print(
        f"A.21: eta {eta:.4g}, epsilon {epsilon:.2g}, K {steps:.0f}, batch 10^{power:.0f} d/eps^2"
    )

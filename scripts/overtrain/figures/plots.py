"""The figures: each kind's function returns the axes it drew and the table of what is on them.

Lines are means over seeds, bands one standard deviation.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import pandas as pd
import seaborn as sns

from overtrain.figures import (
    plots_amuro_char,
    plots_controlled,
    plots_released,
    plots_schematic,
    plots_theory,
)
from overtrain.figures.axes import plt
from overtrain.records.provenance import whole_file

PLOTS = {
    "noise_by_tokens": plots_controlled.noise_by_tokens,
    "learning_rates_by_tokens": plots_controlled.learning_rates_by_tokens,
    "tuned_by_tokens": plots_controlled.tuned_by_tokens,
    "optimal_rate_by_tokens": plots_controlled.optimal_rate_by_tokens,
    "distance_by_learning_rate": plots_controlled.distance_by_learning_rate,
    "tuned_scores_by_tokens": plots_released.tuned_scores_by_tokens,
    "rate_scores_by_tokens": plots_released.rate_scores_by_tokens,
    "sharpness_by_tokens": plots_theory.sharpness_by_tokens,
    "loss_along_direction": plots_theory.loss_along_direction,
    "theory_features": plots_theory.theory_features,
    "theory_noise": plots_theory.theory_noise,
    "theory_sensitivity": plots_theory.theory_sensitivity,
    "theory_tradeoff": plots_theory.theory_tradeoff,
    "schematic_regimes": plots_schematic.schematic_regimes,
    "base_by_checkpoint": plots_amuro_char.base_by_checkpoint,
    "scores_by_checkpoint": plots_amuro_char.scores_by_checkpoint,
    "gains_by_checkpoint": plots_amuro_char.gains_by_checkpoint,
    "changes_by_evaluation": plots_amuro_char.changes_by_evaluation,
}


TITLE_CHARACTERS = 12  # in an inch of a figure's title


def draw(data: pd.DataFrame | None, settings: dict, pdf: Path) -> None:
    """Write .pdf, .png and .csv of the figure that `settings` describes.

    data: its measurements; None for a schematic.
    """
    sns.set_theme(context="paper", style="ticks", font_scale=0.9)
    plt.rcParams |= {"pdf.fonttype": 42, "svg.hashsalt": "overtrain", "axes.titlesize": "medium"}
    figure, drawn = PLOTS[settings["plot"]](data, settings)
    scale = f" ({settings['scale']})" if settings["scale"] else ""
    width = int(TITLE_CHARACTERS * figure.get_figwidth())
    figure.suptitle(textwrap.fill(settings["title"] + scale, width, break_on_hyphens=False))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # has placed everything; each format would do it again
    with whole_file(pdf) as temporary:  # no date in it: the same numbers give the same bytes
        figure.savefig(temporary, format="pdf", metadata={"CreationDate": None, "ModDate": None})
    with whole_file(pdf.with_suffix(".png")) as temporary:
        figure.savefig(temporary, format="png", dpi=200)
    with whole_file(pdf.with_suffix(".csv")) as temporary:
        drawn.to_csv(temporary, index=False)
    plt.close(figure)

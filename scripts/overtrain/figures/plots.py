"""A figure's files: what its kind draws, with its title and scale, and the table of what is on it.

Lines are means over seeds, bands one standard deviation.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import pandas as pd

from overtrain.figures.drawing.axes import plt, sns
from overtrain.figures.kinds import FIGURES
from overtrain.records.provenance import whole_file

TITLE_CHARACTERS = 12  # in an inch of a figure's title


def draw(data: pd.DataFrame | None, settings: dict, pdf: Path) -> None:
    """Write .pdf, .png and .csv of the figure that `settings` describes.

    data: its measurements; None for a schematic.
    """
    sns.set_theme(context="paper", style="ticks", font_scale=0.9)
    plt.rcParams |= {"pdf.fonttype": 42, "svg.hashsalt": "overtrain", "axes.titlesize": "medium"}
    figure, drawn = FIGURES[settings["plot"]].draw(data, settings)
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

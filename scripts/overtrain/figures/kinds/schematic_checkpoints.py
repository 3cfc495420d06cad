"""Fig 1 of "Amuro & Char": the scheme of the experiment, drawn without measurements."""

from __future__ import annotations

from typing import Literal

from overtrain.figures.families.released_numbers import OfStudy
from overtrain.figures.kind import Catalogue, Drawn, Figure

SHOWN = 4  # checkpoints: the first ones and the last, with dots between
ROWS = {"evaluated": 3.0, "checkpoint": 2.0, "tuned": 1.0, "evaluated again": 0.0}


class SchematicCheckpoints(OfStudy, Figure):
    """Pre-training from left to right; each checkpoint is fine-tuned, and both are evaluated."""

    plot: Literal["schematic_checkpoints"]

    def printed(self, catalogue: Catalogue) -> dict:
        study = self.study_settings(catalogue)
        tuned = list(study.plain()["trained_on"].values())
        shown = {"checkpoints": study.plain()["checkpoints"], "trained_on": tuned}
        return super().printed(catalogue) | shown | {"shots": study.shots}

    @staticmethod
    def draw(data: None, settings: dict) -> Drawn:
        import pandas as pd

        from overtrain.figures.drawing.axes import PALETTE, plt
        from overtrain.figures.drawing.study import step_text

        names = settings["checkpoints"]
        shown = [*names[: SHOWN - 1], names[-1]] if len(names) > SHOWN else names
        gap = 1 if len(names) > SHOWN else 0  # before the last, where others are left out
        places = [*range(len(shown) - 1), len(shown) - 1 + gap]
        figure = plt.figure(figsize=(6.4, 3.6), layout="constrained")
        axis = figure.add_subplot()
        left, right = -0.6, places[-1] + 0.6
        box = {"boxstyle": "round,pad=0.35", "lw": 1}
        middle = {"ha": "center", "va": "center"}
        for row, whose in (("evaluated", "base model"), ("evaluated again", "fine-tuned model")):
            text = f"evaluation of the {whose}, {settings['shots']} examples in a prompt"
            style = box | {"fc": "white", "ec": "grey"}
            axis.text((left + right) / 2, ROWS[row], text, bbox=style, **middle)
        line = ROWS["checkpoint"]
        arrow = {"arrowstyle": "-|>", "color": "black", "shrinkA": 0, "shrinkB": 0}
        axis.annotate("", (right + 0.5, line), (left, line), arrowprops=arrow | {"lw": 2})
        axis.text(left - 0.1, line, "pre-training", ha="right", va="center")
        axis.text(left - 0.1, ROWS["tuned"], "fine-tuning", ha="right", va="center")
        for name, place in zip(shown, places, strict=True):
            axis.plot(place, line, "o", color=PALETTE[1], ms=9, zorder=3)
            axis.text(place + 0.08, line + 0.14, step_text(name), ha="left", va="bottom")
            style = box | {"fc": PALETTE[0], "ec": PALETTE[0], "alpha": 0.25}
            axis.text(place, ROWS["tuned"], "tuned", bbox=style, **middle)
            for start, end in (
                (line + 0.12, ROWS["evaluated"] - 0.24),
                (line - 0.12, 1.24),
                (0.76, 0.24),
            ):
                axis.annotate("", (place, end), (place, start), arrowprops=arrow | {"lw": 1})
        if gap:
            for row in ("checkpoint", "tuned"):
                axis.text(places[-1] - 1, ROWS[row] + 0.14, "...", ha="center", va="bottom")
        on = "one model for each of " + ", ".join(settings["trained_on"])
        axis.text((left + right) / 2, -0.6, on, fontsize="small", **middle)
        axis.set(xlim=(left - 1.2, right + 0.6), ylim=(-0.8, 3.4))
        axis.set_axis_off()
        return figure, pd.DataFrame({"checkpoint": shown, "place": places})

"""Scores at the tuned learning rate of several ways to tune, side by side (Fig 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from overtrain.config.section import Text
from overtrain.figures.families.models import Models
from overtrain.figures.families.tuned_runs import TokenAxis, TunedRuns
from overtrain.figures.kind import Catalogue, Data, Drawn, Figure

# As a module: a class of another kind here would be found as this module's.
from overtrain.figures.kinds import tuned_scores_by_tokens as whole

ACROSS = 3  # panels of a part beside each other


class Part(TunedRuns):
    """What one part of the page shows."""

    title: Text = Field(description="Its heading; may hold {models} and {tasks}")


class TunedScoresInParts(Models, Figure):
    """Each part is what `tuned_scores_by_tokens` draws, with tasks and a main score of its own."""

    studies: ClassVar[set[str]] = whole.TunedScoresByTokens.studies
    metrics: ClassVar[set[str]] = whole.TunedScoresByTokens.metrics
    selections: ClassVar[set[str]] = whole.TunedScoresByTokens.selections

    plot: Literal["tuned_scores_in_parts"]
    choice: whole.Choice
    token_axis: TokenAxis
    parts: Annotated[list[Part], Field(min_length=2)] = Field(description="Left to right")

    @property
    def figures(self) -> list[whole.TunedScoresByTokens]:
        """Each part as the figure that it would be alone."""
        common: dict[str, Any] = self.plain("parts") | {"plot": "tuned_scores_by_tokens"}
        return [whole.TunedScoresByTokens(**(common | part.plain())) for part in self.parts]

    def measurements(self, catalogue: Catalogue) -> list[str]:
        files = (file for part in self.figures for file in part.measurements(catalogue))
        return list(dict.fromkeys(files))  # parts share their bases

    def only(self, catalogue: Catalogue) -> dict[str, list]:
        found: dict[str, set] = {}
        for part in self.figures:
            for column, values in part.only(catalogue).items():
                found.setdefault(column, set()).update(values)
        return {column: sorted(values) for column, values in found.items()}

    def printed(self, catalogue: Catalogue) -> dict:
        parts = [part.printed(catalogue) for part in self.figures]
        return super().printed(catalogue) | {"parts": parts}

    def sources(self, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
        for part in self.figures:
            yield from part.sources(catalogue)

    def check(self, where: str, catalogue: Catalogue) -> None:
        super().check(where, catalogue)
        for i, part in enumerate(self.figures):
            part.check(f"{where}.parts.{i}", catalogue)

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        from overtrain.figures.drawing.axes import grids
        from overtrain.figures.drawing.scores import shape
        from overtrain.figures.drawing.summaries import stacked

        parts = settings["parts"]
        headings = [part["title"] for part in parts]
        figure, places = grids([shape(part) for part in parts], headings, ACROSS)
        drawn = []
        for axes, part in zip(places, parts, strict=True):
            own = data[data.recipe.isna() | (data.recipe == part["recipe"])]
            table = whole.at_chosen_rates(axes, own, part)
            drawn.append(table.assign(recipe=part["recipe"]))
        table = stacked(drawn)
        whole.explain(figure, table, parts)
        return figure, table

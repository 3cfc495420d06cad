"""Rise of the loss along a direction, near zero and far, and to second order (Figs 9, 10)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from overtrain import PipelineError
from overtrain.config import paths
from overtrain.config.errors import known
from overtrain.config.models import Checkpoint, PretrainedModel
from overtrain.config.section import Text
from overtrain.config.units import tokens_text
from overtrain.figures.families.models import FINE_TUNING, Names, OfCheckpoints, check_tasks
from overtrain.figures.kind import Catalogue, Data, Drawn, Figure
from overtrain.figures.titles import task_titles


class LossAlongDirection(OfCheckpoints, Figure):
    """The direction is the change of a run or, without `tasks`, one draw of Gaussian noise."""

    metrics: ClassVar[set[str]] = {"loss", "slope", "half_curvature"}
    selections: ClassVar[set[str]] = {"interpolated"}

    plot: Literal["loss_along_direction"]
    tasks: Names | None = Field(
        None,
        description="A key of task_sets, or names of tasks; without, the direction is Gaussian",
    )
    recipe: Text | None = Field(None, description="A key of recipes, of one run")

    def shown(self, model: str, catalogue: Catalogue) -> list[Checkpoint]:
        """The last checkpoints of the first pre-training seed."""
        settings = catalogue.settings.models[model]
        assert isinstance(settings, PretrainedModel)  # `check` has seen to it
        own = [c for c in catalogue.checkpoints(model) if c.seed == settings.seeds[0]]
        return own[-catalogue.settings.interpolation.last :]

    def names(self, catalogue: Catalogue) -> list[str]:
        """The tasks whose runs are its directions, if any."""
        return catalogue.names("tasks", self.tasks) if self.tasks else []

    def files(self, checkpoint: Checkpoint, catalogue: Catalogue) -> Iterator[str]:
        if self.recipe is None:
            yield paths.of_checkpoint(checkpoint, "interpolation")
            return
        for task in self.names(catalogue):
            yield paths.of_sweep(checkpoint, task, self.recipe, "interpolation")

    def titles(self, catalogue: Catalogue) -> dict[str, str]:
        return super().titles(catalogue) | task_titles(self.tasks or [], catalogue)

    def printed(self, catalogue: Catalogue) -> dict:
        settings = catalogue.settings.interpolation
        own = settings.fine_tuning if self.tasks else settings.gaussian
        tasks = {"tasks": self.names(catalogue)} if self.tasks else {}
        return super().printed(catalogue) | {"near": own.near, "wide": own.wide} | tasks

    def sources(self, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
        yield from super().sources(catalogue)
        yield from (("tasks", task) for task in self.names(catalogue))

    def check(self, where: str, catalogue: Catalogue) -> None:
        if self.tasks and self.recipe:
            check_tasks(where, self.tasks, FINE_TUNING, catalogue)
            self.check_direction(f"{where}.recipe", self.recipe, catalogue)
        elif self.tasks or self.recipe:
            missing, given = ("recipe", "tasks") if self.tasks else ("tasks", "recipe")
            raise PipelineError(f"{where}: the key {missing!r} is missing, which {given!r} needs")
        super().check(where, catalogue)

    def check_direction(self, where: str, name: str, catalogue: Catalogue) -> None:
        """A fine-tuning direction is the change of one run."""
        known(where, name, "recipes", catalogue.settings.recipes)
        recipe = catalogue.settings.recipes[name]
        rates, seeds = recipe.learning_rates, recipe.seeds
        if len(rates) * len(seeds) > 1:
            raise PipelineError(
                f"{where} is {name!r}, which has {len(rates)} learning rates and "
                f"{len(seeds)} seeds; a direction is one run: one rate, one seed"
            )

    @staticmethod
    def draw(data: Data, settings: dict) -> Drawn:
        import numpy as np
        from matplotlib.ticker import MaxNLocator

        from overtrain.figures.drawing.axes import Shades, grid
        from overtrain.figures.drawing.summaries import stacked

        tasks = settings.get("tasks", [None])
        places = [(model, task) for model in settings["models"] for task in tasks]
        figure, axes = grid(len(places), 2)
        shades = Shades(data.tokens, "pre-training tokens", tokens_text)
        drawn = []
        for row, (model, task) in zip(axes, places, strict=True):
            own = data[(data.model == model) & (data.task == task if task else data.task.isna())]
            tables = [expansion(line) for _, line in own.groupby("tokens")]
            for axis, panel in zip(row, ("near", "wide"), strict=True):
                shown = [table[table["lambda"].isin(settings[panel])] for table in tables]
                for table in shown:
                    colour = shades.colour(table.tokens.iloc[0])
                    # Pale and wide, so that the dashes on it are seen where the two agree.
                    axis.plot(table["lambda"], table.rise, color=colour, lw=2.5, alpha=0.4)
                    axis.plot(table["lambda"], table.rise, "o", ms=2.5, color=colour)
                limits = axis.get_ylim()  # those of the true loss; the other may leave the picture
                for table in shown:
                    first = table.iloc[0]
                    x = np.linspace(table["lambda"].min(), table["lambda"].max(), 201)
                    y = first.slope * x + first.half_curvature * x**2
                    axis.plot(x, y, "--", lw=1, color=shades.colour(first.tokens))
                axis.set(ylim=limits, ylabel=r"$L(\theta + \lambda v) - L(\theta)$ (nats)")
                axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
                unit = "0 base, 1 fine-tuned" if task else "x initial std"
                axis.set_xlabel(f"$\\lambda$ ({unit})")
                names = [settings["titles"][name] for name in (model, task) if name]
                axis.set_title("\n".join(names))
                drawn += [table.assign(model=model, task=task, panel=panel) for table in shown]
        shades.explain(figure, axes, "second order")
        return figure, stacked(drawn).dropna(axis="columns", how="all")


def expansion(data: Data) -> Data:
    """Loss by lambda of one checkpoint, its rise from lambda 0, and the rise to second order."""
    table = data[data.metric == "loss"].sort_values("lambda")
    table = table[["tokens", "lambda", "value"]].rename(columns={"value": "loss"})
    values = data[data.metric != "loss"].set_index("metric").value
    slope, half = values["slope"], values["half_curvature"]
    x = table["lambda"]
    return table.assign(
        rise=table.loss - table.loss[x == 0].iloc[0],
        second_order=slope * x + half * x**2,
        slope=slope,
        half_curvature=half,
    )

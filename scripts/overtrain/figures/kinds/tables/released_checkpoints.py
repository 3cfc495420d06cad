"""Table 1: a row for each checkpoint of each released model."""

from __future__ import annotations

from typing import ClassVar, Literal

from overtrain.figures.families.models import Models
from overtrain.figures.kind import Catalogue, Data, Table

COLUMNS = ["Model", "Repository", "Budget in figures", "Revision", "Tokens"]


class ReleasedCheckpoints(Models, Table):
    """By tokens."""

    studies: ClassVar[set[str]] = {"released"}

    content: Literal["released_checkpoints"]

    def printed(self, catalogue: Catalogue) -> dict:
        rows = []
        for name in catalogue.names("models", self.models):
            model = catalogue.released(name)
            for checkpoint in catalogue.checkpoints(name):
                point = model.hub.checkpoints[checkpoint.name]
                of = (model.title, model.hub.repository, checkpoint.name)
                rows.append([*of, point.revision, point.tokens])
        return super().printed(catalogue) | {"rows": rows}

    @staticmethod
    def tabulate(data: None, settings: dict) -> Data:
        import pandas as pd

        return pd.DataFrame(settings["rows"], columns=COLUMNS).set_index("Model")

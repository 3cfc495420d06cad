"""Table 4 of "Amuro & Char": licences of models and data."""

from __future__ import annotations

from typing import Literal

from overtrain.figures.families.released_numbers import OfStudy
from overtrain.figures.kind import Catalogue, Data, Table


class StudyLicences(OfStudy, Table):
    """As printed, and what the hub says where that differs."""

    content: Literal["study_licences"]

    def printed(self, catalogue: Catalogue) -> dict:
        licences = self.study_settings(catalogue).plain()["licences"]
        own = [{"name": name} | licence for name, licence in licences.items()]  # in this order
        return super().printed(catalogue) | {"licences": own}

    @staticmethod
    def tabulate(data: None, settings: dict) -> Data:
        import pandas as pd

        rows = {
            own["name"]: {"As printed": own["printed"], "On the hub": own.get("hub", "-")}
            for own in settings["licences"]
        }
        return pd.DataFrame(rows).T.rename_axis("Name")

"""Figures of simulated linear networks (section 4), the same at every scale."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from overtrain.config import paths
from overtrain.config.errors import known
from overtrain.config.section import Distinct, Text
from overtrain.figures.kind import Catalogue, Figure

Penalty = Annotated[int | float, Field(ge=0)]  # whole numbers stay so, in the CSV as in YAML


class OfTheory(Figure):
    """A figure of an experiment with linear networks, the same at every scale.

    A kind adds `experiment`, a key of `theory`.
    """

    selections: ClassVar[set[str]] = {"simulated", "closed_form"}
    scaled: ClassVar[bool] = False

    experiment: Text

    def measurements(self, catalogue: Catalogue) -> list[str]:
        return [paths.of_theory(self.experiment)]


class OfSpectra(OfTheory):
    """A figure of fine-tuned linear networks: some of the spectra and penalties."""

    experiment: Literal["fine_tuning"]
    spectra: Distinct[Text] = Field(description="Keys of theory.fine_tuning.spectra")
    lambdas: Distinct[Penalty] = Field(description="Some of theory.fine_tuning.lambdas")

    def printed(self, catalogue: Catalogue) -> dict:
        spectra = catalogue.settings.theory.fine_tuning.spectra
        return super().printed(catalogue) | {"ratios": spectra}

    def check(self, where: str, catalogue: Catalogue) -> None:
        super().check(where, catalogue)
        for name in self.spectra:
            self.check_spectrum(f"{where}.spectra", name, catalogue)
        simulated = catalogue.settings.theory.fine_tuning.lambdas
        for penalty in self.lambdas:
            known(f"{where}.lambdas", penalty, "theory.fine_tuning.lambdas", simulated, "has")

    def check_spectrum(self, where: str, name: str, catalogue: Catalogue) -> None:
        simulated = catalogue.settings.theory.fine_tuning.spectra
        known(where, name, "theory.fine_tuning.spectra", simulated, "has")

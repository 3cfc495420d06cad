"""Fig 7: the regimes that its formula makes."""

import numpy as np
import pandas as pd
import pytest
from configuration import PAPERS
from scipy.optimize import minimize_scalar

from overtrain.figures import plots
from overtrain.figures.kinds.schematic_regimes import SchematicRegimes, losses, tuned_exponent

FIG07 = PAPERS["figures"]["overtrained"]["fig07"]
REGIMES = ["constant", "slowly decreasing", "quickly decreasing"]


@pytest.fixture
def schematic() -> pd.DataFrame:
    _, table = SchematicRegimes.draw(None, FIG07)
    return table


def turns(line: pd.DataFrame) -> bool:
    """Falls to an inner minimum and rises from there by a tenth at least."""
    losses = line.sort_values("tokens").loss.to_numpy()
    lowest = losses.argmin()
    assert (np.diff(losses[: lowest + 1]) < 0).all() and (np.diff(losses[lowest:]) > 0).all()
    return 0 < lowest < len(losses) - 1 and losses[-1] > 1.1 * losses[lowest]


def test_the_tuned_line_turns_up_on_both_on_ood_alone_and_on_neither(schematic):
    tuned = schematic[schematic.tuned]
    found = {key: turns(line) for key, line in tuned.groupby(["regime", "quantity"])}
    assert [(found[r, "ood"], found[r, "id"]) for r in REGIMES] == [
        (True, True),
        (True, False),
        (False, False),
    ]


def test_the_tuned_rate_falls_as_its_regime_says(schematic):
    ends = schematic[schematic.tuned].groupby("regime").learning_rate.agg(["first", "last"])
    falls = (ends["first"] / ends["last"]).loc[REGIMES]
    assert (ends["first"] == 1).all()
    assert falls.iloc[0] == 1 and 1.5 < falls.iloc[1] < falls.iloc[2] / 5


def test_a_large_fixed_rate_turns_up_on_ood_everywhere_and_a_smaller_one_later(schematic):
    ood = schematic[(schematic.quantity == "ood") & ~schematic.tuned]
    for _, own in ood.groupby("regime"):
        places = [line.loss.argmin() for _, line in own.groupby("learning_rate")]
        assert places == sorted(places, reverse=True)
        assert turns(own[own.learning_rate == 1.0])


@pytest.mark.parametrize("regime", FIG07["regimes"], ids=REGIMES)
@pytest.mark.parametrize("tokens", [1.0, 7.0, 100.0])
def test_the_tuned_rate_minimises_the_id_loss(regime, tokens):
    f, p = FIG07["formula"], regime["p"]
    best = tokens ** -tuned_exponent(p, f)
    found = minimize_scalar(
        lambda log: losses(np.array(tokens), np.exp(log), p, f)["id"],
        bounds=(-9, 2),
        method="bounded",
        options={"xatol": 1e-8},
    )
    assert np.exp(found.x) == pytest.approx(best, rel=1e-5)


def test_the_schematic_is_written_without_data(tmp_path):
    plots.draw(None, FIG07 | {"scale": None}, tmp_path / "figure.pdf")
    table = pd.read_csv(tmp_path / "figure.csv")
    assert set(table.regime) == set(REGIMES) and table.notna().all(axis=None)
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")

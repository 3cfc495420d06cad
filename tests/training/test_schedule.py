"""Learning-rate schedules."""

from itertools import pairwise

import pytest

from overtrain.training.schedule import fraction


def curve(scheduler: str, steps: int, warmup: float) -> list[float]:
    return [fraction(scheduler, step, steps, warmup) for step in range(steps)]


def test_warm_up_rises_linearly_and_reaches_the_peak():
    for scheduler in ("cosine", "constant"):
        assert curve(scheduler, 40, 0.1)[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_cosine_falls_to_zero_at_the_last_step():
    fractions = curve("cosine", 40, 0.1)
    falling = fractions[3:]
    assert fractions[-1] == pytest.approx(0, abs=1e-12)
    assert all(later < earlier for earlier, later in pairwise(falling))
    assert fractions[3 + 18] == pytest.approx(0.5)  # half-way between peak and end


def test_cosine_has_the_same_shape_at_every_length():
    short, long = curve("cosine", 100, 0.1), curve("cosine", 1000, 0.1)
    assert short == pytest.approx(long[9::10], abs=1e-12)


def test_constant_stays_at_the_peak():
    assert curve("constant", 10, 0.0) == [1.0] * 10
    assert curve("constant", 40, 0.1)[4:] == [1.0] * 36


def test_one_step_is_a_schedule_too():
    assert curve("constant", 1, 0.1) == [1.0]
    assert curve("cosine", 1, 0.1) == pytest.approx([0.0])


def test_an_unknown_scheduler_is_refused():
    with pytest.raises(ValueError, match="'linear' is not cosine or constant"):
        fraction("linear", 5, 10, 0.1)

"""A released checkpoint, or a run tuned from one, on held-out pre-training text."""

from __future__ import annotations

import math
from pathlib import Path

from overtrain.model.examples import Examples
from overtrain.model.losses import language_modelling
from overtrain.model.memory import Room
from overtrain.model.released import diverged, load_released
from overtrain.records.measurements import loss_rows


def held_out_rows(model: Path, text: Examples, room: Room, identity: dict) -> list[dict]:
    """Loss and perplexity of a model's directory on held-out text; NaN of a run that diverged."""
    identity = identity | {"evaluation": "c4", "split": "held_out"}
    if diverged(model):
        return loss_rows(identity, math.nan, math.nan, len(text))
    released = load_released(model, text)
    released.model.to(room.device)
    score = language_modelling(released, text, released.batch_tokens(room.batch_tokens))
    return score.rows(identity, 0)

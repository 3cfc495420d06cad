"""Visual recipes: which projectors there are, which a run starts from, what each depends on."""

import pytest
from pydantic import ValidationError

from overtrain.config.recipes import VisualRecipe

STAGE = {
    "batch_size": 8, "epochs": 1, "scheduler": "cosine", "warmup_steps": 2, "weight_decay": 0.0,
    "betas": [0.9, 0.999], "clip": 1.0, "max_length": 64, "precision": "fp32",
}  # fmt: skip


MARKS = "<image>{% generation %}"


def recipe(seeds: str = "first", **changes: object) -> VisualRecipe:
    alignment = {
        "task": "captions",
        "learning_rate": 0.01,
        "template": f"{MARKS} plain",
        "seeds": seeds,
    }
    own = {
        "learning_rates": [1e-5, 2e-4],
        "seeds": [3, 1],
        "template": f"{MARKS} parts",
        "layer": -2,
    }
    return VisualRecipe.model_validate(
        STAGE | own | {"encoder": "digits", "alignment": STAGE | alignment} | changes
    )


def test_one_projector_serves_all_runs_or_each_seed_has_its_own():
    first, each = recipe("first"), recipe("each")
    assert first.projectors() == {"seed3": {"learning_rate": 0.01, "seed": 3}}
    assert {first.projector_of(run) for run in first.runs()} == {"seed3"}
    assert list(each.projectors()) == ["seed3", "seed1"]
    assert each.projector_of("lr1e-05-seed1") == "seed1"
    assert each.projector_of("lr0.0002-seed3") == "seed3"


def test_a_run_and_a_projector_depend_on_their_own_stage_alone():
    known = recipe()
    run, projector = known.run_slice("lr0.0002-seed1"), known.alignment_slice("seed3")
    assert run["learning_rate"] == 2e-4 and run["seed"] == 1 and run["template"].endswith(" parts")
    assert not {"learning_rates", "seeds", "alignment"} & run.keys()
    assert projector["learning_rate"] == 0.01 and projector["seed"] == 3
    assert projector["template"].endswith(" plain") and projector["task"] == "captions"
    assert projector["encoder"] == run["encoder"] == "digits" and projector["layer"] == -2
    assert "seeds" not in projector
    other = recipe(learning_rates=[2e-4], template=f"{MARKS} other", max_length=32)
    assert other.alignment_slice("seed3") == projector
    # One projector a checkpoint, or one a seed: the one that both have is the same.
    assert recipe("each").alignment_slice("seed3") == projector
    assert recipe("each").run_slice("lr0.0002-seed1") == run


def test_what_is_no_choice_is_refused():
    with pytest.raises(ValidationError, match="seeds"):
        recipe("last")
    with pytest.raises(ValidationError, match="layer"):
        recipe(layer="last")

"""The processes of a training: when they save, and how what ends one of them is told."""

import os
import signal
import time

import pytest

from overtrain import PipelineError
from overtrain.training.processes import gpus_for, launch, saving_states


def test_fewer_gpus_than_share_the_model_are_one_clear_line():
    line = "^resources.finetune_instruct asks for 4 GPUs, which share the model; 1 are visible$"
    with pytest.raises(PipelineError, match=line):
        gpus_for("finetune_instruct", 4, 1)
    pairs = ((4, 4), (2, 8), (1, 0), (0, 0), (0, 2))
    assert [gpus_for("finetune_instruct", *pair) for pair in pairs] == [4, 2, 0, 0, 0]


def test_a_state_is_due_when_its_minutes_have_passed_and_when_asked_to_end():
    before = signal.getsignal(signal.SIGTERM)
    with saving_states(0.01) as saving:
        assert not saving.due()
        time.sleep(0.7)
        assert saving.due() and saving.due()
        saving.saved(3, 5)
        assert not saving.due()
        os.kill(os.getpid(), signal.SIGTERM)
        assert saving.due()
        saving.saved(5, 5)  # the last: what is left is to write the result
        with pytest.raises(PipelineError, match=r"^asked to end at step 4 of 5; the next attempt"):
            saving.saved(4, 5)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.slow
def test_what_nobody_explains_is_said_to_stand_above():
    with pytest.raises(
        PipelineError, match=r"^a training process failed; its message stands above"
    ):
        launch("overtrain.no_such_module", {}, 2, 2)

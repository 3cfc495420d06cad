"""Every kind of fault in a configuration is one line: the key, its value, and what is allowed."""

import re

import pytest
import yaml
from configuration import DELETE, PAPERS, ROOT, at_scale, changed, checked

from overtrain import PipelineError


def message(config: dict) -> str:
    """The one line of a configuration's first fault."""
    with pytest.raises(PipelineError) as caught:
        checked(config)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_papers_configuration_is_valid():
    checked(PAPERS)


@pytest.mark.parametrize("names", [[], ["tests/tiny.yaml"], ["profiles/evidence/overlay.yaml"]])
def test_overlays_are_valid_over_the_demos(names):
    checked(at_scale("profiles/demo/overlay.yaml", *names))


FAULTS = yaml.safe_load((ROOT / "tests/config/faults.yaml").read_text())


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_with_key_value_and_what_is_allowed(name):
    key, value, line = FAULTS[name]
    text = message(changed(key, DELETE if value == "deleted" else value))
    assert re.fullmatch(re.escape(line).replace("…", ".*"), text), text


def test_released_numbers_under_another_name_have_no_reader():
    text = message(changed("released_numbers", {"amuro": PAPERS["released_numbers"]["amuro_char"]}))
    assert text.startswith("released_numbers.amuro has no reader; did you mean 'amuro_char'")


@pytest.mark.parametrize("source", ["ours", "both"])
def test_numbers_of_ours_may_be_shown_of_what_is_run_here(source):
    checked(changed("figures/amuro_char/fig03/source", source))


def test_studies_are_sections_with_released_numbers_that_the_library_reads():
    from overtrain.config.check import STUDIES
    from overtrain.studies.amuro_char import FILES

    for study in STUDIES:
        assert study in PAPERS and study in PAPERS["released_numbers"]
    assert set(PAPERS["released_numbers"]["amuro_char"]["files"]) == set(FILES)


def test_a_revision_of_a_stand_in_is_a_checkpoint_that_is_trained():
    config = changed("model_sets/released_1b", ["OLMo-10K-hub"])
    config["models"]["OLMo-10K-hub"]["hub"]["checkpoints"]["0.84M"]["revision"] = "0.85M"
    text = message(config)
    assert "models.OLMo-10K-hub.hub.checkpoints.0.84M.revision is '0.85M'" in text
    assert "no checkpoint of OLMo-10K; did you mean '0.84M'?" in text

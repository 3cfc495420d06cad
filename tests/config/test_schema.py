"""The schema that editors use is that of the types, and fits every file of the configuration."""

import importlib.util
import json

import pytest
import yaml
from configuration import ROOT
from jsonschema import Draft202012Validator

from overtrain.figures.kinds import FIGURES, TABLES

FILES = ["config.yaml", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("studies/*.yaml"))]
FILES += ["profiles/demo/overlay.yaml", "profiles/evidence/overlay.yaml"]
SCHEMA = json.loads((ROOT / "scripts/overtrain/config/schema.json").read_text())


def test_it_is_that_of_the_types():
    spec = importlib.util.spec_from_file_location("schema_tool", ROOT / "tools/schema.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.SCHEMA.read_text() == tool.generated(), "run python tools/schema.py"


@pytest.mark.parametrize("name", FILES)
def test_every_file_fits(name):
    Draft202012Validator.check_schema(SCHEMA)
    content = yaml.safe_load((ROOT / name).read_text())
    faults = [
        f"{'.'.join(map(str, fault.absolute_path))}: {fault.message[:80]}"
        for fault in Draft202012Validator(SCHEMA).iter_errors(content)
    ]
    assert faults == []


def test_an_unknown_key_and_a_value_out_of_bounds_are_seen():
    validator = Draft202012Validator(SCHEMA)
    assert not validator.is_valid({"pretraining": {"batch_sise": 3}})
    assert not validator.is_valid({"pretraining": {"warmup": 1.5}})
    assert validator.is_valid({"pretraining": {"warmup": 0.5}})


def test_every_kind_is_offered():
    named = json.dumps(SCHEMA["$defs"])
    assert all(f'"const": "{name}"' in named for name in (*FIGURES, *TABLES))

"""The repository's configuration for tests: merged, changed at a key, as a catalogue."""

import copy
import json
from functools import reduce
from pathlib import Path

import yaml

from overtrain.config.catalogue import Catalogue
from overtrain.config.files import laid_over, load
from overtrain.configuration import catalogue_of as typed_catalogue
from overtrain.configuration import checked as typed_checked
from overtrain.figures.targets import Targets

ROOT = Path(__file__).parents[1]
LAYERS = load(ROOT, {})
PAPERS = json.loads(json.dumps(LAYERS.config))  # the papers' scale; no shared parts
DELETE = object()


def at_scale(*overlays: str) -> dict:
    """The configuration with files of the repository laid over it."""
    own = [yaml.safe_load((ROOT / name).read_text()) for name in overlays]
    return load(ROOT, reduce(laid_over, own, {})).config


def changed(path: str, value: object, config: dict = PAPERS) -> dict:
    """A copy with one key, written as a/b/c or a.b.c, set or deleted."""
    config = copy.deepcopy(config)
    keys = path.split("/" if "/" in path else ".")
    *parents, last = [int(key) if key.isdigit() else key for key in keys]
    level = reduce(lambda level, key: level[key], parents, config)
    if value is DELETE:
        del level[last]
    else:
        level[last] = value
    return config


def catalogue_of(config: dict = PAPERS) -> Catalogue:
    """Its catalogue, with the task sets of the papers' scale."""
    return typed_catalogue(config, LAYERS.paper_task_sets)


def targets_of(config: dict = PAPERS) -> Targets:
    """Its figures and tables."""
    return Targets(catalogue_of(config))


def checked(config: dict) -> Catalogue:
    """The same, after the checks that the workflow makes; PipelineError at a fault."""
    return typed_checked(config, LAYERS.paper_task_sets).catalogue

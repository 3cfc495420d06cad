"""The files of the configuration, laid over one another: base, profile, the user's own.

The base is config.yaml and studies/*.yaml, which say nothing twice. A profile's file (`configfile:`
in it, or --configfile) is laid over it, and the files of `--config own=mine.yaml` over that. A file
that is laid over may change values, add whole entries (models, tasks, recipes, figures) and, with
null, leave entries out; lists are replaced whole. Mappings merge key by key, as Snakemake merges
configuration files.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from overtrain import PipelineError
from overtrain.config.grids import expanded

BASE = ("config.yaml", "studies/*.yaml")
OWN = "own"  # the key of --config that names files of the user's own


@dataclass(frozen=True)
class Layers:
    """The merged configuration, the task sets of its base, and the files laid over that."""

    config: dict
    paper_task_sets: dict[str, list[str]]
    over: list[str]

    def told(self) -> str:
        """One line for the terminal: at which scale it runs, and on which files."""
        scale = self.config.get("scale") or "the papers' scale"
        over = f", then {', '.join(self.over)}" if self.over else ""
        return f"configuration: {scale}; config.yaml, studies/*.yaml{over}"


def load(
    root: Path,
    overlay: dict,
    overlay_files: Iterable[str | Path] = (),
    arguments: Iterable[str] | None = None,
) -> Layers:
    """All layers, merged.

    root: the folder of config.yaml; overlay: what profiles, --configfile and --config lay over it,
    merged already. Where it is from, to be told: overlay_files, and the keys of --config,
    `arguments`, which without files are all of it.
    """
    base: dict = {}
    for path in (path for pattern in BASE for path in sorted(root.glob(pattern))):
        added(base, read(path), path.relative_to(root))
    paper_task_sets = base["task_sets"]
    config = laid_over(base, {key: value for key, value in overlay.items() if key != OWN})
    own = overlay.get(OWN, [])
    files = [own] if isinstance(own, str) else own
    if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
        raise PipelineError(f"{OWN} is {own!r}; it must name a file, or be a list of files")
    for name in files:
        config = laid_over(config, read(Path(name)))
    told = [os.path.relpath(path) for path in overlay_files]
    arguments = overlay if arguments is None and not told else arguments or ()
    told += ["--config"] if set(arguments) - {OWN} else []
    return Layers(expanded(config), paper_task_sets, told + files)


def read(path: Path) -> dict:
    """A YAML file of sections; PipelineError if it is none."""
    try:
        with path.open() as file:
            loader = yaml.CSafeLoader(file)  # the parser in C: every cluster job reads these files
            node = loader.get_single_node()
            refuse_twice(node)
            content = loader.construct_document(node) if node else None
    except OSError as error:
        raise PipelineError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise PipelineError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise PipelineError(f"{path}: it must hold sections, such as models, each a mapping")
    return content


def refuse_twice(node: yaml.Node | None) -> None:
    """Raise YAMLError if a key stands twice in a mapping, of which YAML would take the last.

    Asked of what is written, before merges (`<<`) copy keys from one mapping into another.
    """
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            refuse_twice(item)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: the key {key.value!r} stands twice")
            seen.add(key.value)
            refuse_twice(value)


def laid_over(base: dict, over: dict) -> dict:
    """`base` with the values of `over`, mappings merged; neither is changed."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = laid_over(base[key], value) if both else value
    return result


def added(base: dict, more: dict, path: Path, where: str = "") -> None:
    """Put what a file of the base says into `base`; PipelineError if another says it too."""
    for key, value in more.items():
        if key not in base:
            base[key] = dict(value) if isinstance(value, dict) else value
        elif isinstance(value, dict) and isinstance(base[key], dict):
            added(base[key], value, path, f"{where}{key}.")
        else:
            raise PipelineError(f"{path}: {where}{key} is said in another file, too")


def check_profile(arguments: list[str], overlay_files: Iterable[str | Path]) -> None:
    """Raise PipelineError if --configfile took the place of a profile's own file.

    Snakemake lets it, without a word: the demo's profile would plan the papers' scale.

    arguments: the command line's.
    """
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--profile", default=os.environ.get("SNAKEMAKE_PROFILE"))
    profile = options.parse_known_args(arguments)[0].profile
    path = Path(profile or "", "config.yaml")
    if profile is None or not path.is_file():
        return
    own = read(path).get("configfile", [])
    wanted = [path.parent / own] if isinstance(own, str) else [Path(name) for name in own]
    given = {Path(name).resolve() for name in overlay_files}
    for file in wanted:
        if file.resolve() not in given:
            raise PipelineError(
                f"--configfile takes the place of {file}, which {profile} lays over the papers' "
                f"scale; lay yours over both with --config {OWN}=mine.yaml, or name both"
            )

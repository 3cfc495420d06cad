"""What the hub says of every model and data set that the configuration names, before it is needed.

Which of them exist, at which commit, how large what is needed of them is, and of those that do not
exist the nearest that do. A commit once found is pinned: later runs take it, and say so if its
branch or tag has moved on.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overtrain import PipelineError
from overtrain.config.catalogue import Catalogue
from overtrain.hub import client
from overtrain.hub.download import wanted
from overtrain.hub.encoders import encoder_files
from overtrain.records.locks import exclusive
from overtrain.records.provenance import write_json

if TYPE_CHECKING:
    from huggingface_hub import HfApi

AT_A_TIME = 8  # repositories
PATHS = 500  # that one request may ask for
AGAIN = "run `snakemake -f check_sources`"


def check(sources: dict[str, dict], pins: Path) -> dict[str, dict]:
    """Ask for each of `sources` (`Catalogue.sources`), and pin what is found in the file `pins`.

    Returns for each: exists, commit, bytes, gated, nearest, notes, of a checkpoint its `weights`
    by their hashes, and, where it cannot be used, `problem`: one line that names the key to change.
    PipelineError if the hub is not to be reached.
    """
    known = read_pins(pins)
    groups: dict[tuple[str, str], list[str]] = {}
    for key, source in sources.items():
        groups.setdefault((source["kind"], source["repository"]), []).append(key)

    def check_group(keys: list[str]) -> dict[str, dict]:
        first = sources[keys[0]]
        with client.one_line(first["repository"]):
            api = client.api()
            revisions = cache(lambda: client.revisions(api, first["repository"], first["kind"]))
            return {key: ask(api, key, sources[key], known, revisions, pins) for key in keys}

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        answers = [a for found in pool.map(check_group, groups.values()) for a in found.items()]
    found = {key: dict(answers)[key] for key in sources}
    note_same_weights(found)
    add_pins(pins, {pin_of(a): a["commit"] for a in found.values() if a["commit"]})
    return found


def ask(
    api: HfApi,
    key: str,
    source: dict,
    pins: dict[str, str],
    revisions: Callable[[], dict[str, str]],
    pins_file: Path,
) -> dict:
    """What the hub says of one source."""
    from huggingface_hub import errors

    kind, name, revision = (source[k] for k in ("kind", "repository", "revision"))
    pinned = pins.get(pin_of(source))
    answer = {
        "kind": kind,
        "repository": name,
        "revision": revision,
        "exists": False,
        "commit": None,
        "bytes": None,
        "weights": None,
        "gated": None,
        "nearest": [],
        "notes": [],
        "problem": None,
    }

    def problem(what: str, clause: str, advice: str) -> dict:
        return answer | {"problem": f"{what}: {clause}; {advice}"}

    what = f"{name} at {revision}"
    change = {part: f"change {at}" for part, at in source["change"].items()}
    try:
        info = information(api, source, pinned or revision)
    except errors.RepositoryNotFoundError:
        answer["nearest"] = client.nearest(name, repositories(api, source))
        near = f"; nearest {', '.join(answer['nearest'])}" if answer["nearest"] else ""
        advice = f"{change['repository']}, or {AGAIN} once it is there"
        return problem(name, f"{client.NO_REPOSITORY}{near}", advice)
    except errors.RevisionNotFoundError:
        if pinned and revision in revisions():
            return problem(
                what,
                f"its pinned commit {pinned} is gone, and {revision} is {revisions()[revision]}",
                f"remove its line from {pins_file}, then {AGAIN}",
            )
        answer["nearest"] = client.nearest(revision, revisions())
        return problem(what, client.no_revision(revision, revisions()), change["revision"])
    answer |= {"exists": True, "commit": info.sha, "gated": bool(info.gated)}
    now = revisions().get(revision) if pinned else None
    if pinned and now and now != pinned:
        answer["notes"].append(
            f"{revision} has moved from its pinned commit {pinned[:12]}, which is taken, to "
            f"{now[:12]}; to take that, remove its line from {pins_file}, then {AGAIN}"
        )
    if info.gated:
        try:
            api.auth_check(name, repo_type=kind)
        except errors.HfHubHTTPError:
            return problem(name, client.GATED, f"then {AGAIN}")
    try:
        answer["bytes"] = size(api, source, info)
    except PipelineError as error:
        return answer | {"problem": f"{error}; {change['revision']}"}
    if source["files"] == "checkpoint":
        answer["weights"] = weights(what, info)
    return answer


def information(api: HfApi, source: dict, revision: str) -> Any:
    """What the hub tells of a repository; of a large data set without the list of all its files."""
    own = {"repo_type": source["kind"], "revision": revision, "timeout": client.TIMEOUT}
    if source["kind"] == "dataset" and source["files"]:
        return api.repo_info(source["repository"], expand=["sha", "gated"], **own)
    return api.repo_info(source["repository"], files_metadata=True, **own)


def repositories(api: HfApi, source: dict) -> list[str]:
    """Other repositories of the same owner."""
    from huggingface_hub import errors

    owner, _, name = source["repository"].partition("/")
    listed = api.list_models if source["kind"] == "model" else api.list_datasets
    try:
        return [found.id for found in listed(author=owner)] if name else []
    except errors.HfHubHTTPError:
        return []  # only a hint


def size(api: HfApi, source: dict, info: Any) -> int:
    """Bytes of the files that are needed; PipelineError if one of them is not there."""
    from huggingface_hub import errors

    name, files = source["repository"], source["files"]
    what = f"{name} at {source['revision']}"
    own = {"repo_type": source["kind"], "revision": info.sha}
    if files is None or isinstance(files, str):
        sizes = {file.rfilename: file.size for file in info.siblings}
        if files:
            top = [path for path in sizes if "/" not in path]
            kinds = wanted(top, what) if files == "checkpoint" else [encoder_files(top, what)]
            sizes = {path: sizes[path] for kind in kinds for path in kind}
        return sum(sizes.values())
    if "folder" in files:
        try:
            tree = api.list_repo_tree(name, files["folder"], recursive=True, **own)
            return sum(getattr(entry, "size", 0) for entry in tree)
        except errors.EntryNotFoundError:
            raise PipelineError(f"{what}: it has no folder {files['folder']}") from None
    paths = files.get("names") or [files["template"].format(i) for i in range(files["count"])]
    parts = [paths[start : start + PATHS] for start in range(0, len(paths), PATHS)]
    entries = [entry for part in parts for entry in api.get_paths_info(name, part, **own)]
    if missing := sorted(set(paths) - {entry.path for entry in entries}):
        raise PipelineError(f"{what}: it has no file {missing[0]} ({len(missing)} missing)")
    return sum(entry.size for entry in entries)


def weights(what: str, info: Any) -> str | None:
    """The hashes of a checkpoint's weights as one; None if a file has none (it is not in LFS)."""
    files = {file.rfilename: file for file in info.siblings if "/" not in file.rfilename}
    _, names, _ = wanted(files, what)
    if not all(files[name].lfs for name in names):
        return None
    return hashlib.sha256("".join(sorted(files[n].lfs.sha256 for n in names)).encode()).hexdigest()


def note_same_weights(found: dict[str, dict]) -> None:
    """Say where two revisions of a model are one: a figure would show it as two checkpoints."""
    alike: dict[tuple, list[dict]] = {}
    for answer in found.values():
        if answer["weights"]:
            alike.setdefault((answer["repository"], answer["weights"]), []).append(answer)
    for answers in alike.values():
        revisions = list(dict.fromkeys(answer["revision"] for answer in answers))
        if len(revisions) > 1:
            for answer in answers:
                answer["notes"].append(
                    f"{' and '.join(revisions)} have the same weights, so that at least one is not "
                    "the checkpoint that its name says; leave it out or ask its authors"
                )


# --- pins -----------------------------------------------------------------------------------------


def pin_of(source: dict) -> str:
    return f"{source['kind']}s/{source['repository']}@{source['revision']}"


def read_pins(path: Path) -> dict[str, str]:
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise PipelineError(f"{path}: not readable as JSON ({error}); remove it") from error


def add_pins(path: Path, found: dict[str, str]) -> None:
    """Write down commits that have no pin yet; several jobs may do so at a time."""
    if found.keys() <= read_pins(path).keys():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(path.with_suffix(".lock")):
        write_json(path, found | read_pins(path))


# --- what the rules take --------------------------------------------------------------------------


def pin(catalogue: Catalogue, section: str, name: str, settings: dict) -> dict:
    """`settings`, a slice of the entry `name` of a section, with commits for its revisions.

    Asks the hub, also where check_sources has: a rule stops at once, and with the same line, if
    what it needs is not there. Nothing is asked for a source that is not the hub's.
    """
    pinned = json.loads(json.dumps(settings))
    for key, commit in commits(catalogue, section, name).items():
        level = pinned
        for part in key.removeprefix(f"{section}.{name}").split(".")[1:]:
            level = level[part]
        level["revision"] = commit
    return pinned


def commits(
    catalogue: Catalogue, section: str, name: str, only: str | None = None
) -> dict[str, str]:
    """The commit of each source of an entry, by key, or of the key `only` alone."""
    asked = catalogue.sources_of(section, name)
    asked = {key: source for key, source in asked.items() if only in (None, key)}
    found = check(asked, Path(catalogue.settings.sources.pins))
    for answer in found.values():
        if answer["problem"]:
            raise PipelineError(answer["problem"])
        for note in answer["notes"]:
            print(f"{answer['repository']}: {note}")
    return {key: answer["commit"] for key, answer in found.items()}


# --- what a person reads --------------------------------------------------------------------------


def faults(found: dict[str, dict]) -> list[str]:
    """What a person should read: what cannot be used, and what has moved from its pin."""
    problems = [answer["problem"] for answer in found.values() if answer["problem"]]
    notes = [f"{a['repository']}: {note}" for a in found.values() for note in a["notes"]]
    return list(dict.fromkeys(problems + notes))


def table(found: dict[str, dict], folder: Path) -> str:
    """Markdown for a person: what cannot be used first, then all, with totals beside free disk."""
    lines = ["# Sources", ""]
    lines += [f"- {line}" for line in faults(found)]
    lines += [
        "",
        "| configuration | repository | revision | commit | size | |",
        "|---|---|---|---|---:|---|",
    ]
    for key, answer in found.items():
        state = "not usable" if answer["problem"] else "gated" if answer["gated"] else ""
        cells = (
            key,
            answer["repository"],
            answer["revision"],
            (answer["commit"] or "")[:12],
            gigabytes(answer["bytes"]),
            state,
        )
        lines.append(f"| {' | '.join(cells)} |")
    for kind in ("model", "dataset"):
        # One repository may be asked for several times; what is larger holds what is smaller.
        largest: dict[tuple, int] = {}
        for answer in found.values():
            if answer["kind"] == kind and answer["bytes"]:
                place = (answer["repository"], answer["commit"])
                largest[place] = max(largest.get(place, 0), answer["bytes"])
        lines += ["", f"All {kind}s: {gigabytes(sum(largest.values()))}."]
    free = shutil.disk_usage(folder).free
    lines += ["", f"Free on the disk of results: {gigabytes(free)}.", ""]
    return "\n".join(lines)


def gigabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e9:.2f} GB"

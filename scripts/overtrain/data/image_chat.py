"""Conversations about images: rows and images of a source, as splits of examples and one archive.

A source is a data set of the hub with a column of images; a JSON file of rows beside zip archives
of the images that they name, as LLaVA's data is published; or scikit-learn's digits. In all of them
`<image>` marks the image in the text. The mark is removed: a template puts the image first,
wherever the mark stood in the question, as LLaVA's own code does.

A row whose image or mark is not as it should be is left out and counted. Images are read one at a
time and only those of chosen examples are kept: archives of LLaVA's size (27 GB of captions, 72 GB
of instructions) never are in memory.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from overtrain import PipelineError
from overtrain.config.hub import is_local
from overtrain.data import digits, images, tasks
from overtrain.data.conversations import MalformedError, conversation, prompt_key
from overtrain.hub import client, download

MARK = "<image>"
IMAGES = "images"  # the folder of a task's images, in its own
BLOCK = 2**20  # characters read at a time
LONGEST = 2**25  # characters of a row
PROGRESS = 60  # seconds between two lines of the log

Rows = dict[str, Iterable[dict]]  # by split; "image" is a name or None


# --- sources --------------------------------------------------------------------------------------


class Archives(Mapping[str, bytes]):
    """Images of several zip archives by what rows call them: folder/member."""

    def __init__(self, paths: dict[str, tuple[str, Path]]):
        """paths: of an archive by its key, the folder and the file."""
        self.archives = {
            key: (folder, images.open_archive(path)) for key, (folder, path) in paths.items()
        }

    def find(self, name: str) -> tuple[str, str] | None:
        """The archive that holds an image, and the name of its member."""
        for key, (folder, archive) in self.archives.items():
            member = name.removeprefix(f"{folder}/") if folder else name
            if (member != name) == bool(folder) and member in archive.NameToInfo:
                return key, member
        return None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None

    def __getitem__(self, name: str) -> bytes:
        if (found := self.find(name)) is None:
            raise KeyError(name)
        key, member = found
        return self.archives[key][1].read(member)

    def __iter__(self) -> Iterator[str]:
        for folder, archive in self.archives.values():
            yield from (f"{folder}/{member}" if folder else member for member in archive.namelist())

    def __len__(self) -> int:
        return sum(len(archive.namelist()) for _, archive in self.archives.values())

    def check_used(self, names: Iterable[str]) -> None:
        """PipelineError if an archive has none of the images: its folder is not what rows say."""
        unused = dict(self.archives)
        missing = "no other"
        for name in names:
            if found := self.find(name):
                unused.pop(found[0], None)
            else:
                missing = name
            if not unused:
                return
        for key, (folder, archive) in unused.items():
            member = next((m for m in archive.namelist() if not m.endswith("/")), "nothing")
            raise PipelineError(
                f"source.archives.{key}: it has no image that a row names; its folder is "
                f"{folder!r} and it holds {member}; of the images that are in no archive rows name "
                f"{missing}"
            )


def from_archives(source: dict, work: Path) -> tuple[Rows, Mapping[str, bytes]]:
    """Rows of a JSON file, and the archives of its images, downloaded into `work`."""
    wanted = {"": source | {"repository": source["dataset"], "kind": "dataset"}}
    wanted |= source["archives"]
    paths = downloaded(wanted, work)
    file = paths.pop("")  # read twice: its rows need not all be in memory
    names = [row["image"] for row in rows_of_json(file) if isinstance(row.get("image"), str)]
    if not names:
        columns = sorted(next(rows_of_json(file), {}))
        raise PipelineError(
            f"{source['file']}: no column 'image' with names; its first row has {columns}"
        )
    found = Archives({key: (source["archives"][key]["folder"], p) for key, p in paths.items()})
    found.check_used(names)
    return {"train": (with_dataset(row, source) for row in rows_of_json(file))}, found


def with_dataset(row: dict, source: dict) -> dict:
    """The row and where its image is from, for the manifest's counts."""
    folders = {archive["folder"] for archive in source["archives"].values()}
    name = str(row.get("image") or "")
    of = max((f for f in folders if name.startswith(f)), key=len, default="")
    return row | {"dataset": (of or "images") if name else "text"}


def downloaded(wanted: dict[str, dict], work: Path) -> dict[str, Path]:
    """Files by key, whole and compared with what the hub says; a local folder's where they are.

    wanted: repository, its kind, revision and file of each. A download that was interrupted goes on
    where it stopped. PipelineError before any of it if the disk is too small.
    """
    paths: dict[str, Path] = {}
    sources: dict[str, download.Source] = {}
    sizes: dict[str, int] = {}
    for key, own in wanted.items():
        repository, revision, file = (own[part] for part in ("repository", "revision", "file"))
        what = f"{repository} at {revision}"
        with client.one_line(what):
            source = download.data_files(repository, revision, [file], what, own["kind"])
        if is_local(repository):
            paths[key] = Path(repository, file)
            continue
        place = PurePosixPath(repository.replace("/", "--"), revision, file)
        paths[key] = work / place
        sources[key], sizes[str(place)] = source, source.sizes[file]
    work.mkdir(parents=True, exist_ok=True)
    download.check_space(work, sizes, sizes, "source", twice="*.zip")  # and the archive of ours
    for key, source in sources.items():
        paths[key].parent.mkdir(parents=True, exist_ok=True)
        with client.one_line(wanted[key]["repository"]):
            source.fetch(wanted[key]["file"], paths[key])
    return paths


def rows_of_json(path: Path) -> Iterator[dict]:
    """The rows of a file that is one JSON list; LLaVA's, of 1 GB, would be 5 GB if read at once."""
    decoder = json.JSONDecoder()
    with client.one_line(path.name), path.open(encoding="utf-8") as file:
        text, start = file.read(BLOCK).lstrip(), 1
        if not text.startswith("["):
            raise PipelineError(f"{path.name}: not a JSON list of rows")
        while True:
            while start < len(text) and text[start] in ", \t\r\n":
                start += 1
            if text[start : start + 1] == "]":
                return
            try:
                row, start = decoder.raw_decode(text, start)
            except json.JSONDecodeError as error:
                if len(text) - start > LONGEST or not (more := file.read(BLOCK)):
                    raise PipelineError(f"{path.name}: not readable as JSON ({error})") from error
                text, start = text[start:] + more, 0
                continue
            if not isinstance(row, dict):
                raise PipelineError(f"{path.name}: its rows must be objects; one is {row!r:.50}")
            yield row


def from_hub(source: dict, work: Path) -> tuple[Rows, Mapping[str, bytes]]:
    """Rows of a data set of the hub; the bytes of its images, named by their hash, go to `work`."""
    rows: Rows = {}
    kept = work / "images"

    def streamed() -> Iterator[tuple[str, bytes]]:
        seen = set()
        for split, theirs in source["splits"].items():
            own: list[dict] = []
            with client.one_line(f"{source['dataset']} at {source['revision']}, split {theirs}"):
                for row in encoded(tasks.stream(source, theirs), source["image"]):
                    name, data = named(row.pop(source["image"]))
                    own.append(row | {"image": name})
                    if name and data and name not in seen:
                        seen.add(name)
                        yield name, data
            rows[split] = own

    images.write(kept, streamed())
    return rows, Archives({"": ("", kept / images.ARCHIVE)})


def encoded(data: Iterable, column: str) -> Iterable[dict]:
    """The rows with the images of a column as bytes, never decoded.

    PipelineError if the data set has no such column.
    """
    from datasets import Image

    columns = data.column_names or sorted(next(iter(data), {}))  # type: ignore[attr-defined]
    if column not in columns:
        raise PipelineError(f"no column {column!r}, which source.image names; it has {columns}")
    return data.cast_column(column, Image(decode=False))  # type: ignore[attr-defined]


def named(image: dict | None) -> tuple[str | None, bytes | None]:
    """A name for an image, by its hash, and its bytes."""
    if image is None:
        return None, None
    data = image.get("bytes")
    return (hashlib.sha256(data).hexdigest()[:32], data) if data else (str(image.get("path")), None)


def from_digits(source: dict, work: Path) -> tuple[Rows, Mapping[str, bytes]]:
    """scikit-learn's digits."""
    found = {d.name: d.png for split in tasks.SPLITS for d in digits.images(split)}
    return dict(digits.rows(source["rows"])), found


SOURCES: dict[str, Callable[[dict, Path], tuple[Rows, Mapping[str, bytes]]]] = {
    "archives": from_archives,
    "hub": from_hub,
    "digits": from_digits,
}


# --- examples -------------------------------------------------------------------------------------


def example_of(row: dict, kind: str, found: Mapping[str, bytes]) -> dict:
    """{"messages", "image", "dataset"} of a row; MalformedError says why it is left out."""
    image = row.get("image")
    if isinstance(image, list):
        if len(image) > 1:
            raise MalformedError("several images")
        image = image[0] if image else None
    messages = conversation(row, kind)
    marks = [message["content"].count(MARK) for message in messages]
    if not image and any(marks):
        raise MalformedError("an image mark without an image")
    if image and not any(marks):
        raise MalformedError("an image without its mark")
    if sum(marks) > 1:
        raise MalformedError("more than one image mark")
    if image:
        first = next(m for m in messages if m["role"] == "user")
        if MARK not in first["content"]:
            raise MalformedError("an image mark after the first question")
        first["content"] = first["content"].replace(MARK, "").strip()
        if image not in found:
            raise MalformedError("an image that is missing")
    return {"messages": messages, "image": image or None, "dataset": row.get("dataset")}


def key_of(example: dict) -> str:
    """What must not stand in two splits: the image, or the prompt where there is none.

    Captions all answer one of a few prompts, so that with an image the prompt does not count. An
    image is known by the last part of its name, as GQA's and Visual Genome's are the same.
    """
    if image := example["image"]:
        return f"image {PurePosixPath(image).name}"
    return prompt_key(example["messages"])


def keep_images(
    splits: dict[str, list[dict]], found: Mapping[str, bytes], folder: Path, threads: int
) -> tuple[dict, set[str]]:
    """Write the images of the chosen examples. Returns their manifest and those that are broken."""
    names = sorted({e["image"] for own in splits.values() for e in own if e["image"]})
    broken = set()

    def good() -> Iterator[tuple[str, bytes]]:
        checked = images.whole(names, found.__getitem__, threads)
        for name, data in tqdm(checked, "images", len(names), unit="image", mininterval=PROGRESS):
            if data is None:
                broken.add(name)
            else:
                yield name, data

    return images.write(folder, good()), broken


def prepare(name: str, task: dict, folder: Path, work: Path, threads: int, origin: dict) -> None:
    """Write a task's splits, `manifest.json` and `images` to `folder`.

    work: where downloads wait, outside the outputs that Snakemake clears. PipelineError, in one
    line, if the source is not what the task says or nothing of it is left.
    """
    try:
        rows, found = SOURCES[task["source"]["kind"]](task["source"], work)
        splits, left_out = tasks.split_conversations(
            rows, task, name, lambda row, kind: example_of(row, kind, found), key_of
        )
        if not any(splits.values()):
            raise PipelineError(f"no row is left; why they are left out: {left_out}")
        manifest, broken = keep_images(splits, found, folder / IMAGES, threads)
        for split, chosen in splits.items():
            splits[split] = [e for e in chosen if e["image"] not in broken]
            if lost := len(chosen) - len(splits[split]):
                print(f"{split}: {lost} rows are left out: their images cannot be decoded whole")
                left_out.setdefault(split, Counter())["an image that cannot be decoded"] = lost
        report = tasks.describe(splits, task)
    except PipelineError as error:
        raise PipelineError(f"tasks.{name}: {error}") from error
    for split, chosen in splits.items():
        report[split]["with_image"] = sum(1 for e in chosen if e["image"])
    more = {"images": manifest, "left_out": left_out, "provenance": origin}
    tasks.write(splits, task, folder, report, more)

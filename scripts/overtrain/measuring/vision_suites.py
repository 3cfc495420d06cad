"""Suites of vision-language benchmarks, fetched where there is internet and written down whole.

What its folder holds, and how it is read where there is none: `vision_questions`.

Questions of one image are of one half, so that halves share no image and MME's pairs stay together;
halves alternate over the images of each category, in a drawn order, so that both have every
sub-task. The rows stand so that the first ones are spread over categories and images: a limit takes
those.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from overtrain import PipelineError
from overtrain.data import images
from overtrain.hub import client
from overtrain.measuring.vision_digits import from_digits
from overtrain.measuring.vision_questions import IMAGES, MANIFEST, SCHEMA, group, with_suffix
from overtrain.measuring.vision_scores import READ
from overtrain.records.provenance import seed_of, sha256, whole_folder, write_json

if TYPE_CHECKING:
    from datasets import Dataset

MARK = "<image>"  # where a prompt has its image; a question that says so would have two


class LeftOutError(Exception):
    """Why a question cannot be asked; it is left out and counted."""


def prepare(name: str, suite: dict, folder: Path, origin: dict) -> dict:
    """Fill `folder` with the questions of a suite and their images. Returns the manifest."""
    benchmarks: dict[str, dict] = {}
    with whole_folder(folder) as temporary:

        def write_questions() -> Iterator[tuple[str, bytes]]:
            """Each image once, by its name, while the questions are read."""
            written: set[str] = set()
            for benchmark, settings in suite["benchmarks"].items():
                rows: list[dict] = []
                about: dict = {}
                left_out: Counter[str] = Counter()
                try:
                    for row, content in questions(settings, about, left_out):
                        rows.append(row)
                        if row["image"] not in written:
                            written.add(row["image"])
                            yield row["image"], content
                    rows = ordered(complete(settings, rows, left_out))
                    if not rows:
                        raise PipelineError(f"no question is left; left out: {said(left_out)}")
                except PipelineError as error:
                    where = f"vision_suites.{name}.benchmarks.{benchmark}"
                    raise PipelineError(f"{where}: {error}") from error
                table = pa.Table.from_pylist(rows, SCHEMA)
                pq.write_table(table, temporary / f"{benchmark}.parquet")
                benchmarks[benchmark] = about | counts(rows) | {"left_out": dict(left_out)}
                print(f"{benchmark}: {len(rows)} questions; left out: {said(left_out)}")

        of_images = images.write(temporary / IMAGES, write_questions())
        hashes = {f"{own}.parquet": sha256(temporary / f"{own}.parquet") for own in benchmarks}
        hashes[IMAGES] = of_images["sha256"]
        manifest = {
            "benchmarks": benchmarks,
            "files": hashes,
            "provenance": origin,
            "sha256": hashlib.sha256(json.dumps(hashes).encode()).hexdigest(),
        }
        write_json(temporary / MANIFEST, manifest)
    return manifest


def counts(rows: list[dict]) -> dict:
    categories = Counter(row["category"] for row in rows if row["category"] is not None)
    own = {"categories": dict(sorted(categories.items()))} if categories else {}
    return own | {"images": len({row["image"] for row in rows}), "questions": len(rows)}


def questions(settings: dict, about: dict, left_out: Counter) -> Iterator[tuple[dict, bytes]]:
    """Rows of SCHEMA (without halves) of a benchmark, each with its image's bytes.

    about: is filled with where they are from; left_out: counts why others are not among them.
    """
    read = from_digits if "digits" in settings["source"] else from_hub
    return read(settings, about, left_out)


def said(left_out: Counter) -> str:
    return ", ".join(f"{count} ({reason})" for reason, count in left_out.items()) or "none"


def ordered(rows: list[dict]) -> list[dict]:
    """The rows with their halves, in an order whose beginning is spread over the images."""
    of_image: dict[str, list[dict]] = defaultdict(list)
    for row in rows:
        of_image[row["image"]].append(row)
    strata: dict[str, list[str]] = defaultdict(list)  # images by their categories
    for image, own in of_image.items():
        strata[json.dumps(sorted({row["category"] or "" for row in own}))].append(image)
    placed, count = [], 0
    for stratum in sorted(strata):
        drawn = sorted(strata[stratum], key=lambda image: seed_of("halves", image))
        for place, image in enumerate(drawn):
            groups = list(dict.fromkeys(group(row) for row in of_image[image]))
            for row in of_image[image]:
                order = (groups.index(group(row)), place, stratum)
                placed.append((order, row | {"half": ("even", "odd")[count % 2]}))
            count += 1
    return [row for _, row in sorted(placed, key=lambda entry: entry[0])]


def complete(settings: dict, rows: list[dict], left_out: Counter) -> list[dict]:
    """The rows without halves of MME's pairs; PipelineError if its sub-tasks are others."""
    if settings["kind"] != "mme":
        return rows
    sizes = Counter(map(group, rows))
    whole = [row for row in rows if sizes[group(row)] == 2]
    if len(whole) < len(rows):
        left_out["not one of two questions on an image"] = len(rows) - len(whole)
    found = {row["category"] for row in whole}
    if found and found != (named := {*settings["perception"], *settings["cognition"]}):
        raise PipelineError(
            f"its sub-tasks are {', '.join(sorted(found))}; perception and cognition name "
            f"{', '.join(sorted(named))}"
        )
    return whole


# --- of the hub -----------------------------------------------------------------------------------


def from_hub(settings: dict, about: dict, left_out: Counter) -> Iterator[tuple[dict, bytes]]:
    """`questions` of a data set; an image is named by its content."""
    asked, columns, apart = settings["source"], settings["source"]["columns"], None
    data, commit = fetched(asked, asked.get("name"), asked["split"], columns.values())
    about |= {key: asked.get(key) for key in ("dataset", "name", "revision", "split")}
    about["commit"] = commit
    if own := asked.get("images"):
        there, _ = fetched(asked, own["name"], own["split"], (own["id"], own["image"]))
        apart = undecoded(there, own["image"])
        place_of = {key: place for place, key in enumerate(apart[own["id"]])}
    else:
        data = undecoded(data, columns["image"])
    names: dict[str, str] = {}  # by hash: an image is decoded once
    for place, found in enumerate(data):
        row = {key: found[column] for key, column in columns.items()}
        row["id"] = str(row.get("id", place))
        try:
            question, answers = ASKED[settings["kind"]](row, settings)
            if MARK in question:
                raise LeftOutError(f"its text has {MARK}")
            if apart is None:
                content = content_of(row["image"])
            elif row["image"] in place_of:
                content = content_of(apart[place_of[row["image"]]][own["image"]])
            else:
                raise LeftOutError("no image of its name")
            digest = hashlib.sha256(content).hexdigest()
            if digest not in names:
                names[digest] = f"{digest[:20]}.{format_of(content)}"
        except LeftOutError as reason:
            left_out[str(reason)] += 1
            continue
        category = row.get("category")
        yield (
            {
                "id": row["id"],
                "question": question,
                "answers": answers,
                "image": names[digest],
                "category": None if category is None else str(category),
            },
            content,
        )


def fetched(
    source: dict, name: str | None, split: str, columns: Iterable[str]
) -> tuple[Dataset, str | None]:
    """A split of a data set, and its commit (None of a local folder)."""
    from datasets import load_dataset

    path, revision = source["dataset"], source["revision"]
    what = f"{path} at {revision}, {name or 'default'}, split {split}"
    commit = None
    with client.one_line(what):
        if not Path(path).is_dir():
            commit = client.api().dataset_info(path, revision=revision).sha
        data = load_dataset(path, name, split=split, revision=commit)
    for column in columns:
        if column not in data.column_names:
            raise PipelineError(f"{what}: no column {column!r}; it has {sorted(data.column_names)}")
    return data, commit


def undecoded(data: Dataset, column: str) -> Dataset:
    """Images as the bytes that they are stored as."""
    from datasets import Image

    if not isinstance(data.features[column], Image):
        raise PipelineError(f"column {column!r} holds no images but {data.features[column]}")
    return data.cast_column(column, Image(decode=False))


def content_of(image: dict | None) -> bytes:
    if image and (content := image["bytes"]):
        return content
    if image and image["path"] and Path(image["path"]).is_file():  # a folder of images
        return Path(image["path"]).read_bytes()
    raise LeftOutError("no image")


def format_of(content: bytes) -> str:
    """The format of an image that can be decoded."""
    from PIL import Image

    try:
        images.decoded(content)
    except images.UndecodableError as error:
        raise LeftOutError("an image that cannot be decoded") from error
    return str(Image.open(io.BytesIO(content)).format).lower()


# --- how a question is asked ----------------------------------------------------------------------


def text_of(row: dict, key: str) -> str:
    if not isinstance(row[key], str) or not row[key].strip():
        raise LeftOutError(f"no {key}")
    return row[key].strip()


def plainly(row: dict, settings: dict) -> tuple[str, list[str]]:
    """The question, and the one answer that is right."""
    answer = text_of(row, "answer")
    if READ[settings["kind"]](answer) is None:
        raise LeftOutError("an answer that cannot be right")
    return with_suffix(text_of(row, "question"), settings), [answer]


def in_pairs(row: dict, settings: dict) -> tuple[str, list[str]]:
    """MME asks for "yes or no" itself; LLaVA-1.5's short-answer line takes its place."""
    question = text_of(row, "question").replace(settings.get("strip") or "", "")
    return plainly(row | {"question": question}, settings)


def with_options(row: dict, settings: dict) -> tuple[str, list[str]]:
    """AI2D: the options under their letters; the answer is the place of one of them."""
    options = row["options"] or []
    letters = [chr(ord("A") + place) for place in range(len(options))]
    lines = [f"{name}. {option}" for name, option in zip(letters, options, strict=True)]
    try:
        answer = dict(enumerate(letters))[int(row["answer"])]
    except (KeyError, TypeError, ValueError) as error:
        raise LeftOutError("no option is the answer") from error
    question = "\n".join([text_of(row, "question"), *lines])
    return with_suffix(question, settings), [answer]


def with_ocr(row: dict, settings: dict) -> tuple[str, list[str]]:
    """TextVQA, in LLaVA-1.5's words; the data set's questions are all lower case."""
    question, answers = text_of(row, "question").capitalize(), row["answers"] or []
    if not any(answers):
        raise LeftOutError("no answers")
    if settings["ocr"]:
        question += f"\nReference OCR token: {', '.join(row['ocr'] or [])}"
    return with_suffix(question, settings), list(answers)


ASKED: dict[str, Callable[[dict, dict], tuple[str, list[str]]]] = {
    "mme": in_pairs,
    "gqa": plainly,
    "ai2d": with_options,
    "textvqa": with_ocr,
    "pope": plainly,
}

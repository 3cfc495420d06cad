"""Conversations about images: each source and format, what is left out and why, the same twice."""

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
from configuration import PAPERS
from local_hub import Handler, run_on_hub, serve
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from overtrain import PipelineError
from overtrain.config.tasks import Task
from overtrain.data import image_chat, tasks
from overtrain.data.conversations import MalformedError
from overtrain.data.image_chat import example_of, key_of, rows_of_json
from overtrain.data.images import Images

COMMIT = "a" * 40


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def llava(image: str | None, *turns: str) -> dict:
    """A row in LLaVA's layout: human and gpt in turns."""
    said = [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(turns)]
    return {"id": "x", "conversations": said} | ({"image": image} if image else {})


# --- rows to examples -----------------------------------------------------------------------------


def test_the_mark_goes_and_the_turns_stay():
    row = llava("coco/1.jpg", "<image>\nWhat is it?", "A cat.", "Sure?", "Yes.")
    found = example_of(row, "llava", {"coco/1.jpg": b""})
    assert found["image"] == "coco/1.jpg"
    roles = ["user", "assistant", "user", "assistant"]
    texts = ["What is it?", "A cat.", "Sure?", "Yes."]
    assert [tuple(m.values()) for m in found["messages"]] == list(zip(roles, texts, strict=True))
    after = example_of(llava("1", "What is it?\n<image>", "A cat."), "llava", {"1": b""})
    assert after["messages"] == found["messages"][:2]
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    assert example_of({"messages": turns}, "messages", {})["image"] is None


def test_what_gpt_says_before_the_first_question_goes():
    said = llava(None, "late", "Hello.", "Who?", "Me.")["conversations"][1:]
    found = example_of({"conversations": said}, "llava", {})
    assert [m["content"] for m in found["messages"]] == ["Who?", "Me."]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (llava("1", "What?", "A cat."), "an image without its mark"),
        (llava(None, "<image>What?", "A cat."), "an image mark without an image"),
        (llava("1", "<image><image>What?", "A cat."), "more than one image mark"),
        (llava("1", "<image>What?", "A cat.", "<image>", "B"), "more than one image mark"),
        (llava("1", "What?", "A.", "<image>So?", "B."), "an image mark after the first question"),
        (llava("2", "<image>What?", "A cat."), "an image that is missing"),
        (llava("1", "<image>What?"), "does not end in an assistant turn"),
        (llava("1", "<image>What?", ""), "an empty turn"),
        ({"conversations": [{"from": "bot", "value": "a"}]}, "a turn of neither human nor gpt"),
        (llava("1", "<image>What?", "A cat.") | {"image": ["1", "1"]}, "several images"),
        ({"conversations": None}, "a column without a value"),
    ],
)
def test_what_is_left_out_and_why(row: dict, reason: str):
    with pytest.raises(MalformedError, match=f"^{reason}$"):
        example_of(row, "llava", {"1": b""})


def test_a_changed_column_is_one_line():
    with pytest.raises(PipelineError, match=r"^no column 'conversations', which format llava"):
        example_of({"image": "1", "messages": []}, "llava", {})
    with pytest.raises(PipelineError, match=r"^a turn of column 'conversations' has no 'value'"):
        example_of({"conversations": [{"from": "human", "text": "a"}]}, "llava", {})


def test_one_image_of_two_data_sets_is_one_image():
    """GQA's images are Visual Genome's, of the same number."""
    same = [{"image": f"{folder}/17.jpg", "messages": []} for folder in ("gqa/images", "vg/VG_1")]
    assert key_of(same[0]) == key_of(same[1])
    text = [{"role": "user", "content": "17.jpg"}]
    assert key_of({"image": None, "messages": text}) != key_of(same[0])


@pytest.mark.parametrize("block", [1, 7, 2**20])
def test_a_json_list_is_read_row_by_row(tmp_path: Path, monkeypatch, block: int):
    rows = [{"a": 'x"]}', "b": [1, {"c": "é"}]}, {}, {"a": "y" * 50}]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    monkeypatch.setattr(image_chat, "BLOCK", block)
    if block > 1:  # the first piece must hold the bracket
        path.write_text("\n " + path.read_text())
    assert list(rows_of_json(path)) == rows


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[{"a": 1}, {"a"', r"^rows\.json: not readable as JSON"),
        ('[{"a": 1} oops {"a": 1}]', r"^rows\.json: not readable as JSON"),
        ('{"a": 1}', r"^rows\.json: not a JSON list of rows"),
        ("", r"^rows\.json: not a JSON list of rows"),
        ('["a"]', r"^rows\.json: its rows must be objects; one is 'a'"),
    ],
)
def test_damaged_json_is_one_line(tmp_path: Path, text: str, line: str):
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(PipelineError, match=line):
        list(rows_of_json(tmp_path / "rows.json"))


# --- a JSON file beside archives ------------------------------------------------------------------


def pack(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("train2017")
        for name, data in members.items():
            archive.writestr(name, data)


def published(folder: Path) -> None:
    """LLaVA's layout in a folder: rows.json, and images of 40 conversations in two archives."""
    folder.mkdir(parents=True)
    coco = {f"train2017/{i:03d}.jpg": picture(i) for i in range(20)}
    coco["train2017/cut.jpg"] = picture(99)[:200]
    coco["train2017/unused.jpg"] = picture(98)
    pack(folder / "coco.zip", coco)
    pack(folder / "vg.zip", {f"VG_100K/{i}.jpg": picture(100 + i) for i in range(20)})
    rows = [llava(f"coco/{n}", "<image>\nDescribe.", f"It is {n}.") for n in coco if "un" not in n]
    rows += [llava(f"vg/VG_100K/{i}.jpg", "What?\n<image>", f"Scene {i}.") for i in range(20)]
    rows += [llava(None, f"What is {i}?", f"A number, {i}.") for i in range(8)]
    rows += [llava("coco/train2017/gone.jpg", "<image>", "Gone.")]
    rows += [llava("coco/train2017/001.jpg", "no mark", "None."), rows[0]]
    (folder / "rows.json").write_text(json.dumps(rows))


def archives(repository: str, revision: str = "main") -> dict:
    place = {"repository": repository, "revision": revision, "mb": 1}
    return {
        "title": "some",
        "kind": "image_chat",
        "format": "llava",
        "source": {
            "kind": "archives",
            "dataset": repository,
            "revision": revision,
            "file": "rows.json",
            "archives": {
                "coco": place | {"kind": "dataset", "file": "coco.zip", "folder": "coco"},
                "vg": place | {"kind": "dataset", "file": "vg.zip", "folder": "vg"},
            },
        },
        "examples": {"train": 100, "validation": 4, "test": 6},
    }


def slice_of(task: dict) -> dict:
    return TypeAdapter(Task).validate_python(task).slice()


def prepare(task: dict, folder: Path) -> dict:
    """The splits of a prepared task and its manifest."""
    own = folder / "task"
    image_chat.prepare("some", slice_of(task), own, folder / "work", 2, {"made": "here"})
    splits = {s: tasks.read_split(own, s, "image_chat") for s in tasks.SPLITS}
    return splits | {"manifest": json.loads((own / "manifest.json").read_text())}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("local") / "llava"
    published(folder)
    return folder


def test_rows_and_archives_become_splits_and_one_archive(folder: Path, tmp_path: Path, capsys):
    found = prepare(archives(str(folder)), tmp_path)
    manifest = found.pop("manifest")
    sizes = {split: len(rows) for split, rows in found.items()}  # one that was drawn is broken
    assert sizes == {"test": 5, "validation": 4, "train": 39}  # 20 of each archive, 8 without
    kept = Images(tmp_path / "task/images")
    used = {split: {row["image"] for row in rows} - {None} for split, rows in found.items()}
    assert set().union(*used.values()) == set(kept.archive.namelist())
    assert sum(map(len, used.values())) == 40 == manifest["images"]["images"]  # in one split each
    for row in found["train"]:
        assert "<image>" not in str(row["messages"])
        if row["image"] and row["image"].startswith("coco"):
            member = row["image"].removeprefix("coco/")
            assert row["messages"][1]["content"] == f"It is {member}."
            assert kept.bytes(row["image"]) == picture(int(member[-7:-4]))
    reasons = Counter()
    for own in manifest["left_out"].values():
        reasons.update(own)
    assert reasons == {
        "an image without its mark": 1,
        "an image that is missing": 1,
        "an image that cannot be decoded": 1,
        "a repetition": 1,
    }
    counts = Counter()
    for split in manifest["splits"].values():
        counts.update(split["datasets"])
    assert counts == {"coco": 20, "vg": 20, "text": 8}
    assert sum(split["with_image"] for split in manifest["splits"].values()) == 40
    assert "coco/train2017/cut.jpg: cannot be decoded" in capsys.readouterr().out


def test_the_same_source_is_the_same_bytes(folder: Path, tmp_path: Path):
    files = []
    for name in "ab":
        prepare(archives(str(folder)), tmp_path / name)
        own = sorted((tmp_path / name / "task").rglob("*.*"))
        files.append({path.name: path.read_bytes() for path in own if path.is_file()})
    assert len(files[0]) == 5  # the folder's manifest has its name from the task's
    assert files[0] == files[1]


Change = Callable[[dict, Path], object]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda task, folder: task["source"]["archives"]["vg"].update(folder="genome"),
            r"^tasks\.some: source\.archives\.vg: it has no image that a row names; its folder is "
            r"'genome' and it holds VG_100K/0\.jpg; of the images that are in no archive rows name "
            r"coco/train2017/gone\.jpg",
        ),
        (
            lambda task, folder: (folder / "vg.zip").write_bytes(b"PK"),
            r"^tasks\.some: .*vg\.zip: not a readable zip archive",
        ),
        (
            lambda task, folder: task["source"]["archives"]["vg"].update(file="vg2.zip"),
            r"^tasks\.some: .* it has no file vg2\.zip",
        ),
        (
            lambda task, folder: (folder / "rows.json").write_text(
                (folder / "rows.json").read_text().replace('"image"', '"picture"')
            ),
            r"^tasks\.some: rows\.json: no column 'image' with names; its first row has "
            r"\['conversations', 'id', 'picture'\]",
        ),
        (
            lambda task, folder: (folder / "rows.json").write_text(
                (folder / "rows.json").read_text().replace("<image>", "")
            ),
            r"^tasks\.some: the train split is empty",
        ),
    ],
    ids=["folder", "damaged archive", "no such archive", "changed column", "nothing left"],
)
def test_bad_sources_are_one_line_and_leave_nothing(tmp_path: Path, change: Change, line: str):
    published(tmp_path / "llava")
    task = archives(str(tmp_path / "llava"))
    change(task, tmp_path / "llava")
    with pytest.raises(PipelineError, match=line) as error:
        prepare(task, tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("task/*.parquet"))


# --- a hub ----------------------------------------------------------------------------------------

PREPARE = """
import json, sys
from pathlib import Path
from overtrain import PipelineError
from overtrain.data import image_chat

task, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
try:
    image_chat.prepare("some", task, folder / "task", folder / "work", 1, {})
except PipelineError as error:
    print(error)
"""


def test_archives_of_the_hub_go_on_where_a_download_was_stopped(folder: Path, tmp_path: Path):
    place = tmp_path / "root/datasets/liuhaotian/LLaVA"
    place.mkdir(parents=True)
    (place / COMMIT).symlink_to(folder)

    class Lacks(Handler):
        """A hub whose second archive cannot be had yet."""

        def send_file(self, path: Path, commit: str) -> None:
            if path.name == "vg.zip":
                return self.refuse(404, "EntryNotFound", "Entry not found")
            super().send_file(path, commit)

    task = slice_of(archives("liuhaotian/LLaVA", COMMIT))
    arguments = json.dumps(task), str(tmp_path)
    with serve(tmp_path / "root", {"main": COMMIT}, Lacks) as hub:
        done = run_on_hub(hub, tmp_path / "home", PREPARE, *arguments)
    assert done.stdout.count("\n") == 1 and "tasks.some: liuhaotian/LLaVA" in done.stdout
    assert not (tmp_path / "task").exists()
    half = tmp_path / "work/liuhaotian--LLaVA" / COMMIT / "vg.zip"
    half.write_bytes((folder / "vg.zip").read_bytes()[:500])  # as a killed process leaves it
    with serve(tmp_path / "root", {"main": COMMIT}) as hub:
        done = run_on_hub(hub, tmp_path / "home", PREPARE, *arguments)
    assert done.returncode == 0, done.stderr
    asked = [r for r in hub.requests if r.startswith("GET") and ".zip" in r]
    assert len(asked) == 1 and re.search(r"vg\.zip bytes=500-", asked[0])  # the other is here
    assert prepare(archives(str(folder)), tmp_path / "local")["test"] == tasks.read_split(
        tmp_path / "task", "test", "image_chat"
    )


def test_a_disk_too_small_for_both_is_said_before_any_is_asked(folder: Path, tmp_path: Path):
    place = tmp_path / "root/datasets/liuhaotian/LLaVA"
    place.mkdir(parents=True)
    (place / COMMIT).symlink_to(folder)
    once = sum((folder / name).stat().st_size for name in ("rows.json", "coco.zip", "vg.zip"))
    full = "import shutil; from types import SimpleNamespace; " + (
        f"shutil.disk_usage = lambda _: SimpleNamespace(free={once + 10})\n"
    )
    arguments = json.dumps(slice_of(archives("liuhaotian/LLaVA", COMMIT))), str(tmp_path)
    with serve(tmp_path / "root", {"main": COMMIT}) as hub:
        done = run_on_hub(hub, tmp_path / "home", full + PREPARE, *arguments)
    assert re.fullmatch(r"tasks\.some: source: needs .* GB more on the disk of .*\n", done.stdout)
    assert not [r for r in hub.requests if r.startswith("GET") and ".zip" in r]


def test_what_is_asked_of_the_hub_has_a_key_each():
    task = archives("liuhaotian/LLaVA")
    task["source"]["archives"]["vg"] |= {"kind": "model", "repository": "someone/images"}
    asked = list(TypeAdapter(Task).validate_python(task).asked())
    assert [(a.key, a.kind, a.repository, a.name_key, a.files["names"]) for a in asked] == [
        ("source", "dataset", "liuhaotian/LLaVA", "source.dataset", ["rows.json"]),
        (
            "source.archives.coco",
            "dataset",
            "liuhaotian/LLaVA",
            "source.archives.coco.repository",
            ["coco.zip"],
        ),
        (
            "source.archives.vg",
            "model",
            "someone/images",
            "source.archives.vg.repository",
            ["vg.zip"],
        ),
    ]


# What the published rows name, and how the archives of the configuration hold it.
MEMBERS = {
    "images": ("", "00453/{}.jpg"),
    "coco": ("coco/", "train2017/{}.jpg"),
    "gqa": ("gqa/", "images/{}.jpg"),
    "ocr_vqa": ("ocr_vqa/", "images/{}.jpg"),
    "textvqa": ("textvqa/", "train_images/{}.jpg"),
    "vg_1": ("vg/", "VG_100K/{}.jpg"),
    "vg_2": ("vg/", "VG_100K_2/{}.jpg"),
}


PIN = """
import json, sys
from pathlib import Path
from overtrain.configuration import catalogue_of
from overtrain.hub import sources

settings = json.loads(Path(sys.argv[1]).read_text())
settings["sources"]["pins"] = sys.argv[1] + ".pins"
catalogue, name = catalogue_of(settings), sys.argv[2]
slice_ = json.loads(catalogue.task_slice(name))
found = sources.check(catalogue.sources_of("tasks", name), Path(sys.argv[1] + ".pins"))
sizes = {key: answer["bytes"] for key, answer in found.items()}
print(json.dumps([sources.pin(catalogue, "tasks", name, slice_), sizes]))
"""


@pytest.mark.parametrize("name", ["llava_captions", "llava_instructions"])
def test_the_papers_data_as_configured(name: str, tmp_path: Path):
    settings = json.loads(json.dumps(PAPERS))
    task = settings["tasks"][name]
    task["examples"] = {"train": 100, "validation": 2, "test": 3}
    source, rows = task["source"], [llava(None, f"{i}?", "A.") for i in range(4)]
    files = {}
    for place, (key, archive) in enumerate(source["archives"].items()):
        kind = f"{archive.get('kind', 'dataset')}s"
        folder = tmp_path / "root" / kind / archive["repository"] / COMMIT
        folder.mkdir(parents=True, exist_ok=True)
        prefix, member = MEMBERS[key]
        names = [member.format(10 * place + i) for i in range(4)]
        files[f"tasks.{name}.source.archives.{key}"] = folder / archive["file"]
        pack(folder / archive["file"], {own: picture(i) for i, own in enumerate(names)})
        rows += [llava(prefix + own, "<image>\nWhat?", own) for own in names]
    folder = tmp_path / "root/datasets" / source["dataset"] / COMMIT
    folder.mkdir(parents=True, exist_ok=True)
    (folder / source["file"]).write_text(json.dumps(rows))
    files[f"tasks.{name}.source"] = folder / source["file"]
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    with serve(tmp_path / "root", {"main": COMMIT}) as hub:
        own = hub, tmp_path / "home"
        asked = run_on_hub(*own, PIN, str(tmp_path / "settings.json"), name)
        assert asked.returncode == 0, asked.stderr
        pinned, sizes = json.loads(asked.stdout)
        done = run_on_hub(*own, PREPARE, json.dumps(pinned), str(tmp_path))
    assert sizes == {key: path.stat().st_size for key, path in files.items()}
    assert {a["revision"] for a in pinned["source"]["archives"].values()} == {COMMIT}
    assert done.returncode == 0 and "left out" not in done.stdout, done.stderr
    assert len(Images(tmp_path / "task/images")) == 4 * len(source["archives"])
    manifest = json.loads((tmp_path / "task/manifest.json").read_text())
    assert manifest["source"]["revision"] == COMMIT


# --- a data set with a column of images -----------------------------------------------------------


def parquet(folder: Path, column: str = "image") -> dict:
    """A task of a local data set of 12 rows with images, one of them broken, and 4 without."""
    rows = [
        {column: {"bytes": picture(i), "path": None}, "messages": turns("<image>What?", f"A {i}")}
        for i in range(11)
    ]
    rows.append(rows[0] | {column: {"bytes": b"GIF89a", "path": None}})
    rows += [{column: None, "messages": turns(f"Who is {i}?", "Me.")} for i in range(4)]
    features = datasets.Features(
        {
            column: datasets.Image(),
            "messages": [{"role": datasets.Value("string"), "content": datasets.Value("string")}],
        }
    )
    folder.mkdir()
    datasets.Dataset.from_list(rows, features=features).to_parquet(folder / "train.parquet")
    source = {"kind": "hub", "dataset": str(folder), "revision": "main", "image": "image"}
    return {
        "title": "some",
        "kind": "image_chat",
        "format": "messages",
        "source": source | {"splits": {"train": "train"}},
        "examples": {"train": 100, "validation": 2, "test": 3},
    }


def turns(question: str, answer: str) -> list[dict]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def test_a_column_of_images_keeps_its_bytes(tmp_path: Path):
    found = prepare(parquet(tmp_path / "data"), tmp_path)
    manifest = found.pop("manifest")
    rows = [row for own in found.values() for row in own]
    assert sum(row["image"] is None for row in rows) == 4
    kept = Images(tmp_path / "task/images")
    named = {row["messages"][1]["content"]: row["image"] for row in rows if row["image"]}
    assert {text: kept.bytes(name) for text, name in named.items()} == {
        f"A {i}": picture(i) for i in range(11)
    }
    assert list(filter(None, manifest["left_out"].values())) == [
        {"an image that cannot be decoded": 1}
    ]


def test_a_column_that_is_not_there_is_one_line(tmp_path: Path):
    line = (
        r"^tasks\.some: no column 'image', which source\.image names; it has \['pix', 'messages'\]"
    )
    with pytest.raises(PipelineError, match=line):
        prepare(parquet(tmp_path / "data", column="pix"), tmp_path)


# --- digits ---------------------------------------------------------------------------------------


def digits_task(rows: str) -> dict:
    examples = {"train": 300, "validation": 20, "test": 30}
    source = {"kind": "digits", "rows": rows}
    own = {"title": "digits", "kind": "image_chat", "format": "messages"}
    return own | {"source": source, "examples": examples}


@pytest.mark.parametrize("rows", ["captions", "questions"])
def test_digits_become_a_task(rows: str, tmp_path: Path):
    found = prepare(digits_task(rows), tmp_path)
    manifest = found.pop("manifest")
    assert {split: len(own) for split, own in found.items()} == digits_task(rows)["examples"]
    assert not any(manifest["left_out"].values())
    used = {split: {row["image"] for row in own} - {None} for split, own in found.items()}
    test = {d.name for d in image_chat.digits.images("test")}
    assert used["test"] <= test and not test & (used["train"] | used["validation"])
    without = manifest["splits"]["train"]["examples"] - manifest["splits"]["train"]["with_image"]
    assert (without > 0) == (rows == "questions")


def test_a_source_without_its_keys_is_refused():
    with pytest.raises(ValidationError, match="rows"):
        slice_of(digits_task("captions") | {"source": {"kind": "digits"}})
    with pytest.raises(ValidationError, match="kind"):
        slice_of(digits_task("captions") | {"source": {"kind": "numbers"}})

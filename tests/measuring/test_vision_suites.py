"""Suites of vision benchmarks: from a hub, from digits; what is left out; halves, limits."""

import io
import json
from collections import Counter
from pathlib import Path

import pytest
from configuration import PAPERS, at_scale, catalogue_of
from datasets import Dataset, Features, Sequence, Value
from datasets import Image as Images_
from local_hub import run_on_hub, serve
from PIL import Image
from pydantic import ValidationError

from overtrain import PipelineError
from overtrain.config.vision_suites import VisionSuite
from overtrain.data import digits
from overtrain.data.images import Images
from overtrain.measuring.vision_questions import IMAGES, limited, read_suite
from overtrain.measuring.vision_suites import ordered, prepare

FIVE = VisionSuite(**PAPERS["vision_suites"]["llava_five"])
DIGITS = VisionSuite(**at_scale("profiles/demo/overlay.yaml")["vision_suites"]["digits_five"])
COMMIT = "5" * 40
SHORT = "\nAnswer the question using a single word or phrase."
SUB_TASKS = [*FIVE.benchmarks["mme"].perception, *FIVE.benchmarks["mme"].cognition]
WHOLE = ["mme", "gqa", "ai2d", "textvqa", "pope"]
README = """---
configs:
- config_name: testdev_balanced_instructions
  data_files: [{split: testdev, path: instructions.parquet}]
- config_name: testdev_balanced_images
  data_files: [{split: testdev, path: images.parquet}]
---
"""


def png(colour: int) -> dict:
    file = io.BytesIO()
    Image.new("L", (3, 2), colour).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


BROKEN = {"bytes": b"no image", "path": None}
CUT = {"bytes": png(1)["bytes"][:-35], "path": None}


def yes_no(ids: list[str], categories: list[str], colours: list[int]) -> dict[str, list]:
    """Two questions for each id."""
    return {
        "question_id": [i for i in ids for _ in range(2)],
        "category": [c for c in categories for _ in range(2)],
        "image": [png(c) for c in colours for _ in range(2)],
        "question": [f"Is it {i}? Please answer yes or no." for i in ids for _ in range(2)],
        "answer": ["Yes", "No"] * len(ids),
    }


def data_sets() -> dict[str, dict[str, list]]:
    """Small tables with the columns of the hub's, by their file."""
    mme = yes_no(
        [f"{task}/{place}.png" for task in SUB_TASKS for place in range(3)],
        [task for task in SUB_TASKS for _ in range(3)],
        list(range(42)),
    )
    gqa = {
        "id": [f"{n}" for n in range(8)],
        "imageId": ["n1", "n1", "n2", "n3", "n4", "lost", "n2", "n1"],
        "question": [*(f"What is {n}?" for n in range(7)), "Where is <image>?"],
        "answer": ["bus", "left", "red", "no", "yes", "a", "", "left"],
    }
    of_gqa = {"id": ["n1", "n2", "n3", "n4"], "image": [png(201), png(202), BROKEN, png(204)]}
    ai2d = {
        "question": ["Which?", "What?", "Who?"],
        "options": [["x", "y"], ["a leaf", "a root", "a stem"], ["a", "b"]],
        "answer": ["1", "0", "7"],
        "image": [png(0), png(211), png(212)],  # the first is one of MME's
    }
    textvqa = {
        "image_id": ["a", "b", "c"],
        "question_id": [1, 2, 3],
        "question": ["what is the BRAND?", "what time?", "who?"],
        "image": [png(221), png(222), CUT],
        "answers": [["Stop"] * 10, ["3"] * 10, ["me"] * 10],
        "ocr_tokens": [["STOP", "10%"], [], []],
    }
    categories = ["adversarial", "popular", "random"]
    pope = yes_no([f"{n}" for n in range(12)], categories * 4, [230 + n // 3 for n in range(12)])
    return {
        "MME/data/test-00000-of-00001.parquet": mme,
        "GQA/instructions.parquet": gqa,
        "GQA/images.parquet": of_gqa,
        "ai2d/data/test-00000-of-00001.parquet": ai2d,
        "textvqa/data/validation-00000-of-00001.parquet": textvqa,
        "POPE/data/test-00000-of-00001.parquet": pope,
    }


def write_hub(root: Path, tables: dict[str, dict[str, list]]) -> None:
    kinds = {"image": Images_(), "question_id": None, "options": Sequence(Value("string"))}
    for name, table in tables.items():
        owner, _, file = name.partition("/")
        path = root / "datasets" / "lmms-lab-encoder" / owner / COMMIT / file
        path.parent.mkdir(parents=True, exist_ok=True)
        known = {key: kinds[key] for key in table if kinds.get(key)}
        plain = Dataset.from_dict({k: v for k, v in table.items() if k not in known}).features
        Dataset.from_dict(table, Features({k: known.get(k) or plain[k] for k in table})).to_parquet(
            path
        )
    (root / "datasets" / "lmms-lab-encoder" / "GQA" / COMMIT / "README.md").write_text(README)


PREPARE = """
import json, sys
from pathlib import Path
from overtrain import PipelineError
from overtrain.measuring.vision_suites import prepare
suites, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
for name, suite in suites.items():
    try:
        prepare(name, suite, folder / name, {"commit": "test"})
    except PipelineError as error:
        print("error:", error)
"""


def one(name: str, columns: dict | None = None, **changes: object) -> dict:
    """A suite of one of the five, changed."""
    own = FIVE.slice()["benchmarks"][name]
    source = own["source"] | changes
    if columns:
        source["columns"] = source["columns"] | columns
    return {"benchmarks": {name: own | {"source": source}}}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> tuple[Path, list[str]]:
    """The folder of suites, prepared from a hub as the papers' configuration says; the errors."""
    own = tmp_path_factory.mktemp("suites")
    write_hub(own / "root", data_sets())
    suites = {
        "five": FIVE.slice(),
        "column": one("mme", {"category": "kind"}),
        "apart": one(
            "gqa", images={**FIVE.slice()["benchmarks"]["gqa"]["source"]["images"], "id": "name"}
        ),
        "no_images": one("pope", {"image": "question"}),
        "gone": one("ai2d", dataset="lmms-lab-encoder/gone"),
        "split": one("mme", split="train"),
        "tasks": {
            "benchmarks": {"mme": FIVE.slice()["benchmarks"]["mme"] | {"cognition": ["code"]}}
        },
        "ocr": {"benchmarks": {"textvqa": FIVE.slice()["benchmarks"]["textvqa"] | {"ocr": True}}},
    }
    with serve(own / "root", {"main": COMMIT}) as hub:
        done = run_on_hub(hub, own / "home", PREPARE, json.dumps(suites), str(own))
    assert done.returncode == 0, done.stderr[-3000:]
    return own, [line for line in done.stdout.splitlines() if line.startswith("error:")]


def test_questions_are_asked_as_llava_asks_them(prepared):
    found = read_suite(prepared[0] / "five", FIVE.asked_slice())
    by_id = {name: {row["id"]: row for row in rows} for name, rows in found.items()}
    assert by_id["mme"]["OCR/0.png"]["question"] == "Is it OCR/0.png?" + SHORT
    assert by_id["gqa"]["2"]["question"] == "What is 2?" + SHORT
    assert by_id["ai2d"]["1"]["question"] == (
        "What?\nA. a leaf\nB. a root\nC. a stem\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert [by_id["ai2d"][key]["answers"] for key in "01"] == [["B"], ["A"]]
    assert by_id["textvqa"]["1"]["question"] == "What is the brand?" + SHORT
    assert by_id["textvqa"]["1"]["answers"] == ["Stop"] * 10
    assert by_id["pope"]["0"]["question"].endswith("? Please answer yes or no." + SHORT)
    asked = FIVE.asked_slice() | {"benchmarks": ["textvqa"]}
    with_ocr = {r["id"]: r["question"] for r in read_suite(prepared[0] / "ocr", asked)["textvqa"]}
    assert with_ocr["1"] == "What is the brand?\nReference OCR token: STOP, 10%" + SHORT
    assert with_ocr["2"] == "What time?\nReference OCR token: " + SHORT


def test_what_cannot_be_asked_is_left_out_and_counted(prepared):
    manifest = json.loads((prepared[0] / "five" / "manifest.json").read_text())["benchmarks"]
    assert {name: own["left_out"] for name, own in manifest.items()} == {
        "mme": {},
        "gqa": {
            "an image that cannot be decoded": 1,
            "no image of its name": 1,
            "no answer": 1,
            "its text has <image>": 1,
        },
        "ai2d": {"no option is the answer": 1},
        "textvqa": {"an image that cannot be decoded": 1},
        "pope": {},
    }
    assert {n: own["questions"] for n, own in manifest.items()} == {
        "mme": 84, "gqa": 4, "ai2d": 2, "textvqa": 2, "pope": 24,
    }  # fmt: skip
    assert {own["commit"] for own in manifest.values()} == {COMMIT}
    assert manifest["mme"]["categories"] == dict.fromkeys(sorted(SUB_TASKS), 6)


def test_each_image_is_stored_once_as_it_came(prepared):
    images = Images(prepared[0] / "five" / IMAGES)
    found = read_suite(prepared[0] / "five", FIVE.asked_slice())
    names = {row["image"] for rows in found.values() for row in rows}
    assert len(images) == len(names) == 42 + 3 + 1 + 2 + 4  # AI2D's first is one of MME's
    (shared,) = {r["image"] for r in found["ai2d"]} & {r["image"] for r in found["mme"]}
    assert images.bytes(shared) == png(0)["bytes"] and shared.endswith(".png")


def test_a_data_set_that_is_not_as_configured_is_one_line(prepared):
    column, apart, no_images, gone, split, tasks = prepared[1]
    start = "error: vision_suites.column.benchmarks.mme: lmms-lab-encoder/MME at main, default"
    assert column.startswith(start)
    assert "split test: no column 'kind'; it has ['answer', 'category', 'image'" in column
    assert "testdev_balanced_images, split testdev: no column 'name'" in apart
    assert "vision_suites.no_images.benchmarks.pope: column 'question' holds no images" in no_images
    assert "lmms-lab-encoder/gone at main" in gone and "split train" in split
    assert "mme: its sub-tasks are OCR, artwork, " in tasks
    assert "perception and cognition name OCR, artwork, celebrity, code, color" in tasks
    folders = {path.name for path in prepared[0].iterdir()}
    assert folders == {"root", "home", "five", "ocr"}  # nothing half-written


def test_halves_share_no_image_and_hold_every_sub_task(prepared):
    found = read_suite(prepared[0] / "five", FIVE.asked_slice())
    for rows in found.values():
        halves = {half: [r for r in rows if r["half"] == half] for half in ("even", "odd")}
        images = [{row["image"] for row in own} for own in halves.values()]
        assert not images[0] & images[1] and abs(len(images[0]) - len(images[1])) <= 1
        categories = {row["category"] for row in rows}
        assert all({row["category"] for row in own} == categories for own in halves.values())
    assert Counter(Counter(row["id"] for row in found["mme"]).values()) == {2: 42}


@pytest.mark.parametrize(("limit", "questions"), [(28, 28), (29, 28), (57, 56), (1000, 84)])
def test_a_limit_takes_whole_pairs_of_every_sub_task(prepared, limit, questions):
    asked = FIVE.asked_slice() | {"limit": limit}
    rows = read_suite(prepared[0] / "five", asked)["mme"]
    assert len(rows) == questions
    assert set(Counter(row["id"] for row in rows).values()) == {2}
    assert {row["category"] for row in rows} == set(SUB_TASKS)
    if limit > 56:
        assert {row["half"] for row in rows} == {"even", "odd"}


def test_a_limit_takes_a_question_of_each_image_first():
    rows = ordered(
        [
            {"id": f"{image}{n}", "image": f"{image}", "category": None}
            for image in range(10)
            for n in range(5)
        ]
    )
    assert len({row["image"] for row in limited(rows, 10)}) == 10
    assert limited(rows, None) == rows


def test_a_half_pair_is_left_out(tmp_path):
    write_hub(tmp_path, data_sets())
    tables = data_sets()["MME/data/test-00000-of-00001.parquet"]
    folder = tmp_path / "local"
    folder.mkdir()
    table = Dataset.from_dict({key: values[:-1] for key, values in tables.items()})
    table.cast_column("image", Images_()).to_parquet(folder / "test.parquet")
    suite = one("mme", dataset=str(folder))
    manifest = prepare("local", suite, tmp_path / "suite", {})
    assert manifest["benchmarks"]["mme"]["left_out"] == {"not one of two questions on an image": 1}
    assert manifest["benchmarks"]["mme"]["commit"] is None
    broken = Dataset.from_dict(
        {key: values[:2] for key, values in tables.items()} | {"answer": ["?"] * 2}
    )
    broken.cast_column("image", Images_()).to_parquet(folder / "test.parquet")
    with pytest.raises(PipelineError) as error:
        prepare("local", suite, tmp_path / "other", {})
    assert str(error.value) == (
        "vision_suites.local.benchmarks.mme: no question is left; left out: "
        "2 (an answer that cannot be right)"
    )
    assert not (tmp_path / "other").exists()


def test_a_changed_or_damaged_file_is_one_line(tmp_path):
    prepare("digits", DIGITS.slice(), tmp_path / "suite", {})
    (tmp_path / "suite" / "gqa.parquet").write_bytes(b"PAR1")
    with pytest.raises(PipelineError, match=r"gqa.parquet: not the file that was prepared; delete"):
        read_suite(tmp_path / "suite", DIGITS.asked_slice())
    (tmp_path / "suite" / "manifest.json").unlink()
    with pytest.raises(PipelineError, match="not a whole suite of benchmarks"):
        read_suite(tmp_path / "suite", DIGITS.asked_slice())


# --- digits ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_digits(tmp_path_factory) -> dict[str, list[dict]]:
    folder = tmp_path_factory.mktemp("digits") / "suite"
    prepare("digits", DIGITS.slice(), folder, {})
    return read_suite(folder, DIGITS.asked_slice())


def test_digits_and_phrasings_are_held_out(of_digits):
    trained = {digit.name for digit in digits.images("train")}
    phrasings = {text for question in digits.QUESTIONS.values() for text in question.ask}
    for name, rows in of_digits.items():
        assert len(rows) == DIGITS.benchmarks[name].source.questions
        assert not {row["image"] for row in rows} & trained
        assert not {row["question"] for row in rows} & phrasings


def test_every_question_about_digits_fits_its_context(of_digits):
    """16 tokens of image, ": " of the template, in a context of 64 characters."""
    for name, rows in of_digits.items():
        own = DIGITS.benchmarks[name]
        longest = max(len(answer) for row in rows for answer in row["answers"])
        assert longest + 1 <= own.max_new_tokens  # with the end of text
        assert 16 + max(len(row["question"]) for row in rows) + 2 + own.max_new_tokens <= 64


def test_answers_about_digits_are_the_digits(of_digits):
    shown = {digit.name: digit.digit for digit in digits.images("test")}
    for row in of_digits["textvqa"]:
        assert (
            row["answers"]
            == [digits.NAMES[shown[row["image"]]]] * 6 + [str(shown[row["image"]])] * 4
        )
    for row in of_digits["pope"]:
        assert row["answers"] == ["yes" if shown[row["image"]] == 7 else "no"]
    assert {
        row["category"]: shown[row["image"]]
        for row in of_digits["pope"]
        if shown[row["image"]] == 1
    } == {"adversarial": 1}
    for name, count in (("mme", 50), ("pope", 20)):
        said = Counter((r["half"], r["answers"][0]) for r in of_digits[name])
        for half in ("even", "odd"):  # of pairs each half has as many; of single questions all
            assert said[half, "yes"] + said[half, "no"] == 2 * count
            assert name == "pope" or said[half, "yes"] == count
        assert said["even", "yes"] + said["odd", "yes"] == 2 * count
    assert Counter(row["category"] for row in of_digits["mme"]) == {"size": 100, "parity": 100}


# --- configuration --------------------------------------------------------------------------------


def test_columns_are_those_that_the_kind_reads():
    columns = {"question": "q", "answer": "a", "image": "i"}
    with pytest.raises(
        ValidationError, match="columns has question, answer, image; this kind read"
    ):
        one_off = PAPERS["vision_suites"]["llava_five"]
        gqa = one_off["benchmarks"]["gqa"]
        source = gqa["source"] | {"columns": columns}
        VisionSuite(**one_off | {"benchmarks": {"gqa": gqa | {"source": source}}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"limit": 55}, "limit is 55; mme needs 56"),
        ({"limit": 1}, "limit is 1; mme needs 56"),
        (
            {"benchmarks": {"vlm": PAPERS["vision_suites"]["llava_five"]["benchmarks"]["gqa"]}},
            "'vlm'",
        ),
    ],
)
def test_a_suite_that_has_no_score_is_a_fault(change, message):
    with pytest.raises(ValidationError, match=message):
        VisionSuite(**PAPERS["vision_suites"]["llava_five"] | change)


def test_each_data_set_is_asked_for_by_its_key():
    found = catalogue_of().sources_of("vision_suites", "llava_five")
    assert len(found) == 5
    mme = found["vision_suites.llava_five.benchmarks.mme.source"]
    assert (mme["kind"], mme["repository"]) == ("dataset", "lmms-lab-encoder/MME")
    assert mme["change"]["repository"] == "vision_suites.llava_five.benchmarks.mme.source.dataset"


def test_slices_hold_what_results_depend_on():
    suite, asked = FIVE.slice()["benchmarks"], FIVE.asked_slice()["benchmarks"]
    assert "suffix" in suite["gqa"] and "ocr" in suite["textvqa"] and "strip" in suite["mme"]
    assert asked["gqa"] == {"kind": "gqa", "max_new_tokens": 16}
    assert set(asked["mme"]) == {"kind", "max_new_tokens", "perception", "cognition"}
    assert not any("title" in own or "max_new_tokens" in own for own in suite.values())

"""The same questions and answers by lmms-eval's own code: prompts and scores are equal.

lmms-eval asks for some sixty packages. Of them its tasks need those that lm-eval has and loguru, so
that it lies in a folder of its own, without what it asks for. Where it departs from the benchmarks'
authors (`vision_scores`), so does it from ours, and that is tested, too.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from configuration import PAPERS

from overtrain.config.vision_suites import VisionSuite
from overtrain.measuring import vision_scores
from overtrain.measuring.vision_scores import CONTRACTIONS, READ, REPAIRED, credit
from overtrain.measuring.vision_suites import ASKED

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PACKAGES = ["lmms-eval==0.7.3", "loguru==0.7.3"]
SUITE = VisionSuite(**PAPERS["vision_suites"]["llava_five"]).slice()["benchmarks"]
SUB_TASKS = {"perception": ["existence", "OCR"], "cognition": ["code_reasoning"]}

# Prints what lmms-eval makes of questions (rows of its data sets) and answers. Its package of tasks
# imports models as it starts, so that its modules are found without it.
THEIRS = """
import importlib, json, sys, types
from importlib.util import find_spec
from pathlib import Path
import yaml

folder = Path(find_spec("lmms_eval").origin).parent / "tasks"
package = types.ModuleType("lmms_eval.tasks")
package.__path__ = [str(folder)]
sys.modules["lmms_eval.tasks"] = package
from lmms_eval.api.metrics import exact_match_hf_evaluate

class Loader(yaml.SafeLoader):
    pass

Loader.add_constructor("!function", lambda loader, node: node.value)
FILES = {"textvqa": "textvqa/_default_template_textvqa_yaml"}
found = {}
for name, (docs, answers) in json.loads(Path(sys.argv[1]).read_text()).items():
    own = importlib.import_module(f"lmms_eval.tasks.{name}.utils")
    path = folder / FILES.get(name, f"{name}/{name}.yaml")
    kwargs = yaml.load(path.read_text(), Loader)["lmms_eval_specific_kwargs"]["default"]
    ask = getattr(own, f"{name}_doc_to_text")
    prompts = [ask(doc, kwargs) for doc in docs]
    if name == "textvqa":
        prompts += [ask(doc, kwargs | {"ocr": True}) for doc in docs]
    if name in ("gqa", "ai2d"):
        known = [doc["answer"] for doc in docs]
        if name == "ai2d":
            known = [own.ai2d_doc_to_target(doc, "mcq") for doc in docs]
            answers = own.MultiChoiceRegexFilter().apply([[a] for a in answers], docs)
        how = {"ignore_case": True, "ignore_punctuation": True}
        scores = [
            float(exact_match_hf_evaluate([a], [k], **how)["exact_match"])
            for a, k in zip(answers, known)
        ]
    else:
        process = getattr(own, f"{name}_process_results")
        results = [process(doc, [a]) for doc, a in zip(docs, answers)]
        if name == "textvqa":
            scores = [r["exact_match"] for r in results]
        elif name == "mme":
            keys = ("mme_perception_score", "mme_cognition_score")
            scores = [
                own.mme_aggregate_results([r[key] for r in results if key in r]) for key in keys
            ]
        else:
            keys = ("accuracy", "precision", "recall", "f1_score", "yes_ratio")
            scores = [
                getattr(own, f"pope_aggregate_{key}")([r[f"pope_{key}"] for r in results])
                for key in keys
            ]
    found[name] = {"prompts": prompts, "scores": scores}
print("found:", json.dumps(found))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """lmms-eval, without what it asks for."""
    own = tmp_path_factory.mktemp("lmms-eval")
    command = [sys.executable, "-m", "uv", "pip", "install", "-q", "--no-deps", "--target", own]
    done = subprocess.run([*command, *PACKAGES], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no package index to get lmms-eval from: {done.stderr.strip()[-200:]}")
    return own


Asked = dict[str, tuple[list[dict], list[str]]]


def theirs(folder: Path, asked: Asked, tmp_path: Path) -> dict:
    path = tmp_path / "asked.json"
    path.write_text(json.dumps(asked))
    command = [sys.executable, "-c", THEIRS, str(path)]
    env = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.rpartition("found: ")[2])


def yes_no(count: int, said: list[str], draw: random.Random) -> list[tuple[dict, str]]:
    """Questions in pairs, a yes and a no, as the data sets of MME and POPE have them."""
    names = [name for group in SUB_TASKS.values() for name in group]
    return [
        (
            {
                "question_id": f"{place}",
                "category": names[place % len(names)],
                "question": f"Is it {place}? Please answer yes or no.",
                "answer": known,
            },
            draw.choice(said),
        )
        for place in range(count)
        for known in ("Yes", "No")
    ]


def made() -> Asked:
    draw = random.Random(0)
    short = ["Yes", "no", "NO", " yes", "Yes, it is.", "No.", "perhaps", "", "None", "I know"]
    asked: Asked = {"mme": tuple(map(list, zip(*yes_no(30, short, draw), strict=True)))}
    asked["pope"] = tuple(
        map(list, zip(*yes_no(40, ["yes", "Yes", "no", "No", " yes"], draw), strict=True))
    )
    words = ["bus", "Bus.", "left", "the bus", "t-shirt", "red bus", ""]
    asked["gqa"] = (
        [
            {"question": f"What is {n}?", "answer": draw.choice(words[:5]).lower().rstrip(".")}
            for n in range(60)
        ],
        [draw.choice(words) for _ in range(60)],
    )
    letters = ["A", "B.", "b", "(C)", "C. a leaf", "D.a root", "a leaf", "", "E"]
    asked["ai2d"] = (
        [
            {
                "question": "Which?",
                "options": ["a", "b c", "a leaf", "a root"],
                "answer": str(n % 4),
            }
            for n in range(60)
        ],
        [draw.choice(letters) for _ in range(60)],
    )
    contracted = [*REPAIRED, *CONTRACTIONS.split(), "its", "lets"]
    parts = ["the", "A", "two", "none", "1,000", "3.5", "St.", "n/a", "what?", "coca-cola", "- x"]
    parts += ["(b)", '"c"', "it's", "Joe's", "&", "10%", "a;b", "!", "No. 5", "50 %", ".5", "x."]
    texts = [" ".join(draw.choices(parts, k=draw.randint(1, 3))) for _ in range(250)] + contracted
    people = [[draw.choice([text, text.upper(), *draw.sample(texts, 6)]) for _ in range(10)]
              for text in texts]  # fmt: skip
    asked["textvqa"] = (
        [
            {"question": f"what does IT say at {n}?", "answers": own, "question_id": n}
            | {"ocr_tokens": ["Stop", "10%"]}
            for n, own in enumerate(people)
        ],
        texts,
    )
    return asked


def test_prompts_and_scores_are_lmms_evals(folder: Path, tmp_path: Path):
    asked = made()
    found = theirs(folder, asked, tmp_path)
    for name, (docs, answers) in asked.items():
        settings = SUITE[name]
        columns = {k: c for k, c in settings["source"]["columns"].items() if c in docs[0]}
        rows = [{key: doc[column] for key, column in columns.items()} for doc in docs]
        ours = [ASKED[name](row, settings) for row in rows]
        prompts = [prompt for prompt, _ in ours]
        if name == "textvqa":
            assert not settings["ocr"]
            prompts += [ASKED[name](row, settings | {"ocr": True})[0] for row in rows]
        assert prompts == found[name]["prompts"]
        questions = [
            {"id": doc.get("question_id"), "image": n // 2, "category": doc.get("category")}
            | {"answers": known, "half": ("even", "odd")[n // 2 // 3 % 2]}
            for n, (doc, (_, known)) in enumerate(zip(docs, ours, strict=True))
        ]
        answered = vision_scores.read(name, questions, answers)
        scores = vision_scores.score(answered, {"kind": name} | SUB_TASKS)
        keys = {
            "mme": ("perception", "cognition"),
            "pope": ("accuracy", "precision", "recall", "f1"),
        }
        own = [scores["all", metric].value for metric in keys.get(name, ())]
        own = own or answered.credits.tolist()
        assert own == pytest.approx(found[name]["scores"][: len(own)], abs=1e-12)
        assert 0.1 < scores["all", "score"].value < 0.9


def test_where_lmms_eval_departs_from_the_authors(folder: Path, tmp_path: Path):
    pair = [doc for doc, _ in yes_no(1, [""], random.Random(0))]
    options = {"question": "?", "options": ["x", "y"], "answer": "1"}
    asked: Asked = {
        "mme": (pair, ["y", "n"]),
        "gqa": ([{"question": "?", "answer": "t-shirt"}], ["tshirt"]),
        "ai2d": ([options], ["B: y"]),
        "pope": (pair * 2, ["Yes.", "no", "perhaps", "no"]),
    }
    found = {name: own["scores"] for name, own in theirs(folder, asked, tmp_path).items()}
    assert (found["mme"][0], READ["mme"]("y"), READ["mme"]("n")) == (200, None, None)
    assert (found["gqa"], credit("gqa", "tshirt", ["t-shirt"])) == ([1], 0)
    assert (found["ai2d"], credit("ai2d", READ["ai2d"]("B: y"), ["B"])) == ([0], 1)
    accuracy, precision, recall, _, yes_ratio = found["pope"]
    assert (accuracy, precision, recall, yes_ratio) == (0.5, 0, 0, 0.5)
    assert READ["pope"]("Yes.") == "yes"

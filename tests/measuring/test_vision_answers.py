"""A tiny LLaVA asked about digits: alone, in batches and by hand; what has no room; the script."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    OlmoConfig,
    OlmoForCausalLM,
)

from overtrain import PipelineError
from overtrain.config.vision_suites import VisionSuite
from overtrain.data import tokenizer
from overtrain.data.images import Images
from overtrain.measuring import vision, vision_questions, vision_suites
from overtrain.model.vision import load_llava, projector_weights, save_projector

CPU = torch.device("cpu")
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}: {% endif %}"
)
SOURCE = {"digits": "test", "questions": 24}
SUITE = VisionSuite(
    batch_size=7,
    benchmarks={
        "mme": {
            "title": "MME",
            "kind": "mme",
            "source": SOURCE,
            "max_new_tokens": 4,
            "perception": ["size"],
            "cognition": ["parity"],
        },
        "gqa": {"title": "GQA", "kind": "gqa", "source": SOURCE, "max_new_tokens": 6},
        "ai2d": {"title": "AI2D", "kind": "ai2d", "source": SOURCE, "max_new_tokens": 3},
        "textvqa": {
            "title": "TextVQA",
            "kind": "textvqa",
            "source": SOURCE,
            "max_new_tokens": 6,
            "ocr": False,
        },
        "pope": {"title": "POPE", "kind": "pope", "source": SOURCE, "max_new_tokens": 4},
    },
)


def save_encoder(folder: Path) -> Path:
    """Random, of 8 x 8 pixels and 16 patches."""
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=8,
        patch_size=2,
        initializer_factor=4.0,
    )
    CLIPVisionModel(config).save_pretrained(folder)
    size = {"height": 8, "width": 8}
    CLIPImageProcessorPil(size={"shortest_edge": 8}, crop_size=size).save_pretrained(folder)
    return folder


def save_run(folder: Path, encoder: Path, context: int) -> Path:
    """A random model of characters that looks at its image, with its projector."""
    config = OlmoConfig(
        vocab_size=96,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=context,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=0,
        initializer_range=0.7,
    )
    model = OlmoForCausalLM(config)
    model.lm_head.weight.data[0] *= 2.5
    model.save_pretrained(folder)
    tokenizer.characters().save(folder)
    llava = load_llava(folder, encoder, -2, None)
    weights = projector_weights(llava.state_dict())
    save_projector({name: 20 * weight for name, weight in weights.items()}, folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    torch.manual_seed(0)
    own = tmp_path_factory.mktemp("vision")
    encoder = save_encoder(own / "encoder")
    vision_suites.prepare("five", SUITE.slice(), own / "suite", {})
    return {
        "encoder": encoder,
        "run": save_run(own / "run", encoder, 64),
        "narrow": save_run(own / "narrow", encoder, 46),
        "suite": own / "suite",
    }


@pytest.fixture(scope="module")
def model(folders) -> vision.Model:
    return vision.load(folders["run"], folders["encoder"], TEMPLATE, -2, CPU)


@pytest.fixture(scope="module")
def images(folders) -> Images:
    return Images(folders["suite"] / vision_questions.IMAGES)


@pytest.fixture(scope="module")
def questions(folders) -> list[dict]:
    """Of all benchmarks, of many lengths."""
    return [
        q
        for own in vision_questions.read_suite(folders["suite"], SUITE.asked_slice()).values()
        for q in own
    ]


@torch.inference_mode()
def by_hand(model: vision.Model, question: dict, images: Images, new_tokens: int) -> str:
    """The greedy answer by one full pass for each token."""
    words = model.processor.tokenizer
    text = "<image>" * 16 + question["question"] + ": "
    ids = words(text, add_special_tokens=False).input_ids
    pixels = model.processor.image_processor(images[question["image"]], return_tensors="pt")
    start = len(ids)
    for _ in range(new_tokens):
        logits = model.model(input_ids=torch.tensor([ids]), **pixels).logits
        token = int(logits[0, -1].argmax())
        if token == 0:
            break
        ids.append(token)
    return words.decode(ids[start:]).strip()


def test_a_batch_answers_as_each_question_alone_and_as_by_hand(model, questions, images):
    together = vision.ask(model, questions, images, 6, batch_size=16)
    assert together == vision.ask(model, questions, images, 6, batch_size=7, threads=3)
    alone = [vision.ask(model, [q], images, 6, batch_size=1)[0] for q in questions[::5]]
    assert together[::5] == alone
    assert alone == [by_hand(model, q, images, 6) for q in questions[::5]]
    assert len({len(q["question"]) for q in questions}) > 5
    assert len(set(together)) > 30  # they differ by question and image
    assert {0, 6} < {len(answer) for answer in together}  # some end by themselves


def test_tokens_and_pixels_are_the_processors(model, questions, images):
    prompts = [model.prompt(q["question"]) for q in questions[::7]]
    shown = [images[q["image"]] for q in questions[::7]]
    own = {"padding": True, "padding_side": "left", "add_special_tokens": False}
    expected = model.processor(text=prompts, images=shown, return_tensors="pt", **own)
    found = model.tokens(prompts) | {"pixel_values": model.pixels(shown)}
    assert all(torch.equal(found[key], expected[key]) for key in found)
    assert ((found["input_ids"] == model.processor.image_token_id).sum(1) == 16).all()


def test_an_answer_is_of_its_image(model, questions, images):
    one = [q for q in questions if q["question"] == "Which digit is this?"]
    assert len({q["image"] for q in one}) == len(one) > 5
    assert len(set(vision.ask(model, one, images, 6, 8))) > 3


def test_special_tokens_are_no_part_of_an_answer(folders, questions, images):
    own = vision.load(folders["run"], folders["encoder"], TEMPLATE, -2, CPU)
    plain = vision.ask(own, questions[:16], images, 6, 8)
    letter, count = Counter("".join(plain)).most_common(1)[0]
    mark = AddedToken(letter, special=True, normalized=False)
    own.processor.tokenizer.add_tokens([mark], special_tokens=True)
    expected = [answer.replace(letter, "").strip() for answer in plain]
    assert vision.ask(own, questions[:16], images, 6, 8) == expected
    assert count > 3


def test_what_a_diverged_run_said_is_neither_right_nor_wrong(questions):
    lost = vision.answer_rows("gqa", questions[:2], [None, None], None)
    assert [(row["answer"], row["correct"]) for row in lost] == [(None, None)] * 2
    said = vision.answer_rows("gqa", questions[:2], ["odd", None], [1.0, 0.0])
    assert [(row["answer"], row["correct"]) for row in said] == [("odd", 1.0), (None, 0.0)]
    assert {row["benchmark"] for row in said} == {"gqa"} and said[0].keys() == set(
        vision.ANSWERS.names
    )


def test_a_question_without_room_for_an_answer_is_not_asked(folders, questions, images, capsys):
    narrow = vision.load(folders["narrow"], folders["encoder"], TEMPLATE, -2, CPU)
    fit = [len(q["question"]) + 2 + 16 + 6 <= 46 for q in questions]
    assert 0 < sum(fit) < len(fit)
    answers = vision.ask(narrow, questions, images, 6, 8)
    assert [answer is not None for answer in answers] == fit
    left = fit.count(False)
    assert f"{left} of {len(fit)} questions leave no room" in capsys.readouterr().out
    with pytest.raises(PipelineError) as error:
        vision.ask(narrow, questions, images, 40, 8)
    assert "no question has room in a context of 46 tokens" in str(error.value)


def test_a_damaged_image_is_one_line(model, questions, tmp_path):
    from overtrain.data import images as of_images

    name = questions[0]["image"]
    of_images.write(tmp_path / "images", [(name, b"no image")])
    with pytest.raises(PipelineError) as error:
        vision.ask(model, questions[:1], Images(tmp_path / "images"), 6, 8)
    assert name in str(error.value) and "\n" not in str(error.value)

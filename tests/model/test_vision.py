"""LLaVA around released models: their own weights in and out, and images where their tokens are."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sights import OF_IMAGE, PARTS, write_encoder, write_text_model
from transformers import AutoModelForCausalLM, CLIPVisionModel

from overtrain import PipelineError
from overtrain.model import vision

# kind, whether the head shares the embedding, rows of the embedding (the tokenizer has 96)
KINDS = [
    ("olmo", False, 96),
    ("olmo", True, 104),
    ("olmo2", False, 104),
    ("llama", False, 96),
    ("llama", True, 97),
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoders") / "tiny")


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: "-".join(map(str, kind)))
def base(request, tmp_path_factory) -> Path:
    return write_text_model(tmp_path_factory.mktemp("bases") / "base", *request.param)


@pytest.fixture(scope="module")
def olmo(tmp_path_factory) -> Path:
    return write_text_model(tmp_path_factory.mktemp("olmo") / "base")


def picture(seed: int, width: int = 8, height: int = 8) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def talk(image: Image.Image | None, asked: str = "what", answer: str = "that") -> list[dict]:
    parts = [] if image is None else [{"type": "image", "image": image}]
    return [
        {"role": "user", "content": [*parts, {"type": "text", "text": asked}]},
        {"role": "assistant", "content": [{"type": "text", "text": answer}]},
    ]


def inputs(processor, *talks: list[dict]) -> dict:
    return processor.apply_chat_template(
        list(talks), tokenize=True, return_dict=True, return_tensors="pt",
        processor_kwargs={"padding": True},
    )  # fmt: skip


def error_line(action: object) -> str:
    with pytest.raises(PipelineError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


# --- the weights ----------------------------------------------------------------------------------


def test_the_text_weights_come_in_and_out_bit_equal(base, encoder):
    text = AutoModelForCausalLM.from_pretrained(base)
    known = {name: p.detach() for name, p in text.named_parameters()}
    rows = len(text.get_input_embeddings().weight)
    model = vision.load_llava(base, encoder, -2, None)
    inside = dict(model.named_parameters())
    own = {name for name in inside if name.startswith(vision.OF_TEXT)}
    assert len(own) == len(known)
    for name, expected in known.items():
        found = inside[name.replace("model.", "model.language_model.", 1)]
        assert torch.equal(found[: len(expected)], expected)
        if "embed_tokens" not in name:
            assert found.shape == expected.shape
    assert len(model.get_input_embeddings().weight) == max(rows, 97)
    tower = load_file(encoder / "model.safetensors")
    found = model.model.vision_tower.state_dict()
    assert len(found) == len(tower)
    assert sorted(t.sum().item() for t in found.values()) == sorted(
        t.sum().item() for t in tower.values()
    )
    other = AutoModelForCausalLM.from_config(text.config)
    vision.load_text(other, model.state_dict())
    assert {name for name, _ in other.named_parameters()} == set(known)
    for name, parameter in other.named_parameters():
        assert torch.equal(parameter, known[name])


@torch.no_grad()
def test_on_text_it_is_the_text_model(base, encoder):
    tokens = torch.randint(0, 96, (3, 20), generator=torch.Generator().manual_seed(0))
    expected = AutoModelForCausalLM.from_pretrained(base).eval()(tokens).logits
    found = vision.load_llava(base, encoder, -2, None)(input_ids=tokens).logits
    assert torch.equal(found, expected)


@torch.no_grad()
def test_an_image_is_its_patches_through_the_projector_by_hand(base, encoder):
    """And what it changes are the logits from its place on, not those before."""
    model = vision.load_llava(base, encoder, -2, None, seed=3)
    processor = vision.load_processor(base, encoder, PARTS)
    batch = inputs(processor, talk(picture(0)))
    ids = batch["input_ids"][0]
    places = (ids == processor.image_token_id).nonzero().flatten()
    assert len(places) == vision.image_tokens(processor) == OF_IMAGE
    tower = CLIPVisionModel.from_pretrained(encoder).eval()
    features = tower(batch["pixel_values"], output_hidden_states=True).hidden_states[2][0, 1:]
    weights = model.model.multi_modal_projector.state_dict()
    hidden = features @ weights["linear_1.weight"].T + weights["linear_1.bias"]
    hidden = torch.nn.functional.gelu(hidden) @ weights["linear_2.weight"].T
    text = AutoModelForCausalLM.from_pretrained(base).eval()
    embedded = text.get_input_embeddings()(ids.clamp(max=95))
    embedded[places] = hidden + weights["linear_2.bias"]
    expected = text(inputs_embeds=embedded[None]).logits
    torch.testing.assert_close(model(**batch).logits, expected, rtol=0, atol=1e-4)
    # The same text before an image, another image: only what follows its start is other.
    start = 5
    before = torch.cat([torch.arange(start), ids])[None]
    logits = [
        model(input_ids=before, pixel_values=inputs(processor, talk(picture(s)))["pixel_values"])
        .logits[0]
        for s in (0, 1)
    ]  # fmt: skip
    assert torch.equal(logits[0][:start], logits[1][:start])
    assert (logits[0][start:] != logits[1][start:]).any(1).all()


def test_the_projector_is_drawn_as_torch_draws_linear_layers_and_from_its_seed(olmo, encoder):
    one, same, other = (
        vision.load_llava(olmo, encoder, -2, None, seed).model.multi_modal_projector.state_dict()
        for seed in (5, 5, 6)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)
    torch.manual_seed(5)
    assert torch.equal(one["linear_1.weight"], torch.nn.Linear(32, 24).weight)


def test_a_projector_is_read_as_it_was_written(olmo, encoder, tmp_path):
    drawn = vision.load_llava(olmo, encoder, -2, None, seed=7)
    weights = vision.projector_weights(drawn.state_dict())
    vision.save_projector(weights, tmp_path)
    found = vision.load_llava(olmo, encoder, -2, tmp_path).model.multi_modal_projector
    assert all(torch.equal(t, weights[name]) for name, t in found.state_dict().items())


# --- the processor --------------------------------------------------------------------------------


def test_an_image_is_padded_to_a_square_in_the_mean_colour(olmo, encoder):
    processor = vision.load_processor(olmo, encoder, PARTS)
    wide = inputs(processor, talk(picture(0, 24, 8)))["pixel_values"][0]
    assert wide.shape == (3, 8, 8)
    assert wide[:, 0].abs().max() < 0.02 and wide[:, -1].abs().max() < 0.02  # normalised: near 0
    assert wide[:, 4].abs().min() > 0
    assert processor.decode(inputs(processor, talk(picture(0)))["input_ids"][0]) == (
        vision.IMAGE * OF_IMAGE + "what: that\n"
    )


def test_text_without_an_image_has_no_image_tokens(olmo, encoder):
    processor = vision.load_processor(olmo, encoder, PARTS)
    batch = inputs(processor, talk(None))
    assert "pixel_values" not in batch
    assert processor.decode(batch["input_ids"][0]) == "what: that\n"


# --- what can be wrong ----------------------------------------------------------------------------


def test_no_row_for_the_image_token_in_a_head_that_shares_them_is_one_clear_line(encoder, tmp_path):
    base = write_text_model(tmp_path / "base", "olmo", tied=True, rows=96)
    line = error_line(lambda: vision.load_llava(base, encoder, -2, None))
    assert str(base) in line and "no spare row for the image token" in line


@pytest.mark.parametrize("layer", [4, -5])
def test_a_layer_that_is_not_there_is_one_clear_line(olmo, encoder, layer):
    line = error_line(lambda: vision.load_llava(olmo, encoder, layer, None))
    assert line == f"{encoder}: it has 4 hidden states; layer {layer} is none"


def test_an_encoder_of_another_size_than_its_images_is_one_clear_line(olmo, encoder, tmp_path):
    other = shutil.copytree(encoder, tmp_path / "other")
    path = other / "preprocessor_config.json"
    known = json.loads(path.read_text())
    path.write_text(json.dumps(known | {"crop_size": {"height": 16, "width": 16}}))
    line = error_line(lambda: vision.load_processor(olmo, other, PARTS))
    assert line == f"{other}: its image processor makes images of 16 pixels; its encoder reads 8"
    path.write_text(json.dumps(known | {"do_resize": False, "do_center_crop": False}))
    line = error_line(lambda: vision.load_processor(olmo, other, PARTS))
    assert line == (
        f"{other}: its image processor makes arrays of (3, 16, 16); its encoder reads (3, 8, 8)"
    )
    path.write_text(json.dumps(known | {"image_mean": [0.5]}))
    line = error_line(lambda: vision.load_processor(olmo, other, PARTS))
    assert line.startswith(f"{other}: no readable image processor (")
    path.unlink()
    line = error_line(lambda: vision.load_processor(olmo, other, PARTS))
    assert line.startswith(f"{other}: no readable image processor (")


def test_what_is_no_encoder_is_one_clear_line(olmo, encoder, tmp_path):
    for wrong in (olmo, tmp_path):
        line = error_line(lambda wrong=wrong: vision.load_llava(olmo, wrong, -2, None))
        assert line.startswith(f"{wrong}: ")
    other = shutil.copytree(encoder, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    dropped = sorted(weights)[0]
    save_file({k: t for k, t in weights.items() if k != dropped}, other / "model.safetensors")
    line = error_line(lambda: vision.load_llava(olmo, other, -2, None))
    assert line.startswith(f"{other}: missing keys: ")


def test_a_projector_of_another_width_is_one_clear_line(olmo, encoder, tmp_path):
    line = error_line(lambda: vision.load_llava(olmo, encoder, -2, tmp_path))
    assert line.startswith(f"{tmp_path / vision.PROJECTOR}: not a readable projector")
    wide = write_encoder(tmp_path / "wide", hidden_size=48)
    drawn = vision.load_llava(olmo, wide, -2, None)
    vision.save_projector(vision.projector_weights(drawn.state_dict()), tmp_path)
    line = error_line(lambda: vision.load_llava(olmo, encoder, -2, tmp_path))
    assert "'linear_1.weight': (24, 48)" in line and "'linear_1.weight': (24, 32)" in line

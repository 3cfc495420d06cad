"""The encoder of digits: what it learns, the same bytes each time, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPVisionModel, LlavaImageProcessorPil

from overtrain import PipelineError
from overtrain.data import digits
from overtrain.data.images import decoded
from overtrain.model import encoder

SETTINGS = {
    "kind": "digits",
    "image_size": 8,
    "patch_size": 2,
    "hidden_size": 32,
    "layers": 3,
    "heads": 2,
    "mlp_size": 64,
    "epochs": 24,
    "learning_rate": 3e-3,
    "batch_size": 32,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The demo's encoder, at its own settings."""
    folder = tmp_path_factory.mktemp("encoders") / "digits"
    encoder.train("digits", SETTINGS, folder)
    return folder


def test_it_names_digits_that_it_has_never_seen(trained: Path):
    manifest = json.loads((trained / "manifest.json").read_text())
    assert manifest["accuracy"] >= 0.95
    assert set(manifest["files"]) == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }


def test_its_features_tell_digits_apart_and_are_16_tokens(trained: Path):
    """A linear probe, by least squares, of the patches that LLaVA takes: the last layer but one."""
    model = encoder.load_encoder(trained)
    assert isinstance(model, CLIPVisionModel) and not model.training
    features = {}
    for split in ("train", "test"):
        images, labels = encoder.examples(split, trained)
        with torch.no_grad():
            states = model(pixel_values=images, output_hidden_states=True).hidden_states[-2]
        assert states.shape[1:] == (1 + 16, 32)
        features[split] = states[:, 1:].flatten(1).numpy(), labels.numpy()
    inputs, labels = features["train"]
    ridge = inputs.T @ inputs + 10 * np.eye(inputs.shape[1])
    weights = np.linalg.solve(ridge, inputs.T @ np.eye(10)[labels])
    inputs, labels = features["test"]
    assert ((inputs @ weights).argmax(1) == labels).mean() > 0.93


def test_its_image_processor_makes_what_it_takes(trained: Path):
    processor = LlavaImageProcessorPil.from_pretrained(trained, do_pad=True)
    image = digits.images("test")[0]
    pixels = processor([decoded(image.png)], return_tensors="pt").pixel_values
    grey = np.asarray(decoded(image.png))[..., 0] / 127.5 - 1
    assert pixels.shape == (1, 3, 8, 8)
    np.testing.assert_allclose(pixels[0, 1].numpy(), grey, atol=1e-6)


def test_equal_bytes_twice_and_others_by_name_and_settings(tmp_path: Path):
    short = SETTINGS | {"epochs": 1}
    ways = [("digits", short), ("digits", short), ("d", short), ("digits", short | {"heads": 4})]
    hashes = []
    for i, (name, settings) in enumerate(ways):
        torch.manual_seed(i)
        hashes.append(encoder.train(name, settings, tmp_path / str(i))["sha256"])
    assert hashes[0] == hashes[1] and len(set(hashes)) == 3
    files = [(tmp_path / i / "model.safetensors").read_bytes() for i in "01"]
    assert files[0] == files[1]


def test_no_held_out_image_is_learned_from(tmp_path: Path, monkeypatch):
    asked = []
    own = digits.images

    def images(split: str) -> list[digits.Digit]:
        asked.append((split, trained_on))
        return own(split)

    trained_on = False

    def train_on(*_: object) -> None:
        nonlocal trained_on
        trained_on = True

    monkeypatch.setattr(digits, "images", images)
    monkeypatch.setattr(encoder, "train_on", train_on)
    encoder.train("digits", SETTINGS, tmp_path / "encoder")
    assert asked == [("train", False), ("test", True)]


def test_what_is_no_encoder_is_one_line(trained: Path, tmp_path: Path):
    with pytest.raises(PipelineError, match="no vision encoder"):
        encoder.load_encoder(tmp_path)
    folder = shutil.copytree(trained, tmp_path / "encoder")
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    processor["crop_size"] = {"height": 16, "width": 16}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    line = r"encoder: a vision encoder of the wrong size: image_size of config\.json is 8, and"
    with pytest.raises(PipelineError, match=line):
        encoder.load_encoder(folder)

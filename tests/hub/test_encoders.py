"""Encoders from a local hub: the vision half of a CLIP model, whole, and of the size it says."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from local_hub import run_on_hub, serve
from safetensors.torch import load_file
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, CLIPVisionModel

from overtrain import PipelineError
from overtrain.config.encoders import HubEncoder
from overtrain.hub import sources
from overtrain.hub.encoders import download_encoder, encoder_files
from overtrain.model.encoder import load_encoder

PICKLED, SAFE = "a" * 40, "b" * 40
NAME = "openai/clip-tiny"
PROCESSOR = {
    "crop_size": 8,  # of OpenAI's own file: numbers, and the name of a class of old
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48, 0.46, 0.41],
    "image_std": [0.27, 0.26, 0.28],
    "resample": 3,
    "size": 8,
}


def clip() -> CLIPModel:
    torch.manual_seed(0)
    small = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2}
    small |= {"num_attention_heads": 2}
    text = CLIPTextConfig(vocab_size=20, max_position_embeddings=6, **small)
    vision = CLIPVisionConfig(image_size=8, patch_size=4, **small)
    config = CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict())
    return CLIPModel(config).eval()


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A repository at two commits: pickled weights with a text half, as OpenAI's; safetensors."""
    root = tmp_path_factory.mktemp("root")
    model = clip()
    for commit in (PICKLED, SAFE):
        folder = root / "models" / NAME / commit
        model.save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
        (folder / "tf_model.h5").write_text("not to be taken")
    folder = root / "models" / NAME / PICKLED
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    # Buffers that old transformers saved are in OpenAI's file.
    for part, count in (("text", 6), ("vision", 5)):
        name = f"{part}_model.embeddings.position_ids"
        weights[name] = torch.arange(count)[None]
    torch.save(weights, folder / "pytorch_model.bin")
    return root


CODE = """
import sys
from pathlib import Path
from overtrain import PipelineError
from overtrain.hub.encoders import download_encoder

name, folder, *revisions = sys.argv[1:]
for revision in revisions:
    try:
        download_encoder(name, revision, Path(folder, revision), Path(folder, "work"))
    except PipelineError as error:
        print(error)
"""


@pytest.mark.parametrize("commit", [PICKLED, SAFE], ids=["pickled", "safetensors"])
def test_only_the_vision_half_is_kept_and_gives_what_it_gave(
    commit: str, source: Path, tmp_path: Path
):
    with serve(source, {"main": commit}) as hub:
        done = run_on_hub(hub, tmp_path / "home", CODE, NAME, str(tmp_path), "main", "nope")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{NAME} at nope: no such revision\n"
    folder = tmp_path / "main"
    names = {"config.json", "manifest.json", "model.safetensors", "preprocessor_config.json"}
    assert {path.name for path in folder.iterdir()} == names
    assert not any("text" in key for key in load_file(folder / "model.safetensors"))
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    encoder = load_encoder(folder)
    assert isinstance(encoder, CLIPVisionModel) and encoder.dtype == torch.float32
    with torch.no_grad():
        ours = encoder(pixel_values=images, output_hidden_states=True)
        theirs = clip().vision_model(pixel_values=images, output_hidden_states=True)
    assert torch.equal(ours.pooler_output, theirs.pooler_output)
    assert torch.equal(ours.hidden_states[-2], theirs.hidden_states[-2])
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["commit"], manifest["revision"]) == (commit, "main")
    taken = {Path(r.split()[1]).name for r in hub.requests if "GET" in r and "/resolve/" in r}
    assert taken == set(manifest["converted_from"]) and len(taken) == 3
    assert not (tmp_path / "work").exists() and not (tmp_path / "nope").exists()


def test_check_sources_counts_what_is_taken(source: Path, tmp_path: Path):
    entry = HubEncoder(
        kind="hub",
        title="CLIP",
        repository=NAME,
        revision="main",
        image_tokens=4,
        flops=1e3,
        download_mb=1,
        mb=1,
    )
    (asked,) = entry.asked()
    change = {"repository": "encoders.clip.repository", "revision": "encoders.clip.revision"}
    own = {"kind": asked.kind, "repository": asked.repository, "revision": asked.revision}
    wanted = {"encoders.clip": own | {"files": asked.files, "change": change}}
    code = (
        "import json, sys; from pathlib import Path; from overtrain.hub import sources; "
        "print(json.dumps(sources.check(json.loads(sys.argv[1]), Path(sys.argv[2]))))"
    )
    arguments = json.dumps(wanted), str(tmp_path / "pins.json")
    with serve(source, {"main": PICKLED}) as hub:
        done = run_on_hub(hub, tmp_path / "home", code, *arguments)
    answer = json.loads(done.stdout)["encoders.clip"]
    folder = source / "models" / NAME / PICKLED
    names = encoder_files([path.name for path in folder.iterdir()], "it")
    assert answer["bytes"] == sum((folder / name).stat().st_size for name in names)
    assert answer["problem"] is None and answer["weights"] is None
    assert sources.pin_of(answer) == f"models/{NAME}@main"


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def without_a_layer(folder: Path) -> None:
    weights = torch.load(folder / "pytorch_model.bin")
    weights.pop("vision_model.encoder.layers.1.mlp.fc1.weight")
    torch.save(weights, folder / "pytorch_model.bin")


Change = Callable[[Path], object]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda folder: edit(folder / "preprocessor_config.json", crop_size=16),
            "a vision encoder of the wrong size: image_size of config.json is 8, and "
            "preprocessor_config.json makes images of 16",
        ),
        (
            lambda folder: edit(
                folder / "preprocessor_config.json", crop_size={"height": 8, "width": 6}
            ),
            "preprocessor_config.json makes images of 6 x 8",
        ),
        (
            lambda folder: edit(folder / "config.json", vision_config={"image_size": 8}),
            "image_size of config.json is 8, no multiple of patch_size, None",
        ),
        (
            lambda folder: edit(folder / "config.json", model_type="siglip"),
            "model_type of config.json is 'siglip'; a vision encoder must be one of clip",
        ),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: not readable"),
        (without_a_layer, "missing keys: encoder.layers.1.mlp.fc1.weight"),
        (
            lambda folder: (folder / "pytorch_model.bin").write_bytes(b"PK"),
            "not a readable CLIP model",
        ),
        (
            lambda folder: (folder / "pytorch_model.bin").unlink(),
            "an encoder needs config.json, preprocessor_config.json, and model.safetensors or",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(
    change: Change, line: str, source: Path, tmp_path: Path
):
    folder = shutil.copytree(source / "models" / NAME / PICKLED, tmp_path / "repository/main")
    change(folder)
    with pytest.raises(PipelineError) as error:
        download_encoder(str(folder.parent), "main", tmp_path / "encoder", tmp_path / "work")
    assert line in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "encoder").exists()

"""The vision half of a CLIP model of the hub, as an encoder: a directory with a manifest.

`config.json`, `model.safetensors` and `preprocessor_config.json` are what transformers'
`CLIPVisionModel` and image processors read. Of a model with a text half (OpenAI's) that half is
left out; pickled weights (OpenAI's again) come out as safetensors.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from overtrain import PipelineError
from overtrain.config.hub import is_local
from overtrain.hub import client, download
from overtrain.records.provenance import sha256, whole_folder, write_json

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
MODEL_TYPES = ("clip", "clip_vision_model")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that there is


def encoder_files(names: Iterable[str], what: str) -> list[str]:
    """Those files of a revision that are an encoder; PipelineError if one is not there."""
    names = set(names)
    weights = next((name for name in WEIGHTS if name in names), None)
    if weights is None or not {CONFIG, PROCESSOR} <= names:
        raise PipelineError(
            f"{what}: an encoder needs {CONFIG}, {PROCESSOR}, and {' or '.join(WEIGHTS)}; it has "
            f"{', '.join(sorted(names))}"
        )
    return [CONFIG, PROCESSOR, weights]


def download_encoder(
    repository: str, revision: str, folder: Path, work: Path, pinned: str | None = None
) -> dict:
    """Fill `folder` with the encoder of a repository's revision. Returns the manifest.

    The arguments are those of `download.download_checkpoint`. PipelineError if the revision does
    not exist, holds no CLIP model, or images and model do not fit each other.
    """
    what = f"{repository} at {revision}"
    with client.one_line(what):
        source = (
            download.of_folder(repository, revision)
            if is_local(repository)
            else download.of_hub(repository, pinned or revision, what)
        )
        names = encoder_files(source.sizes, what)
        place = work / (source.commit or "copied")
        place.mkdir(parents=True, exist_ok=True)
        download.check_space(place, source.sizes, names, what)
        digests = {name: source.fetch(name, place / name) for name in names[:2]}
        check_encoder(place, what)
        digests[names[2]] = source.fetch(names[2], place / names[2])
    with whole_folder(folder) as temporary:
        vision_half(place, what).save_pretrained(temporary)
        shutil.copyfile(place / PROCESSOR, temporary / PROCESSOR)
        manifest = write_manifest(
            temporary,
            commit=source.commit,
            converted_from=digests,
            repository=repository,
            revision=revision,
        )
    shutil.rmtree(work, ignore_errors=True)
    return manifest


def vision_half(folder: Path, what: str):
    """transformers' `CLIPVisionModel` of a CLIP model's folder, float32, checked to be whole."""
    import torch
    from transformers import CLIPVisionModel

    pickled = not (folder / WEIGHTS[0]).exists()
    try:
        model, report = CLIPVisionModel.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
            use_safetensors=not pickled,
            weights_only=True,
        )
    except Exception as error:  # transformers, safetensors and pickle raise what they like
        reason = " ".join(str(error).split())
        raise PipelineError(f"{what}: not a readable CLIP model ({reason[:200]})") from error
    for fault in ("missing_keys", "mismatched_keys"):
        if report[fault]:  # transformers would have drawn them at random
            keys = sorted(map(str, report[fault]))
            raise PipelineError(f"{what}: {fault.replace('_', ' ')}: {', '.join(keys[:3])}")
    return model.eval()


def check_encoder(folder: Path, what: str) -> None:
    """PipelineError unless it is CLIP's and the images it is given have the size that it takes."""
    read = {}
    for name in (CONFIG, PROCESSOR):
        try:
            read[name] = json.loads((folder / name).read_text())
            read[name].keys()
        except (OSError, ValueError, AttributeError) as error:
            raise PipelineError(f"{what}, {name}: not readable as JSON ({error})") from error
    config = read[CONFIG]
    if (found := config.get("model_type")) not in MODEL_TYPES:
        raise PipelineError(
            f"{what}: model_type of {CONFIG} is {found!r}; a vision encoder must be one of "
            f"{', '.join(MODEL_TYPES)}"
        )
    vision = config.get("vision_config", config)
    size, patch = (vision.get(key) for key in ("image_size", "patch_size"))
    if not size or not patch or size % patch:
        raise PipelineError(
            f"{what}: image_size of {CONFIG} is {size}, no multiple of patch_size, {patch}"
        )
    given = sides(read[PROCESSOR])
    if given != {size}:
        raise PipelineError(
            f"{what}: a vision encoder of the wrong size: image_size of {CONFIG} is {size}, and "
            f"{PROCESSOR} makes images of {' x '.join(map(str, sorted(given))) or 'no size'}"
        )


def sides(processor: dict) -> set[int]:
    """The sides, in pixels, of the images that an image processor makes; equal for a square."""
    cropped = processor.get("do_center_crop", True) and processor.get("crop_size")
    size = cropped or processor.get("size") or {}
    return set(size.values()) if isinstance(size, dict) else {size}


def write_manifest(folder: Path, **more: object) -> dict:
    """Write down the hash of each file of an encoder, and one of all."""
    hashes = {path.name: sha256(path) for path in sorted(folder.iterdir())}
    whole = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
    manifest = more | {"files": hashes, "sha256": whole}
    write_json(folder / download.MANIFEST, manifest)
    return manifest

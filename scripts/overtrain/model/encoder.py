"""Vision encoders: loading any, and training a small one on scikit-learn's digits.

The small one is a CLIP vision model in all but its training: a linear classifier learns to name the
digits, and is thrown away. It reads the pooled output, and each patch as the last layer but one
leaves it: a projector reads those, and in a large encoder they have seen the whole image. No image
that a task or a suite holds out is among those that it learns from.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from overtrain import PipelineError
from overtrain.data import digits
from overtrain.data.images import decoded
from overtrain.hub.encoders import CONFIG, PROCESSOR, check_encoder, vision_half, write_manifest
from overtrain.records.provenance import seed_of, whole_folder, write_json

NOISE = 0.3  # standard deviation, of pixels from -1 to 1: held-out digits are named more surely


def load_encoder(folder: Path) -> nn.Module:
    """transformers' `CLIPVisionModel` of an encoder's folder: float32, on the CPU, in eval mode.

    PipelineError if it is not whole, is not CLIP's, or takes images of another size than those that
    its image processor makes.
    """
    if not (folder / CONFIG).exists():
        raise PipelineError(f"{folder}: no vision encoder (it has no {CONFIG})")
    check_encoder(folder, str(folder))
    return vision_half(folder, str(folder))


# --- the encoder of digits ------------------------------------------------------------------------


def train(name: str, settings: dict, folder: Path) -> dict:
    """Fill `folder` with an encoder trained on the digits' training images. Returns its manifest.

    settings: of `config.encoders.DigitsEncoder`. The seed comes from the name and the settings: on
    one machine, and with one number of threads, the bytes are the same each time. The manifest has
    the `accuracy` on the test images.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(seed_of("encoder", name, repr(sorted(settings.items()))))
    config = CLIPVisionConfig(
        hidden_size=settings["hidden_size"],
        intermediate_size=settings["mlp_size"],
        num_hidden_layers=settings["layers"],
        num_attention_heads=settings["heads"],
        image_size=settings["image_size"],
        patch_size=settings["patch_size"],
        projection_dim=settings["hidden_size"],
    )
    model = CLIPVisionModel(config)
    classifier = nn.Linear(settings["hidden_size"], len(digits.NAMES))
    with whole_folder(folder) as temporary:
        write_json(temporary / PROCESSOR, processor_config(settings["image_size"]))
        train_on(*examples("train", temporary), model, classifier, settings)
        images, labels = examples("test", temporary)
        model.eval()
        with torch.no_grad():
            right = named(model, classifier, images)[:, 0].argmax(-1) == labels
        model.save_pretrained(temporary)
        manifest = write_manifest(temporary, accuracy=right.sum().item() / len(labels))
    return manifest


def train_on(
    images: Tensor, labels: Tensor, model: nn.Module, classifier: nn.Module, settings: dict
) -> None:
    """AdamW with one cosine over all steps, on batches of a drawn order, with noise on the pixels.

    images: (images, 3, size, size) from -1 to 1; labels: (images,) of 0 to 9.
    """
    size = settings["batch_size"]
    steps = settings["epochs"] * -(-len(labels) // size)
    weights = [*model.parameters(), *classifier.parameters()]
    optimizer = torch.optim.AdamW(weights, settings["learning_rate"], fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings["learning_rate"], total_steps=steps, pct_start=0.1
    )
    model.train()
    for _ in range(settings["epochs"]):
        for batch in torch.randperm(len(labels)).split(size):
            seen = images[batch] + NOISE * torch.randn_like(images[batch])
            scores = named(model, classifier, seen)
            each = labels[batch].unsqueeze(1).expand(scores.shape[:2])
            loss = F.cross_entropy(scores.flatten(0, 1), each.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def named(model: nn.Module, classifier: nn.Module, images: Tensor) -> Tensor:
    """Scores of digits (images, 1 + patches, 10): by the pooled output, and by each patch."""
    found = model(pixel_values=images, output_hidden_states=True)
    pooled, patches = found.pooler_output.unsqueeze(1), found.hidden_states[-2][:, 1:]
    return classifier(torch.cat([pooled, patches], 1))


def processor_config(size: int) -> dict:
    """Of an image processor that makes squares of `size` pixels, from -1 to 1."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "do_convert_rgb": True,
    }


def examples(split: str, folder: Path) -> tuple[Tensor, Tensor]:
    """The digits of a split as the image processor in `folder` makes them, and what they are."""
    from transformers import LlavaImageProcessorPil

    processor = LlavaImageProcessorPil.from_pretrained(folder)
    found = digits.images(split)
    images = processor([decoded(d.png) for d in found], return_tensors="pt").pixel_values
    return images, torch.tensor([d.digit for d in found])

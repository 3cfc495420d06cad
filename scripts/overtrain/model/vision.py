"""A released language model that sees: LLaVA-1.5 around a checkpoint's own text weights.

Liu et al. 2024 ("Improved Baselines with Visual Instruction Tuning"): a CLIP encoder's patches, as
a layer before its last sees them, go through a projector of two linear layers with a GELU between
them, and stand where the text has image tokens. An image is padded to a square in the mean colour.

The embedding of the image token is never read, and no checkpoint that leaves the pipeline has it.
Where the tokenizer's next id is one of the model's spare rows, that row stands for it; where there
is none, the *input* embedding alone has a row more, so that the head's softmax stays as it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from overtrain import PipelineError
from overtrain.model import chat, released

if TYPE_CHECKING:
    from transformers import (
        CLIPVisionModel,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedModel,
    )
    from transformers import PreTrainedTokenizerBase as Tokenizer

IMAGE = "<image>"  # the token
PROJECTOR = "projector.safetensors"  # in a folder: the projector's weights by name
OF_PROJECTOR = "model.multi_modal_projector."  # starts the names of LLaVA's weights
OF_TEXT = ("model.language_model.", "lm_head.")


# --- what the model reads -------------------------------------------------------------------------


def load_processor(checkpoint: Path, encoder: Path, template: str) -> LlavaProcessor:
    """Text and images to what LLaVA reads: the checkpoint's tokenizer with one token more.

    template: the conversation's, of contents that are lists of parts; it writes IMAGE for an image,
    which becomes as many image tokens as the encoder has patches. PipelineError where the encoder's
    images are not of the size that it is made for.
    """
    from PIL import Image
    from transformers import LlavaImageProcessorPil, LlavaProcessor

    tokenizer = chat.load_tokenizer(checkpoint, template)
    add_image_token(tokenizer)
    config = encoder_config(encoder)
    try:
        images = LlavaImageProcessorPil.from_pretrained(encoder, do_pad=True, local_files_only=True)
        blank = Image.new("RGB", (2 * config.image_size, config.image_size + 1))
        made = tuple(images(blank)["pixel_values"][0].shape)
    except Exception as error:  # transformers raises what it likes
        reason = " ".join(str(error).split())
        raise PipelineError(f"{encoder}: no readable image processor ({reason[:200]})") from error
    size, patch = config.image_size, config.patch_size
    crop, edge = images.crop_size, images.size
    found = {crop.height, crop.width, edge.shortest_edge or edge.height}
    if found != {size}:
        raise PipelineError(
            f"{encoder}: its image processor makes images of {max(found)} pixels; its encoder "
            f"reads {size}"
        )
    if made != (3, size, size):
        raise PipelineError(
            f"{encoder}: its image processor makes arrays of {made}; its encoder reads "
            f"{(3, size, size)}"
        )
    if size % patch:
        raise PipelineError(f"{encoder}: an image of {size} pixels is not whole patches of {patch}")
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",  # all but the class token
        num_additional_image_tokens=1,  # the class token
        chat_template=template,
        image_token=IMAGE,
    )


def add_image_token(tokenizer: Tokenizer) -> int:
    """Give the tokenizer the image token; its id."""
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken(IMAGE, special=True, normalized=False)], special_tokens=True)
    return tokenizer.convert_tokens_to_ids(IMAGE)


def image_tokens(processor: LlavaProcessor) -> int:
    """Tokens of an image: one for each patch."""
    return (processor.image_processor.crop_size.height // processor.patch_size) ** 2


def encoder_config(encoder: Path):
    """The configuration of the vision part of an encoder's directory."""
    from transformers import CLIPVisionConfig

    try:
        return CLIPVisionConfig.from_pretrained(encoder, local_files_only=True)
    except Exception as error:  # transformers raises what it likes
        reason = " ".join(str(error).split())
        raise PipelineError(f"{encoder}: not a readable encoder ({reason[:200]})") from error


# --- the model ------------------------------------------------------------------------------------


def load_llava(
    checkpoint: Path, encoder: Path, layer: int, projector: Path | None, seed: int = 0
) -> LlavaForConditionalGeneration:
    """LLaVA of a checkpoint's text model, in float32 on the CPU, checked to be whole.

    layer: of the encoder's hidden states; projector: the folder of one (PROJECTOR), or None for
    one that is drawn from `seed`.
    """
    text = released.load_model(checkpoint)
    return around(text, released.load_tokenizer(checkpoint), encoder, layer, projector, seed)


def around(
    text: PreTrainedModel,
    tokenizer: Tokenizer,
    encoder: Path,
    layer: int,
    projector: Path | None,
    seed: int = 0,
) -> LlavaForConditionalGeneration:
    """LLaVA that has the very modules of a text model; `tokenizer`: the text model's own."""
    from transformers import CLIPVisionModel, LlavaConfig, LlavaForConditionalGeneration

    tower = released.whole(CLIPVisionModel, encoder)
    check_layer(tower, layer, encoder)
    with torch.device("meta"):  # nothing of it stays
        model = LlavaForConditionalGeneration(
            LlavaConfig(
                vision_config=tower.config,
                text_config=text.config,
                image_token_index=add_image_token(tokenizer),
                image_seq_length=(tower.config.image_size // tower.config.patch_size) ** 2,
                vision_feature_layer=layer,
                vision_feature_select_strategy="default",
            )
        )
    model.model.vision_tower = tower
    model.model.language_model, model.lm_head = text.base_model, text.lm_head
    model.model.multi_modal_projector = draw_projector(model.config, seed)
    make_room(model, model.config.image_token_id, text.name_or_path)
    if projector:
        load_projector(model, projector)
    return model.eval()


def check_layer(tower: CLIPVisionModel, layer: int, encoder: Path) -> None:
    states = tower.config.num_hidden_layers + 1  # the embeddings are the first
    if not -states <= layer < states:
        raise PipelineError(f"{encoder}: it has {states} hidden states; layer {layer} is none")


def draw_projector(config: object, seed: int) -> nn.Module:
    """A new projector, by torch's own draw for linear layers, which LLaVA's is."""
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlavaMultiModalProjector(config)


def make_room(model: LlavaForConditionalGeneration, token: int, name: str) -> None:
    """Give the input embedding rows up to that of the image token, zeros that are never read.

    PipelineError where the head shares the embedding's weights and would have them too.
    """
    embedding = model.get_input_embeddings()
    weight = embedding.weight.detach()
    if (more := token + 1 - len(weight)) <= 0:
        return
    if model.lm_head.weight is embedding.weight:
        raise PipelineError(
            f"{name}: its vocabulary has no spare row for the image token, and its head shares the "
            "embedding's weights"
        )
    longer = torch.cat([weight, weight.new_zeros(more, weight.shape[1])])
    model.set_input_embeddings(
        nn.Embedding.from_pretrained(longer, freeze=False, padding_idx=embedding.padding_idx)
    )


def load_projector(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """Read a projector. PipelineError if it is not one for this encoder and text model."""
    projector, path = model.model.multi_modal_projector, folder / PROJECTOR
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise PipelineError(f"{path}: not a readable projector ({error})") from error
    wanted = {name: tuple(t.shape) for name, t in projector.state_dict().items()}
    if (shapes := {name: tuple(t.shape) for name, t in found.items()}) != wanted:
        raise PipelineError(
            f"{path}: its weights are {shapes}; this encoder and text model need {wanted}"
        )
    projector.load_state_dict(found)


# --- its parts ------------------------------------------------------------------------------------


def projector_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The projector's of LLaVA's weights, by its own names."""
    start = len(OF_PROJECTOR)
    return {name[start:]: t for name, t in tensors.items() if name.startswith(OF_PROJECTOR)}


def save_projector(weights: dict[str, Tensor], folder: Path) -> None:
    save_file({name: t.contiguous() for name, t in weights.items()}, folder / PROJECTOR)


def load_text(text: PreTrainedModel, tensors: dict[str, Tensor]) -> None:
    """Give a text model its weights of LLaVA's, less the embedding of the image token."""
    start, prefix = len(OF_TEXT[0]), f"{text.base_model_prefix}."
    own = {
        prefix + name[start:] if name.startswith(OF_TEXT[0]) else name: t
        for name, t in tensors.items()
        if name.startswith(OF_TEXT)
    }
    rows = text.get_input_embeddings()
    name = next(n for n, p in text.named_parameters() if p is rows.weight)
    own[name] = own[name][: rows.num_embeddings]
    text.load_state_dict(own)

"""Tiny models, an encoder and talk about pictures, for the tests of visual tuning.

Everything is drawn here from seeds. A token is a character; an image of 8 pixels is 16 tokens.
"""

import io
import random
import shutil
from pathlib import Path

import torch
from PIL import Image
from stories import write_task
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
)

from overtrain.data import images, tokenizer

CONTEXT = 64
OF_IMAGE = 16  # tokens
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (20, 40, 230), "grey": (128,) * 3}
PARTS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}"
    "{% for p in m.content %}{{ p.text }}{% endfor %}{{ eos_token }}{% endgeneration %}"
    "{% else %}{% for p in m.content %}{% if p.type == 'image' %}<image>{% else %}{{ p.text }}"
    "{% endif %}{% endfor %}{{ ': ' }}{% endif %}{% endfor %}"
)
PLAIN = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}"
    "{% for p in m.content %}{{ p.text }}{% endfor %}{{ '\n' }}{% endgeneration %}"
    "{% else %}{% for p in m.content %}{% if p.type == 'image' %}<image>{% endif %}{% endfor %}"
    "{% endif %}{% endfor %}"
)


def write_text_model(
    folder: Path, kind: str = "olmo", tied: bool = False, rows: int = 96, seed: int = 0
) -> Path:
    """A checkpoint directory of `kind` (olmo, olmo2, llama), with 96 characters of vocabulary."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        kind,
        vocab_size=rows,
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=tied,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=0,
        initializer_range=0.3,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.characters().save(folder, CONTEXT)
    return folder


def write_encoder(folder: Path, seed: int = 1, **settings: int) -> Path:
    """An encoder's directory; settings: of CLIPVisionConfig."""
    torch.manual_seed(seed)
    own = {"image_size": 8, "patch_size": 2, "hidden_size": 32, "intermediate_size": 64}
    own |= {"num_hidden_layers": 3, "num_attention_heads": 2, "projection_dim": 8} | settings
    CLIPVisionModel(CLIPVisionConfig(**own)).save_pretrained(folder)
    size = own["image_size"]
    CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}
    ).save_pretrained(folder)
    return folder


def picture(colour: str, seed: int) -> bytes:
    """A PNG of a colour, not quite even, not always square."""
    draw = random.Random(seed)
    image = Image.new("RGB", (draw.choice((8, 12)), 8))
    for x in range(image.width):
        for y in range(8):
            image.putpixel((x, y), tuple(c + draw.randint(-9, 9) for c in COLOURS[colour]))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def write_talk(folder: Path, captions: bool, train: int, test: int, seed: int = 0) -> Path:
    """A task of kind image_chat with its `images`.

    Captions say the colour; of questions every third has no image.
    """
    draw, rows, pictures = random.Random(seed), [], []
    for i in range(train + 4 + test):
        colour, image = draw.choice(list(COLOURS)), f"{i}.png"
        if captions:
            pair = ("what is it", f"all {colour}")
        elif i % 3:
            asked = ("which colour", "tell me what you see", "colour")
            pair = (draw.choice(asked), f"{colour}{'ish' * draw.randint(0, 2)}")
        else:
            number, image = draw.randint(1, 99), None
            pair = (f"after {number}", str(number + 1))
        if image:
            pictures.append((image, picture(colour, i)))
        roles = zip(("user", "assistant"), pair, strict=True)
        rows.append({"messages": [{"role": r, "content": c} for r, c in roles], "image": image})
    splits = {"train": rows[:train], "validation": rows[train:-test], "test": rows[-test:]}
    shutil.rmtree(folder, ignore_errors=True)
    write_task(folder, "image_chat", splits)
    images.write(folder / "images", pictures)
    return folder

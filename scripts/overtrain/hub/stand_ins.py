"""A checkpoint trained here, laid out as one revision of a hub repository.

So a model that is small enough for any machine can stand in for a released one, by the same rules.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from overtrain.records.provenance import whole_folder

FILES = ("config.json", "model.safetensors", "tokenizer.json")
TOKENIZER = "tokenizer_config.json"


def publish(checkpoint: Path, revision: Path) -> None:
    """Write the folder `revision` with what transformers loads of `checkpoint`, and no more.

    The tokenizer's end of text is also its beginning and its padding, as released models have it.
    """
    context = json.loads((checkpoint / "config.json").read_text())["max_position_embeddings"]
    settings = json.loads((checkpoint / TOKENIZER).read_text())
    end = settings["eos_token"]
    settings |= {"bos_token": end, "pad_token": end, "model_max_length": context}
    with whole_folder(revision) as temporary:
        for name in FILES:
            shutil.copyfile(checkpoint / name, temporary / name)
        (temporary / TOKENIZER).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")

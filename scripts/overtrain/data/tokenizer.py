"""Text to token ids and back: characters, BPE trained here, or a tokenizer from the hub.

All three are saved as a Hugging Face `tokenizer.json`, which transformers reads; characters are
encoded by a table lookup, some hundred times faster than going through it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from overtrain import PipelineError
from overtrain.hub import client

SYMBOLS = "\n" + "".join(chr(code) for code in range(32, 127))  # 96; id 0 ends a document
END_OF_TEXT = "<|endoftext|>"


def token_type(vocabulary: int) -> np.dtype:
    """The type of a token id, in memory and in shards: little-endian uint16 where all ids fit."""
    return np.dtype("<u2" if vocabulary <= 2**16 else "<u4")


class TextEncoder:
    """Encodes text as ids of `type`. `end_of_text` separates documents and pads sequences."""

    def __init__(self, tokenizer: Tokenizer, end_of_text: int):
        self.tokenizer = tokenizer
        self.end_of_text = end_of_text
        self.vocabulary = tokenizer.get_vocab_size()
        self.type = token_type(self.vocabulary)
        vocabulary = tokenizer.get_vocab()
        self._table = None
        if all(len(symbol) == 1 and symbol.isascii() for symbol in vocabulary):
            self._table = np.full(128, vocabulary["?"], dtype=self.type)
            for symbol, index in vocabulary.items():
                self._table[ord(symbol)] = index

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """One array of ids per text, without special tokens."""
        if self._table is not None:
            return [
                self._table[np.frombuffer(t.encode("ascii", "replace"), np.uint8)] for t in texts
            ]
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=self.type) for encoding in encodings]

    def save(self, folder: Path, context: int | None = None) -> None:
        """As transformers reads it; the end of text is also its beginning and its padding.

        context: tokens that the model of a checkpoint can read.
        """
        self.tokenizer.save(str(folder / "tokenizer.json"))
        end = self.tokenizer.id_to_token(self.end_of_text)
        config: dict[str, object] = dict.fromkeys(("bos_token", "eos_token", "pad_token"), end)
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        if context is not None:
            config["model_max_length"] = context
        (folder / "tokenizer_config.json").write_text(
            json.dumps(config, indent=2, sort_keys=True) + "\n"
        )


def load_encoder(folder: Path) -> TextEncoder:
    """The encoder saved in `folder` (a corpus or a checkpoint)."""
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        end = json.loads((folder / "tokenizer_config.json").read_text())["eos_token"]
    except Exception as error:  # tokenizers raises a bare Exception
        raise PipelineError(
            f"{folder}: no readable tokenizer.json with its config ({error})"
        ) from error
    return TextEncoder(tokenizer, tokenizer.token_to_id(end))


def characters() -> TextEncoder:
    """One token per character of `SYMBOLS`; the newline ends a document."""
    vocabulary = {symbol: index for index, symbol in enumerate(SYMBOLS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return TextEncoder(tokenizer, 0)


def train_bpe(texts: Iterable[str], vocabulary: int) -> TextEncoder:
    """Byte-level BPE of `vocabulary` tokens learned from `texts`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return TextEncoder(tokenizer, tokenizer.token_to_id(END_OF_TEXT))


def hub_tokenizer(repository: str, revision: str) -> Tokenizer:
    """`tokenizer.json` of a hub repository at one revision, or of a local folder."""
    with client.one_line(f"{repository} at {revision}"):
        path = client.file_of(repository, "tokenizer.json", revision, "model")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises a bare Exception
        raise PipelineError(f"{path}: not a readable tokenizer ({error})") from error


def from_hub(repository: str, revision: str, end_of_text: str) -> TextEncoder:
    """The encoder of a hub repository at one revision, or of a local folder."""
    tokenizer = hub_tokenizer(repository, revision)
    end = tokenizer.token_to_id(end_of_text)
    if end is None:
        raise PipelineError(f"{repository}: its tokenizer has no token {end_of_text!r}")
    return TextEncoder(tokenizer, end)

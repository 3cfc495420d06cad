"""Text to ids and back, the same by our table, by `tokenizers` and by transformers."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from overtrain import PipelineError
from overtrain.data.tokenizer import (
    END_OF_TEXT,
    SYMBOLS,
    TextEncoder,
    characters,
    from_hub,
    load_encoder,
    train_bpe,
)

CHARACTERS = characters()
TEXTS = [f"The {word} of a model grows with its budget; {i} tokens." for i, word in
         enumerate(["loss", "width", "depth", "cost", "rate", "noise"] * 20)]  # fmt: skip
BPE = train_bpe(TEXTS, 300)
ENCODERS = {"characters": CHARACTERS, "bpe": BPE}
symbols = st.text(st.sampled_from(SYMBOLS))


@given(st.lists(st.text(st.sampled_from([chr(code) for code in range(128)]))))
def test_table_equals_tokenizers(texts: list[str]) -> None:
    fast = CHARACTERS.encode(texts)
    slow = CHARACTERS.tokenizer.encode_batch(texts, add_special_tokens=False)
    assert [ids.tolist() for ids in fast] == [encoding.ids for encoding in slow]
    assert all(ids.dtype == np.uint16 for ids in fast)


@given(symbols)
def test_characters_round_trip(text: str) -> None:
    (ids,) = CHARACTERS.encode([text])
    assert [SYMBOLS[i] for i in ids] == list(text)
    assert CHARACTERS.tokenizer.decode(ids) == text


def test_newline_ends_a_document_of_characters() -> None:
    assert CHARACTERS.vocabulary == len(SYMBOLS) == 96
    assert CHARACTERS.encode(["\n"])[0].tolist() == [CHARACTERS.end_of_text] == [0]


def test_table_agrees_outside_ascii() -> None:
    text = "na\u00efve \u2014 \u4e2d"
    assert CHARACTERS.encode([text])[0].tolist() == CHARACTERS.tokenizer.encode(text).ids


@settings(max_examples=50)
@given(st.lists(st.integers(0, 0xD7FF)).map(lambda codes: "".join(map(chr, codes))))
def test_bpe_round_trip(text: str) -> None:
    (ids,) = BPE.encode([text])
    assert BPE.tokenizer.decode(ids) == text


def test_bpe_is_deterministic_and_learns() -> None:
    assert train_bpe(iter(TEXTS), 300).tokenizer.to_str() == BPE.tokenizer.to_str()
    assert train_bpe(TEXTS[:30], 300).tokenizer.to_str() != BPE.tokenizer.to_str()
    assert BPE.vocabulary == 300
    assert BPE.tokenizer.token_to_id(END_OF_TEXT) == BPE.end_of_text
    assert len(BPE.encode([TEXTS[0]])[0]) < len(TEXTS[0]) / 2


@pytest.mark.parametrize("name", ENCODERS)
def test_saved_folder_loads_here_and_in_transformers(tmp_path: Path, name: str) -> None:
    from transformers import AutoTokenizer

    encoder = ENCODERS[name]
    encoder.save(tmp_path)
    again = load_encoder(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    texts = [*TEXTS[:6], SYMBOLS, "def f(x):\n\n    return x . y , 'z' n't\n", " lead", "trail \n"]
    for text in texts:
        (ids,) = encoder.encode([text])
        assert ids.tolist() == again.encode([text])[0].tolist()
        assert ids.tolist() == theirs(text, add_special_tokens=False)["input_ids"]
        assert theirs.decode(ids.tolist()) == text
    assert again.end_of_text == theirs.eos_token_id == theirs.pad_token_id == encoder.end_of_text
    assert again.vocabulary == len(theirs) == encoder.vocabulary


@pytest.mark.parametrize("broken", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [None, "{"])
def test_unreadable_folder_is_named(tmp_path: Path, broken: str, content: str | None) -> None:
    CHARACTERS.save(tmp_path)
    (tmp_path / broken).unlink() if content is None else (tmp_path / broken).write_text(content)
    with pytest.raises(PipelineError) as error:
        load_encoder(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}: no readable tokenizer.json")
    assert "\n" not in str(error.value)


def test_local_folder_as_hub_repository(tmp_path: Path) -> None:
    BPE.save(tmp_path)
    loaded = from_hub(str(tmp_path), "main", END_OF_TEXT)
    assert loaded.end_of_text == BPE.end_of_text
    assert loaded.encode(TEXTS[:1])[0].tolist() == BPE.encode(TEXTS[:1])[0].tolist()
    with pytest.raises(PipelineError, match=r"no token '</s>'"):
        from_hub(str(tmp_path), "main", "</s>")


@pytest.mark.parametrize(("vocabulary", "size"), [(2**16, 2), (2**16 + 1, 4), (100_278, 4)])
def test_ids_have_as_many_bytes_as_the_vocabulary_needs(vocabulary: int, size: int) -> None:
    ids = {f"t{i}": i for i in range(vocabulary)}
    encoder = TextEncoder(Tokenizer(models.WordLevel(ids, unk_token="t0")), 0)
    (last,) = encoder.encode([f"t{vocabulary - 1}"])
    assert last.tolist() == [vocabulary - 1] and last.dtype.itemsize == size

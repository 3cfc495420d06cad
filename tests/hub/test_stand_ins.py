"""A checkpoint trained here as a hub revision: loaded by transformers, downloaded as released."""

import json
from pathlib import Path

import pytest
import torch

from overtrain.hub.download import MANIFEST, download_checkpoint
from overtrain.hub.stand_ins import publish
from overtrain.model.olmo import load_checkpoint


@pytest.fixture(scope="module")
def revision(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "tiny/80"
    publish(checkpoint, folder)
    return folder


def test_it_is_the_model_of_the_checkpoint(checkpoint: Path, revision: Path) -> None:
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(revision, local_files_only=True).eval()
    ours = load_checkpoint(checkpoint)
    tokens = torch.randint(0, 96, (3, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, ours(tokens), rtol=1e-4, atol=1e-5)


def test_its_tokenizer_knows_beginning_end_and_padding(checkpoint: Path, revision: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(revision, local_files_only=True)
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == tokenizer.pad_token_id == 0
    assert tokenizer.model_max_length == 32
    text = "The ant finds the jade?\n"
    assert tokenizer(text)["input_ids"][-1] == 0 and len(tokenizer(text)["input_ids"]) == len(text)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_its_download_is_equal_in_every_byte(revision: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    download_checkpoint(str(revision.parent), "80", folder, tmp_path / "work")
    published = {path.name: path.read_bytes() for path in revision.iterdir()}
    (folder / MANIFEST).unlink()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == published
    assert set(published) == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip
    assert json.loads(published["config.json"])["model_type"] == "olmo"

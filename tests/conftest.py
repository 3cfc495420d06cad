"""What the tests share: a corpus of made-up English, a tiny checkpoint trained on it, two tasks.

Made once a session and never changed by a test. Everything is deterministic, so numbers may be
compared bit for bit; torch is imported only where it is needed, because that takes seconds.
"""

import os
import random
import shutil
import subprocess
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test reaches the hub
os.environ.setdefault("OMP_NUM_THREADS", "1")  # equal results, and no fight between test processes

import pytest
from stories import ANIMALS, STONES, VERBS, documents, write_task

from overtrain.data import corpora, tokenizer
from overtrain.records.provenance import whole_folder

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """About 80,000 characters of training text, one token each, and 9,000 held out."""
    path = tmp_path_factory.mktemp("corpora") / "stories"
    encoder = tokenizer.characters()
    with whole_folder(path) as folder:
        shard = corpora.write_shards(documents(600, seed=0), encoder, 10, folder, "00000")
        corpora.write_manifest(folder, encoder, [shard], {"made": "here"})
    return path


@pytest.fixture(scope="session")
def architecture():
    """Two layers, two heads; twice as wide as muP's base, so that no multiplier is 1."""
    from overtrain.model.architecture import Architecture

    return Architecture(2, 2, 16, 24, context=32, vocabulary=96, base_width=8)


@pytest.fixture(scope="session")
def pretraining(architecture):
    """Settings of a pre-training of 80 steps; `dataclasses.replace` makes others."""
    from overtrain.training.pretrain import Pretraining

    return Pretraining(
        model="tiny",
        architecture=architecture,
        corpus="stories",
        tokens=80 * 8 * architecture.context,
        seed=0,
        learning_rate=1e-2,
        betas=(0.9, 0.95),
        weight_decay=0.1,
        batch_size=8,
        warmup=0.1,
        clip=1.0,
    )


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, corpus, pretraining) -> Path:
    """A checkpoint directory, pre-trained on the corpus."""
    from overtrain.training.pretrain import Workers, pretrain

    folder = tmp_path_factory.mktemp("checkpoints")
    pretrain(pretraining, Workers(8, 1e9), corpus, folder / "tiny", folder / "state", {"seed": 0})
    return folder / "tiny"


@pytest.fixture(scope="session")
def language_task(tmp_path_factory) -> Path:
    """Capital letters, shorter and longer than the context: 20 texts to train, 12, 12."""
    draw = random.Random(1)
    lengths = draw.choices((8, 16, 24, 40), (6, 4, 2, 1), k=44)
    texts = documents(44, seed=1)
    rows = [{"text": t.upper()[:n]} for t, n in zip(texts, lengths, strict=True)]
    splits = {"train": rows[:20], "validation": rows[20:32], "test": rows[32:]}
    folder = tmp_path_factory.mktemp("tasks") / "language"
    return write_task(folder, "language_modelling", splits)


@pytest.fixture(scope="session")
def choice_task(tmp_path_factory) -> Path:
    """Which kind of word ends the prompt? Answers of different lengths."""
    draw = random.Random(2)
    choices = ["beast", "stone", "an action"]
    rows = []
    for _ in range(44):
        label = draw.randrange(3)
        word = draw.choice((ANIMALS, STONES, VERBS)[label])
        rows.append({"prompt": f"{word} is a", "choices": choices, "label": label})
    splits = {"train": rows[:20], "validation": rows[20:32], "test": rows[32:]}
    folder = tmp_path_factory.mktemp("tasks") / "choices"
    return write_task(folder, "classification", splits)


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as it would be committed now, without results; not to be written to."""
    folder = tmp_path_factory.mktemp("repository")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_symlink() or source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for arguments in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "test"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder

"""Text to pre-train on, and to hold out: from the hub, or the docstrings of installed packages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from overtrain.config.hub import Asked
from overtrain.config.section import Count, Distinct, Package, Repository, Revision, Section, Text

HeldOut = Annotated[
    int,
    Field(ge=2, description="One document in so many is held out, chosen by the hash of its text"),
]


class HubText(Section):
    """Numbered files of a hub data set."""

    dataset: Text = Field(description="Hub data set, or a local folder")
    revision: Revision
    files: Text = Field(description="Path of a source file; {:05d} is its number")
    file_count: Count
    text_column: Text


class Vocabulary(Section):
    """A tokenizer of the hub."""

    repository: Repository
    revision: Revision
    end_of_text: Text = Field(description="The token that separates documents")


class HubTokenizer(Section):
    hub: Vocabulary


def tokenizer_asked(key: str, repository: str, revision: str) -> Asked:
    names = {"names": ["tokenizer.json"]}
    return Asked(key, "model", repository, revision, f"{key}.repository", names)


class Characters(Section):
    kind: Literal["characters"]


class BytePairs(Section):
    kind: Literal["bpe"]
    vocabulary: int = Field(ge=257, le=65536, description="Tokens to learn")


class HubCorpus(Section):
    """A data set of the hub in the tokens of a released tokenizer."""

    kind: Literal["hub"]
    title: Text
    source: HubText
    tokenizer: HubTokenizer
    train_tokens: Count = Field(description="Tokens to keep for training")
    held_out: HeldOut

    def asked(self) -> Iterator[Asked]:
        text, own = self.source, self.tokenizer.hub
        files = {"template": text.files, "count": text.file_count}
        yield Asked("source", "dataset", text.dataset, text.revision, "source.dataset", files)
        yield tokenizer_asked("tokenizer.hub", own.repository, own.revision)


class DocstringsCorpus(Section):
    """Docstrings of installed packages: real text without a download."""

    kind: Literal["docstrings"]
    title: Text
    packages: Distinct[Package]
    tokenizer: Annotated[Characters | BytePairs, Field(discriminator="kind")]
    held_out: HeldOut


Corpus = Annotated[HubCorpus | DocstringsCorpus, Field(discriminator="kind")]

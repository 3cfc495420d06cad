"""Text to pre-train on, and to hold out: from the hub, or the docstrings of installed packages.

The hub's comes in parts, so many source files each: a part is downloaded by one job and tokenised
by one. Parts, and what says how large a file is, set what jobs ask for, never what is in a corpus.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from overtrain.config.hub import Asked
from overtrain.config.section import Count, Distinct, Package, Repository, Revision, Section, Text

HeldOut = Annotated[
    int,
    Field(ge=2, description="One document in so many is held out, chosen by the hash of its text"),
]
TOKEN_BYTES = 2  # in a shard; of a vocabulary beyond 65,536 they are 4
OF_JOBS = ("file_mb", "file_tokens", "files_per_part")


def numbers(part: str) -> range:
    """The source files of a part: 00016-00031."""
    first, last = map(int, part.split("-"))
    return range(first, last + 1)


class HubText(Section):
    """Numbered files of a hub data set."""

    dataset: Text = Field(description="Hub data set, or a local folder")
    revision: Revision
    files: Text = Field(description="Path of a source file; {:05d} is its number")
    file_count: Count = Field(description="Files to take, the first ones")
    file_mb: Count = Field(description="MB of one of them, about")
    file_tokens: Count = Field(description="Tokens in one of them, about")
    files_per_part: int = Field(
        ge=1, le=500, description="Files that one job downloads and one tokenises (docs/results.md)"
    )
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

    @model_validator(mode="after")
    def _enough(self) -> HubCorpus:
        text = self.source
        needed = -(-self.train_tokens // text.file_tokens)
        if text.file_count < needed:
            raise ValueError(
                f"source.file_count is {text.file_count}; at {text.file_tokens:,} tokens a file "
                f"(source.file_tokens) train_tokens needs {needed:,}"
            )
        return self

    @property
    def parts(self) -> list[str]:
        """The first and last file of each: 00000-00015, 00016-00031, ..."""
        count, size = self.source.file_count, self.source.files_per_part
        ranges = (range(i, min(i + size, count)) for i in range(0, count, size))
        return [f"{own[0]:05d}-{own[-1]:05d}" for own in ranges]

    def texts_mb(self, part: str) -> int:
        """MB of a part's source files."""
        return len(numbers(part)) * self.source.file_mb

    def shards_mb(self, part: str) -> int:
        """MB of a part's shards."""
        return len(numbers(part)) * self.source.file_tokens * TOKEN_BYTES // 10**6 + 1

    @property
    def disk_mb(self) -> int:
        """MB of the corpus, which ends with a whole file."""
        tokens = self.train_tokens + self.source.file_tokens
        return tokens * TOKEN_BYTES // 10**6 + 1

    def slice(self) -> dict:
        return self.plain("title") | {"source": self.source.plain(*OF_JOBS)}

    def tokenising_slice(self) -> dict:
        """What the shards of any part depend on."""
        own = self.plain("title", "train_tokens")
        return own | {"source": self.source.plain(*OF_JOBS, "file_count")}

    def asked(self) -> Iterator[Asked]:
        text, own = self.source, self.tokenizer.hub
        files = {"template": text.files, "count": text.file_count}
        yield Asked("source", "dataset", text.dataset, text.revision, "source.dataset", files)
        yield tokenizer_asked("tokenizer.hub", own.repository, own.revision)


class DocstringsCorpus(Section):
    """Text of installed packages, without a download: docstrings, or functions that have one."""

    kind: Literal["docstrings", "documented_functions"]
    title: Text
    packages: Distinct[Package]
    tokenizer: Annotated[Characters | BytePairs, Field(discriminator="kind")]
    held_out: HeldOut
    parts: ClassVar[tuple[str, ...]] = ()  # one job makes it
    disk_mb: ClassVar[int] = 100

    def slice(self) -> dict:
        return self.plain("title")


Corpus = Annotated[HubCorpus | DocstringsCorpus, Field(discriminator="kind")]

"""Fine-tuning tasks: where their rows come from, and what is made of a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, Tag, model_validator

from overtrain.config.corpora import tokenizer_asked
from overtrain.config.hub import Asked
from overtrain.config.section import (
    Count,
    Distinct,
    Named,
    Package,
    Repository,
    Revision,
    Section,
    Text,
    has,
    listed,
)

Characters = Annotated[
    int,
    Field(ge=16, description="Characters of the piece taken from each document; whole without it"),
]


# --- sources --------------------------------------------------------------------------------------


class Splits(Section):
    """The source's names of our splits; one that is not named is taken from train."""

    train: Text
    validation: Text | None = None
    test: Text | None = None


class Picked(Section):
    """A column that another one chooses."""

    by: Text = Field(description="The column whose value chooses")
    of: dict[Text, Text] = Field(description="That value as text: the column that is taken")


class HubRows(Section):
    dataset: Text = Field(description="Hub data set, or a local folder")
    name: Text | None = Field(default=None, description="Configuration of the data set")
    data_dir: Text | None = None
    revision: Revision
    splits: Splits
    take: Count | None = Field(
        default=None, description="Rows of a random subset, for a data set too large to download"
    )
    columns: dict[Text, Text | Picked] | None = Field(
        default=None,
        description="What templates call a column: its name there; Answer.0 is the first of a list",
    )


class PinnedFile(Section):
    url: Annotated[str, StringConstraints(pattern=r"^(https|file)://")]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class PinnedFiles(Section):
    """JSON lists of rows that are in no repository of the hub, one file a split."""

    files: dict[Literal["train", "validation", "test"], PinnedFile] = Field(
        min_length=1, description="A split that is not named is taken from train"
    )

    @model_validator(mode="after")
    def has_train(self) -> PinnedFiles:
        if "train" not in self.files:
            raise ValueError("files has no train, of which other splits are taken")
        return self


class Pieces(Section):
    """A piece of each docstring, or function, of some packages."""

    kind: Literal["docstrings", "functions"]
    packages: Distinct[Package]
    characters: Characters | None = None


class Pairs(Section):
    """Two parts of a docstring: which one follows, or whether it does."""

    kind: Literal["continuations", "pairs"]
    packages: Distinct[Package]
    before: int = Field(ge=8, description="Characters of the first part")
    after: int = Field(ge=4, description="Characters of the second part")


class Origins(Section):
    """Which package a piece of a docstring is from."""

    kind: Literal["origins"]
    packages: Distinct[Package]
    answers: Distinct[Text] = Field(min_length=2, description="What stands for each package")
    characters: int = Field(ge=8, description="Characters of the piece that is asked about")

    @model_validator(mode="after")
    def corresponding(self) -> Origins:
        if len(self.answers) != len(self.packages):
            raise ValueError(
                f"answers has {len(self.answers)} entries; packages has {len(self.packages)}, "
                "and they must correspond"
            )
        return self


class Signatures(Section):
    """The signature of a function, and what its docstring says first."""

    kind: Literal["signatures"]
    packages: Distinct[Package]
    signature: int = Field(ge=8, description="Characters of a signature at most")
    sentence: int = Field(ge=8, description="Characters of a first sentence at most")


class Functions(Section):
    """Functions with a docstring: the signature, and the body that follows it."""

    kind: Literal["documented_functions"]
    packages: Distinct[Package]
    signature: int = Field(ge=8, description="Characters of a signature at most")
    body: int = Field(ge=16, description="Characters of a body at most")


class ImageRows(HubRows):
    """A data set of the hub with a column of images, which stay the bytes that they are."""

    kind: Literal["hub"]
    image: Text = Field(description="Column of the images; null in a row without one")


class Archive(Section):
    """A zip archive of images in a repository of the hub."""

    kind: Literal["dataset", "model"] = Field(
        default="dataset", description="Of the repository: some keep data as a model"
    )
    repository: Repository
    revision: Revision
    file: Text = Field(description="The archive in it")
    folder: str = Field(
        default="", description="What rows say before the names of its members; empty: nothing"
    )
    mb: Count = Field(description="MB of the file; for what runs cost")

    def plain(self, *without: str) -> dict[str, Any]:
        return super().plain("mb", *without)  # no result depends on it


class ImageArchives(Section):
    """Conversations in a JSON file, and the archives of the images that its rows name."""

    kind: Literal["archives"]
    dataset: Text = Field(description="Hub data set, or a local folder")
    revision: Revision
    file: Text = Field(description="A JSON list of rows in it")
    archives: Named[Archive] = Field(min_length=1)


class DigitRows(Section):
    """scikit-learn's handwritten digits, 8x8 pixels: captions of them, or questions about them."""

    kind: Literal["digits"]
    rows: Literal["captions", "questions"]


Rows = Annotated[
    Annotated[HubRows, Tag("hub")]
    | Annotated[
        Annotated[
            Annotated[PinnedFiles, Tag("files")]
            | Annotated[
                Annotated[Pieces | Pairs | Signatures | Functions, Field(discriminator="kind")],
                Tag("packages"),
            ],
            has("files", "files", "packages"),
        ],
        Tag("others"),
    ],
    has("dataset", "hub", "others"),
]
Conversations = Annotated[
    Annotated[HubRows, Tag("hub")] | Annotated[Origins, Tag("packages")],
    has("dataset", "hub", "packages"),
]

ImageConversations = Annotated[ImageRows | ImageArchives | DigitRows, Field(discriminator="kind")]


# --- tasks ----------------------------------------------------------------------------------------


class Examples(Section):
    """At most so many examples of each split."""

    train: Count
    validation: Count
    test: Count


class AnyKind(Section):
    """What all kinds of tasks have."""

    title: Text = Field(description="Name in figures")
    stands_for: Annotated[Distinct[Text], BeforeValidator(listed)] | None = Field(
        default=None,
        description="The task of the paper that this one stands in for, or several, "
        "the likest first",
    )
    examples: Examples
    tokens: Count = Field(
        default=256,
        description="Tokens of an example, about (a context's at most); for what runs cost",
    )
    source: Rows

    def asked(self) -> Iterator[Asked]:
        if isinstance(self.source, HubRows):
            source = self.source
            files = {"folder": source.data_dir} if source.data_dir else None
            own = (source.dataset, source.revision, "source.dataset", files)
            yield Asked("source", "dataset", *own)

    def slice(self) -> dict:
        """What its examples depend on; what training makes of them is `training_slice`."""
        return self.plain("title", "stands_for", "loss_on", "tokens")

    def training_slice(self) -> dict:
        """What a task's settings, beside its examples, say about training."""
        own = self.plain()
        return {key: own[key] for key in ("kind", "loss_on") if key in own}


class LanguageModelling(AnyKind):
    """A text, all of which is learned."""

    kind: Literal["language_modelling"]
    text: Text = Field(description="Template over the source's columns")


class Label(Section):
    column: Text
    values: Distinct[str | int | bool] = Field(
        description="The column's value for each of the choices, in their order"
    )


class Classification(AnyKind):
    """A prompt, its possible answers, and which one is right."""

    kind: Literal["classification"]
    loss_on: Literal["answer", "all"] = Field(description="Tokens that fine-tuning has its loss on")
    prompt: Text = Field(description="Template over the source's columns")
    choices: Distinct[Text] = Field(description="Template of each answer")
    label: Label

    @model_validator(mode="after")
    def corresponding(self) -> Classification:
        if len(self.label.values) != len(self.choices):
            raise ValueError(
                f"label.values has {len(self.label.values)} values; "
                f"choices has {len(self.choices)}, and they must correspond"
            )
        return self


class Bins(Section):
    """A label that the source has as a number."""

    column: Text
    edges: Distinct[float] = Field(
        description="Increasing; numbers from an edge on, and below the next, are one choice"
    )


class Program(Section):
    """The answer is Python; rows whose answer does not parse are left out."""

    without: list[Literal["docstrings", "comments"]] = Field(description="What is taken out of it")
    begins: Literal["question", "answer"] = Field(
        default="answer", description="Where the program does: a question may be a signature"
    )


class Prompted(AnyKind):
    """A question in several formats, and its answer: a text, or one of some labels.

    In the format `default` it is trained on (`Amuro & Char`, its Table 3).
    """

    kind: Literal["prompted"]
    domain: Text | None = Field(
        default=None,
        description="Tasks of one domain are asked in all formats after tuning on one of them, "
        "others in the default one; null: its own",
    )
    formats: Named[Text] = Field(
        min_length=1, description="Templates of the question over the source's columns, by name"
    )
    answer: Text | None = Field(default=None, description="Template of an answer in words")
    choices: Distinct[Text] | None = Field(default=None, description="Or the answers to choose of")
    label: Label | Bins | None = Field(default=None, description="Which of the choices is right")
    program: Program | None = None
    new_tokens: Count = Field(description="Of a generated answer, at most")
    draw: Text | None = Field(
        default=None, description="Seeds the order of rows; null: its name. Equal: equal splits"
    )

    @model_validator(mode="after")
    def answerable(self) -> Prompted:
        if "default" not in self.formats:
            raise ValueError("formats has no default, which is trained on")
        if (self.answer is None) == (self.choices is None):
            raise ValueError("answer and choices: one of them is needed, and not both")
        if (self.choices is None) != (self.label is None):
            raise ValueError("choices and label go together")
        if self.choices is not None and self.label is not None:
            which = "values" if isinstance(self.label, Label) else "edges"
            known = len(getattr(self.label, which)) + (which == "edges")
            if known != len(self.choices):
                raise ValueError(
                    f"label.{which} tells {known} answers apart; choices has {len(self.choices)}, "
                    "and they must correspond"
                )
        return self

    def slice(self) -> dict:
        return self.plain("title", "stands_for", "tokens", "new_tokens", "domain")


class Tokenizer(Section):
    repository: Repository
    revision: Revision


class Chat(AnyKind):
    """Conversations, of which the assistant's turns are learned (Table 2)."""

    kind: Literal["chat"]
    format: Literal["hh", "messages", "alpaca"] = Field(
        description="How a row of the source becomes a conversation"
    )
    source: Conversations  # type: ignore[assignment]  # other kinds have other rows
    tokenizer: Tokenizer | None = Field(
        default=None, description="Counts the manifest's tokens; null: none does"
    )

    def asked(self) -> Iterator[Asked]:
        yield from super().asked()
        if self.tokenizer:
            own = (self.tokenizer.repository, self.tokenizer.revision)
            yield tokenizer_asked("tokenizer", *own)


class ImageChat(AnyKind):
    """Conversations about an image, and some without one; the assistant's turns are learned."""

    kind: Literal["image_chat"]
    format: Literal["llava", "messages"] = Field(
        description="How a row of the source becomes a conversation; <image> marks the image"
    )
    tokens: Count = Field(
        default=256,
        description="Text tokens of an example, about, without the image's; for what runs cost",
    )
    source: ImageConversations  # type: ignore[assignment]  # other kinds have other rows

    def asked(self) -> Iterator[Asked]:
        yield from super().asked()
        if isinstance(source := self.source, ImageArchives):
            own = (source.dataset, source.revision, "source.dataset", {"names": [source.file]})
            yield Asked("source", "dataset", *own)
            for name, archive in source.archives.items():
                key, files = f"source.archives.{name}", {"names": [archive.file]}
                place = (archive.repository, archive.revision, f"{key}.repository", files)
                yield Asked(key, archive.kind, *place)


Task = Annotated[
    LanguageModelling | Classification | Prompted | Chat | ImageChat, Field(discriminator="kind")
]

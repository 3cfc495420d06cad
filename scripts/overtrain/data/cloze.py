"""Questions about which letters stand in a text: small stand-ins of benchmarks, from real text.

A document gives one question, at a place inside a word that its hash draws: a model that reads
letters, of 10,000 parameters, can tell how a word goes on but not which word follows. Other answers
are from such places in other documents, or in the same one (`near`), which is harder. Line breaks
are spaces.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import islice

from overtrain import PipelineError
from overtrain.data.docstrings import Document
from overtrain.records.provenance import seed_of

IN_WORD = re.compile(r"(?<=[A-Za-z][a-z])(?=[a-z])")
BOOLEAN = re.compile(r"\bdefaults?\W{1,3}(?:is |to )?\W{0,3}(True|False)\b")


def questions(documents: list[Document], name: str, settings: dict) -> list[dict]:
    """The first `count` rows of a kind, in the documents' order; `name` draws other places.

    kind "continuations": `context`, of `before` characters, `choices`, of `after` characters each,
    and which of them (`label`) follows; there are `options`. "blanks": a `sentence` with _ for
    `hole` characters, `after` follow; `option1`, `option2` and the `answer`, "1" or "2".
    "booleans": a `context` that ends where a parameter's default is said, `choices` False and True,
    `label`. PipelineError if the documents have no such place.
    """
    rows = list(islice(KINDS[settings["kind"]](documents, name, settings), settings["count"]))
    if not rows:
        raise PipelineError(f"none of {len(documents)} documents has a place for {settings}")
    return rows


def continuations(documents: list[Document], name: str, settings: dict) -> Iterator[dict]:
    before, after, options = (settings[key] for key in ("before", "after", "options"))
    places = []
    for document in documents[: 2 * settings["count"]]:
        draw = random.Random(seed_of("cloze", name, document.order))
        text = " ".join(document.text.split())
        cuts = [m.start() for m in IN_WORD.finditer(text, before, max(before, len(text) - after))]
        if len(cuts) >= options:
            cuts = draw.sample(cuts, options)
            places.append(
                (text[cuts[0] - before : cuts[0]], [text[c : c + after] for c in cuts], draw)
            )
    everywhere = sorted({answers[0] for _, answers, _ in places})
    for context, (right, *others), draw in places:
        if not settings.get("near"):
            others = draw.sample([answer for answer in everywhere if answer != right], options - 1)
        label = draw.randrange(options)
        choices = [*others[:label], right, *others[label:]]
        if len(set(choices)) == options:
            yield {"context": context, "choices": choices, "label": label}


def blanks(documents: list[Document], name: str, settings: dict) -> Iterator[dict]:
    hole, after = settings["hole"], settings["after"]
    whole = {**settings, "after": hole + after, "options": 2}
    for row in continuations(documents, name, whole):
        options = {f"option{i}": text[:hole] for i, text in enumerate(row["choices"], 1)}
        sentence = f"{row['context']}_{row['choices'][row['label']][hole:]}"
        if len(set(options.values())) == 2 and "_" not in row["context"]:
            yield {"sentence": sentence, "answer": str(row["label"] + 1)} | options


def booleans(documents: list[Document], name: str, settings: dict) -> Iterator[dict]:
    for document in documents:
        text = " ".join(document.text.split())
        if found := BOOLEAN.search(text):
            context = text[max(0, found.start(1) - settings["before"]) : found.start(1)]
            label = int(found[1] == "True")
            yield {"context": context, "choices": ["False", "True"], "label": label}


KINDS = {"blanks": blanks, "booleans": booleans, "continuations": continuations}

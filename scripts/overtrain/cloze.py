"""Questions about which words stand in a text: small stand-ins of benchmarks, from real text.

A document gives one question, at a place that its hash chooses; its line breaks are spaces. Other
answers are what stands elsewhere, in any document or in the same one (`near`), which is harder.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import islice

from overtrain import PipelineError
from overtrain.docstrings import Document
from overtrain.provenance import seed_of

PROSE = re.compile(r"[A-Za-z][A-Za-z ,'-]*[.,]?")  # answers: words, not code or markup
BOOLEAN = re.compile(r"\bdefaults?\W{1,3}(?:is |to )?\W{0,3}(True|False)\b")


def questions(documents: list[Document], name: str, settings: dict) -> list[dict]:
    """The first `count` rows of a kind, in the documents' order; `name` draws other places.

    kind "continuations": `context`, of at most `before` characters, `choices` of `words` words
    each, and which of them (`label`) follows. "blanks": a `sentence` with _ for a word, `option1`,
    `option2` and the `answer`, "1" or "2"; `words` are those of the blank and after it. "booleans":
    a `context` that ends where a parameter's default is said, `choices` False and True, `label`.
    PipelineError if the documents have no such place.
    """
    rows = list(islice(KINDS[settings["kind"]](documents, name, settings), settings["count"]))
    if not rows:
        raise PipelineError(f"none of {len(documents)} documents has a place for {settings}")
    return rows


def continuations(documents: list[Document], name: str, settings: dict) -> Iterator[dict]:
    places = []
    for document in documents[: 4 * settings["count"]]:
        draw = random.Random(seed_of("cloze", name, document.order))
        if found := spans(document.text.split(), settings):
            draw.shuffle(found)
            places.append((found, draw))
    everywhere = sorted({found[0][1] for found, _ in places})
    wrong = settings["options"] - 1
    for found, draw in places:
        context, right = found[0]
        own = sorted({answer for _, answer in found} - {right})
        pool = own if settings.get("near") else [a for a in everywhere if a != right]
        if len(pool) >= wrong:
            label, others = draw.randrange(wrong + 1), draw.sample(pool, wrong)
            choices = [*others[:label], right, *others[label:]]
            yield {"context": context, "choices": choices, "label": label}


def blanks(documents: list[Document], name: str, settings: dict) -> Iterator[dict]:
    for row in continuations(documents, name, {**settings, "options": 2}):
        options = [choice.split(" ", 1) for choice in row["choices"]]
        words = {f"option{i}": word for i, (word, _) in enumerate(options, 1)}
        sentence = f"{row['context']} _ {options[row['label']][1]}"
        if len(set(words.values())) == 2:
            yield {"sentence": sentence, "answer": str(row["label"] + 1)} | words


def booleans(documents: list[Document], name: str, settings: dict) -> Iterator[dict]:
    for document in documents:
        text = " ".join(document.text.split())
        if found := BOOLEAN.search(text):
            context = last_words(text[: found.start(1)], settings["before"])
            label = int(found[1] == "True")
            yield {"context": context, "choices": ["False", "True"], "label": label}


def spans(text: list[str], settings: dict) -> list[tuple[str, str]]:
    """(what stands before, `words` words of prose) at every place of a text."""
    words, found = settings["words"], []
    for i in range(1, len(text) - words + 1):
        answer = " ".join(text[i : i + words])
        if PROSE.fullmatch(answer):
            before = " ".join(text[max(0, i - settings["before"]) : i])
            found.append((last_words(before, settings["before"]), answer))
    return found


def last_words(text: str, characters: int) -> str:
    """The end of a text, at most so long, from the start of a word on (if it has one)."""
    if len(text) <= characters:
        return text
    end = text[-characters - 1 :]
    return end[end.find(" ") + 1 :][-characters:]


KINDS = {"blanks": blanks, "booleans": booleans, "continuations": continuations}

"""Embedded text: docstrings, functions, and what functions say first, of the installed packages.

The lock pins the packages, so this is the same real text on every machine, without a download.
Files are parsed, never imported; only bodies that can hold a definition are visited, since a walk
over every node of the syntax tree takes most of the time.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import sysconfig
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from overtrain import PipelineError
from overtrain.data.workers import pool

MINIMUM = 200  # characters; shorter docstrings are labels more than text
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

# Printable ASCII and the newline, 96 symbols; everything else is folded to one of them or dropped.
FOLD = str.maketrans(
    {
        "\t": " " * 4,
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2013": "-",
        "\u2014": "-",
    }
)
BODY = "\n    "  # before each statement of a function's body
WORDS, REST = 12, 60  # characters of the docstring, and of the rest, of a documented function
QUOTES = re.compile("\"\"\"|'''")
SENTENCE_END = re.compile(r"\.\s")
OUTSIDE = re.compile(r"[^\n -~]+")


@dataclass(frozen=True)
class Document:
    """One piece of text and where it stands: the package, and the module path below it."""

    package: str
    module: str
    text: str

    @property
    def order(self) -> str:
        """Hash of the text: a shuffled order that is the same on every machine."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def fold(text: str) -> str:
    """Text in the 96 symbols: typographic signs replaced, all else outside ASCII dropped."""
    return OUTSIDE.sub("", text.translate(FOLD))


def extract(packages: list[str], kind: str = "docstrings", workers: int = 1) -> list[Document]:
    """Documents of `packages` (import names, dotted for a part), without repeats, by their hash.

    kind: "docstrings" (200 characters or more), "functions" (source without its docstring),
    "signatures" (a function's name and parameters on one line, on a second one the first sentence
    of its docstring) or "documented_functions" (a function with the first words of its docstring).
    """
    root = Path(sysconfig.get_paths()["purelib"])
    files = []
    for package in packages:
        found = sorted((root / package.replace(".", "/")).rglob("*.py"))
        if not found:
            raise PipelineError(
                f"{package}: no Python files under {package}/; is it in the environment?"
            )
        files += found
    read = partial(READERS[kind], root=root)
    if workers > 1:
        with pool(workers) as processes:
            parts = list(processes.map(read, files, chunksize=32))
    else:
        parts = [read(file) for file in files]
    unique: dict[str, Document] = {}
    for documents in parts:
        for document in documents:
            unique.setdefault(document.text, document)
    return sorted(unique.values(), key=lambda document: document.order)


def parse(path: Path, needs: re.Pattern | None = None) -> tuple[str, ast.Module | None]:
    """Source and syntax tree; no tree without what it `needs`, or if it is not valid Python."""
    try:
        source = path.read_text("utf-8")
        if needs and not needs.search(source):
            return "", None
        return source, ast.parse(source)
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return "", None


def definitions(tree: ast.Module) -> list[Any]:
    """The module and every class and function in it, found through bodies of statements only."""
    found: list[Any] = []
    waiting: list[Any] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Module, *DEFINITIONS)):
            found.append(node)
        waiting += [child for child in node.body if isinstance(getattr(child, "body", None), list)]
    return found


def is_constant(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def docstring_of(node: Any) -> str | None:
    first = node.body[0] if node.body else None
    value = first.value.value if first and is_constant(first) else None
    return inspect.cleandoc(value) if isinstance(value, str) else None


def read_docstrings(path: Path, root: Path) -> list[Document]:
    place = path.relative_to(root).with_suffix("").parts
    _, tree = parse(path, QUOTES)  # a fifth of the files have none and need no parsing
    if tree is None:
        return []
    texts = [fold(text) for node in definitions(tree) if (text := docstring_of(node))]
    module = ".".join(place[1:])
    return [Document(place[0], module, text) for text in texts if len(text) >= MINIMUM]


def read_functions(path: Path, root: Path) -> list[Document]:
    place = path.relative_to(root).with_suffix("").parts
    source, tree = parse(path)
    if tree is None:
        return []
    lines = source.split("\n")  # as Python counts them; splitlines() also splits at form feeds
    documents = []
    for node in definitions(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        has_docstring = docstring_of(node) is not None
        if has_docstring and len(node.body) == 1:
            continue
        start = node.body[1 if has_docstring else 0].lineno
        signature = lines[node.lineno - 1 : node.body[0].lineno - 1]
        text = fold(
            inspect.cleandoc("\n" + "\n".join(signature + lines[start - 1 : node.end_lineno]))
        )
        if len(text) >= MINIMUM:
            documents.append(Document(place[0], ".".join(place[1:]), text))
    return documents


def read_signatures(path: Path, root: Path) -> list[Document]:
    place = path.relative_to(root).with_suffix("").parts
    _, tree = parse(path, QUOTES)
    documents = []
    for node in definitions(tree) if tree else []:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if sentence := first_sentence(fold(docstring_of(node) or "")):
            names = [a.arg for a in node.args.args if a.arg not in ("self", "cls")]
            text = fold(f"{node.name}({', '.join(names)})") + f"\n{sentence}"
            documents.append(Document(place[0], ".".join(place[1:]), text))
    return documents


def first_sentence(text: str) -> str:
    """What a docstring says first, on one line: up to a full stop or an empty line."""
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    return SENTENCE_END.split(paragraph)[0].removesuffix(".")


def read_documented(path: Path, root: Path) -> list[Document]:
    """Functions with a docstring, whose first words and statements stay (`signature_and_body`).

    Short, so that a model with a small context sees many of them begin.
    """
    place = path.relative_to(root).with_suffix("").parts
    source, tree = parse(path, QUOTES)
    lines = source.split("\n")
    documents = []
    for node in definitions(tree) if tree else []:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or len(node.body) == 1:
            continue
        sentence = whole_words(first_sentence(fold(docstring_of(node) or "")), WORDS)
        if sentence and (body := first_statements(node.body[1:], lines)):
            body = body.replace("\n", BODY)
            names = [a.arg for a in node.args.args]
            says = sentence.replace("\\", "").replace('"', "'")
            text = f'def {node.name}({", ".join(names)}):{BODY}"""{says}."""{BODY}{body}'
            documents.append(Document(place[0], ".".join(place[1:]), fold(text)))
    return documents


def first_statements(statements: list[ast.stmt], lines: list[str]) -> str:
    """As many statements as REST characters hold, at the left margin; lines: of the source."""
    kept = ""
    for statement in statements:
        whole = "\n".join(lines[statements[0].lineno - 1 : statement.end_lineno])
        if len(text := inspect.cleandoc(f"\n{whole}")) > REST:
            break
        kept = text
    return kept


def signature_and_body(text: str) -> tuple[str, str]:
    """The two parts of a text of `read_documented`."""
    signature, _, body = text.partition(BODY)
    return signature, body


def whole_words(text: str, characters: int) -> str:
    """As many words of a text as so many characters hold."""
    cut = text[: characters + 1]
    return cut[:characters] if len(cut) <= characters else cut.rpartition(" ")[0]


def whole_lines(text: str, characters: int) -> str:
    """As many lines of a text as so many characters hold."""
    return f"{text}\n"[: characters + 1].rpartition("\n")[0]


READERS = {
    "documented_functions": read_documented,
    "docstrings": read_docstrings,
    "functions": read_functions,
    "signatures": read_signatures,
}

"""Python programs as answers: what is taken out of them before a model is tuned on them.

Docstrings are found by the syntax tree and comments by the tokenizer, so that quotes and signs in
strings stay. All else keeps its place and its spaces.
"""

from __future__ import annotations

import ast
import io
import tokenize

ALL = ["docstrings", "comments"]  # that may be taken out
DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def parse(source: str) -> ast.Module | None:
    """The syntax tree; None of what is not Python, or has no tokens although it has a tree."""
    try:
        tree = ast.parse(source)
        tokens(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # a NUL, or too deep for it
        return None
    except tokenize.TokenError:
        return None
    return tree


def with_newlines(source: str) -> str:
    """A text whose lines end as ours do; no mark of a byte order before it."""
    return source.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def docstrings(tree: ast.Module) -> list[tuple[ast.Expr, bool]]:
    """The docstrings of the module and of all in it, and whether each is all of its body."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, DEFINITIONS) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            assert isinstance(first, ast.Expr)
            alone = len(node.body) == 1 and not isinstance(node, ast.Module)
            found.append((first, alone))
    return found


def without(source: str, what: list[str]) -> str | None:
    """A program without its docstrings, its comments, or both; None of what is not Python.

    A body that was only a docstring becomes `pass`.
    """
    source = with_newlines(source)
    tree = parse(source)
    # A second string becomes the docstring when the first is gone.
    while tree and "docstrings" in what and docstrings(tree):
        source = without_docstrings(source, tree)
        tree = parse(source)
    if tree and "comments" in what:
        source = without_comments(source)
        tree = parse(source)
    return source if tree else None


def without_docstrings(source: str, tree: ast.Module) -> str:
    lines = source.encode().split(b"\n")  # columns of the tree count bytes
    for node, alone in sorted(docstrings(tree), key=lambda own: own[0].lineno, reverse=True):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        before = lines[first][: node.col_offset]
        after = lines[last][node.end_col_offset :]
        rest = after.strip()
        if alone or rest.startswith(b";"):
            lines[first : last + 1] = [before + b"pass" + after]
        elif before.strip() or rest:
            lines[first : last + 1] = [before + after.lstrip()]
        else:
            lines[first : last + 1] = []
    return b"\n".join(lines).decode()


def without_comments(source: str) -> str:
    """Lines that were only a comment go; others lose it, and the space before it.

    After a line that goes on (a backslash at its end) an empty one stays, which ends it.
    """
    lines = source.split("\n")
    places = [token.start for token in tokens(source) if token.type == tokenize.COMMENT]
    commented = {line for line, _ in places}
    for line, column in reversed(places):
        kept = lines[line - 1][:column].rstrip()
        before = line - 1
        goes_on = before > 0 and before not in commented and lines[before - 1].endswith("\\")
        lines[line - 1 : line] = [kept] if kept or goes_on else []
    return "\n".join(lines)


def tokens(source: str) -> list[tokenize.TokenInfo]:
    """Those of a program that parses."""
    return list(tokenize.generate_tokens(io.StringIO(source).readline))

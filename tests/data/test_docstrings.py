"""Docstrings and functions of packages: what is found, in what form and in what order."""

import ast
import hashlib
import inspect
import textwrap
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overtrain import PipelineError
from overtrain.data import docstrings
from overtrain.data.docstrings import MINIMUM, extract, fold
from overtrain.data.tokenizer import SYMBOLS


def words(name: str, characters: int = MINIMUM) -> str:
    """Text of exactly so many characters that starts with `name`."""
    return (name + " " + "lorem ipsum dolor sit amet " * 20)[: characters - 1] + "."


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for site-packages, with the package `fake` in it."""
    monkeypatch.setattr(docstrings.sysconfig, "get_paths", lambda: {"purelib": str(tmp_path)})
    source = f'''
        """{words("module")}"""

        class Thing:
            """{words("class")}"""

            async def method(self):
                """{words("method")}"""
                def inner():
                    """{words("inner")}"""

        if True:
            try:
                def conditional():
                    """{words("conditional")}"""
            finally:
                pass

        def short():
            """{words("short", MINIMUM - 1)}"""

        def no_docstring():
            text = """{words("assigned")}"""

        def repeated():
            """{words("class")}"""
    '''
    write(tmp_path / "fake/__init__.py", source)
    write(
        tmp_path / "fake/sub/deep.py",
        f'"""{words("deep")} caf\u00e9 \u201cquoted\u201d\u2014\ttab"""',
    )
    write(tmp_path / "fake/broken.py", f'"""{words("broken")}"""\ndef (:\n')
    (tmp_path / "fake/latin.py").write_bytes(f'"""{words("latin")} \xe9"""'.encode("latin-1"))
    write(tmp_path / "other/a.py", f'"""{words("other")}"""\ndef f():\n    """{words("deep2")}"""')
    return tmp_path


def write(path: Path, source: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source).lstrip("\n"), "utf-8")


def test_docstrings_of_a_package(root: Path) -> None:
    found = {document.text.split()[0]: document for document in extract(["fake"])}
    assert set(found) == {"module", "class", "method", "inner", "conditional", "deep"}
    assert found["class"].text == words("class")  # once, though two definitions have it
    assert (found["deep"].package, found["deep"].module) == ("fake", "sub.deep")
    assert found["deep"].text == words("deep") + ' caf "quoted"- tab'


def test_order_is_that_of_the_texts_hashes(root: Path) -> None:
    documents = extract(["other", "fake"])
    assert [d.text for d in documents] == [d.text for d in extract(["fake", "other"])]
    hashes = [hashlib.sha256(d.text.encode()).hexdigest() for d in documents]
    assert hashes == [d.order for d in documents] == sorted(hashes)


@pytest.mark.parametrize("kind", ["docstrings", "functions"])
def test_parallel_equals_serial(kind: str) -> None:
    serial = extract(["fsspec"], kind)
    assert len(serial) > 100
    assert extract(["fsspec"], kind, workers=2) == serial


def test_missing_package_is_named(root: Path) -> None:
    with pytest.raises(PipelineError, match=r"^nothing_here: .*environment\?$"):
        extract(["fake", "nothing_here"])


def test_functions_have_signature_and_body_but_no_docstring(root: Path) -> None:
    lines = "\n".join(f"        value += {i} * factor  # step" for i in range(10))
    write(
        root / "fake/__init__.py",
        f'''
class Thing:
    @property
    def long(
        self, factor: int = 3
    ) -> int:
        """{words("docstring")}"""
        value = 0
{lines}
        return value

    def only_docstring(self):
        """{words("docstring")}"""

    def brief(self):
        return 1
''',
    )
    (document,) = extract(["fake"], "functions")
    body = textwrap.indent(textwrap.dedent(lines), "    ")
    head = "def long(\n    self, factor: int = 3\n) -> int:\n    value = 0\n"
    assert document.text == f"{head}{body}\n    return value"


def test_line_numbers_hold_after_a_form_feed(root: Path) -> None:
    body = "\n".join(f"    value_{i} = {i} + {i}" for i in range(20))
    write(root / "fake/__init__.py", f'"""Top."""\n\x0c\ndef f():\n    """Doc."""\n{body}\n')
    (document,) = extract(["fake"], "functions")
    assert document.text == f"def f():\n{body}"


def test_functions_need_no_docstring_in_their_file(root: Path) -> None:
    body = "\n".join(f"    value_{i} = {i} + {i}" for i in range(20))
    write(root / "plain/a.py", f"def f():\n{body}\n")
    (document,) = extract(["plain"], "functions")
    assert document.text == f"def f():\n{body}"


def test_signatures_have_names_and_the_first_sentence(root: Path) -> None:
    (root / "fake/signed.py").write_text(
        textwrap.dedent('''
        class Thing:
            """No function."""

            def method(self, first, second=2, *rest, key=None):
                """
                Say what it
                does. Then more.

                A second paragraph.
                """

        async def without_stop():
            """Returns 1.5 of them

            Or more."""

        def undocumented(a): pass
        ''')
    )
    texts = {d.text for d in extract(["fake"], "signatures") if d.module == "signed"}
    assert texts == {
        "method(first, second)\nSay what it does",
        "without_stop()\nReturns 1.5 of them",
    }


def test_documented_functions_are_the_first_words_and_statements(root: Path) -> None:
    (root / "fake/functions.py").write_text(
        textwrap.dedent('''
        class Thing:
            @property
            def method(self, first: int, second=2, *rest, key=None) -> int:
                """
                Say what it does and more. Then more.
                """
                # why
                total = first + second

                if total:
                    return total * first * second
                return "café" + "so long a line that it is no longer within so many"

        async def waits():
            r"""He says "it\\d". No more."""
            pass

        def only():
            """Only a docstring."""

        def undocumented(a):
            return a

        def long(a):
            """Disproportionately long."""
            return a

        def line(a):
            """Too long a line."""
            return "so long a line that it is no longer within so many characters as there may be"

        def brief(a):
            """Say it."""
            if a:
                return 1
            return "a text"

        def word(a):
            """Incomprehensibilities."""
            return a
        ''')
    )
    texts = {d.text for d in extract(["fake"], "documented_functions") if d.module == "functions"}
    method = 'def method(self, first, second):\n    """Say what it."""\n    total = first + second'
    assert texts == {
        method,
        'def waits():\n    """He says."""\n    pass',
        'def brief(a):\n    """Say it."""\n    if a:\n        return 1\n    return "a text"',
    }
    signature, body = docstrings.signature_and_body(method)
    assert signature == "def method(self, first, second):"
    assert body.startswith('"""Say what') and f"{signature}\n    {body}" == method


def test_documented_functions_of_a_real_package() -> None:
    found = [document.text for document in extract(["fsspec"], "documented_functions")]
    assert len(set(found)) == len(found) > 300
    for text in found:
        assert set(text) <= set(SYMBOLS)
        head, said, rest = text.split('"""', 2)
        assert head.startswith("def ") and head.endswith("):\n    ")
        assert said.endswith(".") and 0 < len(said) - 1 <= docstrings.WORDS
        assert rest.startswith("\n    ") and rest.strip()
        assert len(rest.replace("\n    ", "\n")) <= docstrings.REST + 1
        (function,) = ast.parse(text).body
        assert ast.get_docstring(function) == said


def test_real_package() -> None:
    texts = [document.text for document in extract(["fsspec"])]
    assert len(set(texts)) == len(texts)
    assert all(len(text) >= MINIMUM and set(text) <= set(SYMBOLS) for text in texts)
    assert fold(inspect.getdoc(fsspec.FSMap)) in texts
    functions = extract(["fsspec"], "functions")
    assert all(text.text.startswith(("def ", "async def ")) for text in functions)
    parsed = [ast.parse(function.text).body[0] for function in functions]
    assert not any(ast.get_docstring(function) for function in parsed)


@given(st.lists(st.integers(0, 0xD7FF)).map(lambda codes: "".join(map(chr, codes))))
def test_fold_leaves_the_96_symbols(text: str) -> None:
    folded = fold(text)
    assert set(folded) <= set(SYMBOLS)
    assert fold(folded) == folded


def test_fold_keeps_ascii_and_replaces_typography() -> None:
    assert fold(SYMBOLS) == SYMBOLS
    assert (
        fold("\u2018a\u2019 \u201cb\u201d \u2013\u2014 na\u00efve\tx\r\n")
        == "'a' \"b\" -- nave    x\n"
    )

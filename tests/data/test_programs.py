"""Programs as answers: docstrings and comments go, byte for byte, and nothing else does."""

import ast
import sysconfig
import textwrap
from pathlib import Path

import pytest

from overtrain.data.docstrings import extract
from overtrain.data.programs import ALL, parse, without

DOCSTRINGS, COMMENTS = ["docstrings"], ["comments"]


def text(source: str) -> str:
    return textwrap.dedent(source).removeprefix("\n")


WHOLE = text('''
    #!/usr/bin/env python
    """Of the module."""

    import os  # for paths


    class Thing:
        \'\'\'Of the class,
        on "two" lines.\'\'\'

        size = 3

        @property
        def name(self):
            r"""Raw \\d, of a method."""
            # a whole line
            return "# no comment"  # one

        async def wait(self):
            "Of what waits"
            text = """no docstring  # here"""
            return text


    def outer():
        """He said 'no' and \\"""yes\\"""."""
        def inner(): "only"
        return inner
''')
WITHOUT_DOCSTRINGS = text('''
    #!/usr/bin/env python

    import os  # for paths


    class Thing:

        size = 3

        @property
        def name(self):
            # a whole line
            return "# no comment"  # one

        async def wait(self):
            text = """no docstring  # here"""
            return text


    def outer():
        def inner(): pass
        return inner
''')
WITHOUT_COMMENTS = (
    WHOLE.replace("#!/usr/bin/env python\n", "")
    .replace("  # for paths", "")
    .replace("        # a whole line\n", "")
    .replace("  # one", "")
)


def test_a_whole_program_byte_for_byte() -> None:
    assert without(WHOLE, []) == WHOLE
    assert without(WHOLE, DOCSTRINGS) == WITHOUT_DOCSTRINGS
    assert without(WHOLE, COMMENTS) == WITHOUT_COMMENTS
    assert without(WHOLE, ALL) == without(WITHOUT_DOCSTRINGS, COMMENTS)
    assert without(WHOLE, ALL) == without(WITHOUT_COMMENTS, DOCSTRINGS)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('def f():\n    "a"\n    return 1\n', "def f():\n    return 1\n"),
        ('def f():\n    "a"\n', "def f():\n    pass\n"),
        ('def g(): "only"', "def g(): pass"),
        ('def g(): "only"; x = 1', "def g(): pass; x = 1"),
        ('def g(): "only";', "def g(): pass;"),
        ('def g():\n    """a\n    b""" ; x = 1\n', "def g():\n    pass ; x = 1\n"),
        ('class A: """a\nb"""\n', "class A: pass\n"),
        ('"only the module"\n', ""),
        ('"module"\nx = 1', "x = 1"),
        ('def f():\n    ("a"\n     "b")\n    return 1\n', "def f():\n    return 1\n"),
        ('def f():\n    "a" \\\n    "b"\n    return 1\n', "def f():\n    return 1\n"),
        (
            'def f():\n    "a"\n    "b"\n    return 1\n',
            "def f():\n    return 1\n",
        ),  # then it is one
        ('def f():\n    "a"\n    "b"\n', "def f():\n    pass\n"),
        ('def f():\n    "a"  # why\n    return 1\n', "def f():\n    # why\n    return 1\n"),
        ('def f():\n    "a"  # why\n', "def f():\n    pass  # why\n"),
        ("def f():\n    f'{1}'\n    return 1\n", "def f():\n    f'{1}'\n    return 1\n"),
        ("def f():\n    b'a'\n    return 1\n", "def f():\n    b'a'\n    return 1\n"),
        ("def f():\n    x = 1\n    'a'\n", "def f():\n    x = 1\n    'a'\n"),
        ("if x:\n    'a'\n", "if x:\n    'a'\n"),
        # Columns of the tree count bytes.
        ('def é(ü="ß"): "ä"\n', 'def é(ü="ß"): pass\n'),
        ('def é(): "ä"; ö = 1\n', "def é(): pass; ö = 1\n"),
        ('def f():\n    """ä\n    ö"""; é = 1\n', "def f():\n    pass; é = 1\n"),
        ('def f():\r\n    """a\r\n    b"""\r\n    return 1\r\n', "def f():\n    return 1\n"),
        ('def f():\r    "a"\r    return 1\r', "def f():\n    return 1\n"),
        ('\ufeff"a"\nx = 1\n', "x = 1\n"),
        ('\f\ndef f():\n    "a"\n    return "\f"\n', '\f\ndef f():\n    return "\f"\n'),
    ],
)
def test_docstrings_by_hand(source: str, expected: str) -> None:
    assert without(source, DOCSTRINGS) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("# a\nx = 1\n", "x = 1\n"),
        ("x = 1  # a\n", "x = 1\n"),
        ("x = 1# a", "x = 1"),
        ("def f():\n    # a\n\n    return 1\n# b", "def f():\n\n    return 1"),
        ("x = '# a'  # b\n", "x = '# a'\n"),
        ("x = '''\n# a\n'''  # b\n", "x = '''\n# a\n'''\n"),
        ("x = f'{1}# a'  # b\n", "x = f'{1}# a'\n"),
        ("x = [\n    1,  # a\n    # b\n    2,\n]\n", "x = [\n    1,\n    2,\n]\n"),
        ("é = 'ü'  # ä\n", "é = 'ü'\n"),
        ("x = 1  # a\r\ny = 2\r\n", "x = 1\ny = 2\n"),
        ("x = 1  # a\ry = 2\r", "x = 1\ny = 2\n"),
        ("x = 1 \\\n# a\n-y\n", "x = 1 \\\n\n-y\n"),  # two statements, not one
        ("# a \\\n# b\nx = 1\n", "x = 1\n"),
        ("x = 1  \n", "x = 1  \n"),  # spaces that no comment follows stay
        ('def f():\n    "# a"\n    return 1\n', 'def f():\n    "# a"\n    return 1\n'),
    ],
)
def test_comments_by_hand(source: str, expected: str) -> None:
    assert without(source, COMMENTS) == expected


NO_TOKENS = "def f():\n    if x:\n        # a\n \\\n\n       return"  # although it has a tree


@pytest.mark.parametrize("what", [[], DOCSTRINGS, COMMENTS, ALL])
@pytest.mark.parametrize(
    "source",
    ["some words of prose", "def f(:\n", "x = '", "x = 1\x00", "print 'a'", "(" * 5000, NO_TOKENS],
)
def test_what_is_not_python_is_none(source: str, what: list[str]) -> None:
    assert without(source, what) is None


def test_nothing_taken_out_is_the_same_text() -> None:
    for source in ("", "\n\n", "x = 1", "x = 1\n\n\n", WITHOUT_DOCSTRINGS):
        assert without(source, []) == source
        assert without(source, DOCSTRINGS) == source
    assert without("x = '#'", ALL) == "x = '#'"


def bare(source: str) -> str:
    """The dumped tree of a program, each definition without the strings that it begins with."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Module):
            while ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:]
            if not node.body and not isinstance(node, ast.Module):
                node.body = [ast.Pass()]
    return ast.dump(tree)


def test_functions_of_a_real_package_lose_their_docstrings_and_comments_alone() -> None:
    found = [d.text for d in extract(["networkx"], "documented_functions")]
    sources = [source for source in found if parse(source)][:200]
    assert len(sources) == 200
    for source in sources:
        assert ast.dump(ast.parse(source)) != bare(source)
        for what, expected in ((DOCSTRINGS, bare(source)), (ALL, bare(source))):
            result = without(source, what)
            assert result is not None and ast.dump(ast.parse(result)) == expected
        kept = without(source, COMMENTS)
        assert kept is not None and ast.dump(ast.parse(kept)) == ast.dump(ast.parse(source))


def test_modules_of_a_real_package_too() -> None:
    root = Path(sysconfig.get_paths()["purelib"], "networkx/algorithms")
    files = sorted(root.glob("*.py"))
    assert len(files) > 50
    for file in files:
        source = file.read_text()
        result = without(source, ALL)
        assert result is not None and ast.dump(ast.parse(result)) == bare(source)
        assert without(result, ALL) == result

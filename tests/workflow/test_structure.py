"""The library's packages: arrows go one way, in the order data flows, and none knows Snakemake."""

import ast
from pathlib import Path

import pytest
from configuration import ROOT

LIBRARY = ROOT / "scripts" / "overtrain"
# Each may import those before it; `configuration` and what is above the packages may import all.
ORDER = [
    "records",
    "config",
    "hub",
    "data",
    "model",
    "training",
    "measuring",
    "studies",
    "figures",
    "planning",
]
MODULES = sorted(LIBRARY.rglob("*.py"))


def imported(path: Path) -> list[tuple[int, str]]:
    """(line, module) of every import in a file, wherever it stands."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            own = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(node.lineno, name) for name in own]
    return found


def package_of(module: str) -> str | None:
    """The library's package that a module's dotted name is in; None for any other."""
    parts = module.split(".")
    return parts[1] if parts[0] == "overtrain" and len(parts) > 1 and parts[1] in ORDER else None


def back_arrows(path: Path, package: str) -> list[str]:
    allowed = ORDER[: ORDER.index(package) + 1]
    return [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for line, module in imported(path)
        if (other := package_of(module)) and other not in allowed
    ]


def test_every_package_has_its_place():
    assert {path.name for path in LIBRARY.iterdir() if (path / "__init__.py").exists()} == set(
        ORDER
    )


@pytest.mark.parametrize("package", ORDER)
def test_no_arrow_goes_back(package):
    files = sorted((LIBRARY / package).rglob("*.py"))
    assert files and [arrow for path in files for arrow in back_arrows(path, package)] == []


def test_an_arrow_that_goes_back_is_seen(tmp_path):
    path = LIBRARY / "data" / "tasks.py"
    assert back_arrows(path, "data") == []
    assert back_arrows(path, "records")  # it imports the hub's client


def test_no_modules_import_each_other_in_a_circle():
    names = {
        ".".join(("overtrain", *p.relative_to(LIBRARY).with_suffix("").parts)): p for p in MODULES
    }
    arrows = {
        name: {module.rsplit(".", cut)[0] for _, module in imported(path) for cut in (0, 1)}
        & names.keys() - {name}
        for name, path in names.items()
    }
    while ends := [name for name, to in arrows.items() if not to & arrows.keys()]:
        for name in ends:
            del arrows[name]
    assert sorted(arrows) == []


def test_no_package_imports_what_is_above_the_packages():
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in MODULES
        if path.parent != LIBRARY
        for line, module in imported(path)
        if module.startswith("overtrain.configuration")
    ]
    assert found == []


def test_the_library_knows_no_snakemake():
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in MODULES
        for line, module in imported(path)
        if module.split(".")[0] == "snakemake"
    ]
    found += [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name) and node.id == "snakemake"
    ]
    assert found == []


def test_no_function_takes_more_than_six_arguments():
    """`self` aside; what belongs together is an object."""
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                own = [a.arg for a in node.args.posonlyargs + node.args.args + node.args.kwonlyargs]
                if len([name for name in own if name not in ("self", "cls")]) > 6:
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert found == []


@pytest.mark.parametrize("package", ORDER)
def test_tests_mirror_the_packages(package):
    assert sorted((ROOT / "tests" / package).glob("test_*.py"))

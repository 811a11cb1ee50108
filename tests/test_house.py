"""The sizes that this code base keeps, and that its packages import each other in one direction."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from statistics import median, quantiles

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("drcli", "data_prep")

MOST_FILES, MOST_LINES = 195, 400
MEDIAN_FUNCTION, LONG_FUNCTION = 6, 16

Graph = Mapping[str, set[str]]


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def trees() -> dict[str, ast.Module]:
    """Every module's source, parsed once, and only where a test of this file is run."""
    return {module_of(path): ast.parse(path.read_bytes()) for package in PACKAGES for path in files(package)}


def function_lines(tree: ast.AST) -> Iterator[int]:
    """Lines of each function, its signature, comments and blank lines counted, docstring and decorators left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            has_docstring = ast.get_docstring(node, clean=False) is not None
            docstring = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
            yield (node.end_lineno or 0) - node.lineno + 1 - docstring


def imported(tree: ast.AST) -> Iterator[str]:
    """Names of modules that are imported anywhere, in functions and for types too; a name may be one in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole path"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(module: str) -> str:
    """The package right below drcli or data_prep, or the module that stands there alone."""
    return ".".join(module.split(".")[:2])


def packages(trees: Mapping[str, ast.AST]) -> dict[str, set[str]]:
    """Which packages each imports."""
    found: dict[str, set[str]] = {package_of(module): set() for module in trees}
    for module, tree in trees.items():
        for name in imported(tree):
            while name and name not in trees:
                name = name.rpartition(".")[0]  # noqa: PLW2901
            if name:
                found[package_of(module)].add(package_of(name))
    return found


def on_cycles(graph: Graph) -> dict[str, list[str]]:
    """What is left of a graph once whatever leads to no other node, and whatever no other leads to, is taken out."""
    left = {node: followers - {node} for node, followers in graph.items()}
    while True:
        reached = set().union(*left.values())
        kept = {node: followers & left.keys() for node, followers in left.items() if node in reached}
        kept = {node: followers for node, followers in kept.items() if followers}
        if kept == left:
            return {node: sorted(followers) for node, followers in left.items()}
        left = kept


def test_the_package_has_few_files() -> None:
    """Those of one method or of a formula that methods share do not count: there may be any number of methods."""
    methods = set((ROOT / "drcli" / "methods").rglob("*.py"))
    assert len(methods) > 1
    assert len(set(files("drcli")) - methods) <= MOST_FILES


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_is_long(package: str) -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_bytes().splitlines()) for path in files(package)}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_are_short(package: str) -> None:
    """Nine in ten have at most LONG_FUNCTION lines."""
    lengths = [n for module, tree in trees().items() if module.split(".")[0] == package for n in function_lines(tree)]
    assert median(lengths) <= MEDIAN_FUNCTION
    assert quantiles(lengths, n=10)[-1] <= LONG_FUNCTION


def test_no_packages_import_each_other() -> None:
    assert on_cycles(packages(trees())) == {}


def test_lines_are_those_of_signature_and_body() -> None:
    source = '''
@decorated
def outer(
    x,
):
    """Say
    it."""

    def inner():
        "One line."

    return inner  # 3 + 1 + 2 + 1 + 1 = 8
'''
    assert list(function_lines(ast.parse(source))) == [8, 1]


def test_packages_that_import_each_other_are_found() -> None:
    """a.x -> b and, for types alone, b.y -> a; c imports both and nothing imports it; d is only imported."""
    sources = {
        "drcli.a.x": "from drcli.b import y",
        "drcli.b.y": "if TYPE_CHECKING:\n    from drcli.a.x import thing",
        "drcli.c": "def later():\n    import drcli.b.y, drcli.a.x",
        "drcli.b": "from drcli import d",
        "drcli.d": "import os",
    }
    graph = packages({module: ast.parse(source) for module, source in sources.items()})
    assert graph["drcli.c"] == {"drcli.a", "drcli.b"}
    assert graph["drcli.b"] == {"drcli.a", "drcli.d"}
    assert on_cycles(graph) == {"drcli.a": ["drcli.b"], "drcli.b": ["drcli.a"]}

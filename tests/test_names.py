"""The table of names, and what it keeps apart: whoever reads it imports no method, model or dataset."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from drcli.api import Backbone, Fusion, Method, Preparer
from drcli.names import BACKBONES, DATASETS, FUSIONS, METHODS
from drcli.registry import Registry

ROOT = Path(__file__).resolve().parent.parent
NAMES = [
    (registry, base, name)
    for registry, base in ((METHODS, Method), (BACKBONES, Backbone), (FUSIONS, Fusion), (DATASETS, Preparer))
    for name in registry.names()
]


@pytest.mark.parametrize(("registry", "base", "name"), NAMES, ids=lambda value: value if isinstance(value, str) else "")
def test_every_name_has_a_class_of_its_kind_and_a_summary_of_one_line(
    registry: Registry, base: type, name: str
) -> None:
    assert issubclass(registry.load(name), base)
    assert 10 < len(registry.summary(name)) < 80


@pytest.mark.parametrize("name", METHODS.names())
def test_year_and_modalities_in_the_list_are_those_of_the_class(name: str) -> None:
    method = METHODS.load(name)
    low, high = method.num_modalities
    number = f"{low}+" if high is None else str(low) if low == high else f"{low}-{high}"
    assert METHODS.columns(name) == ("" if method.year is None else str(method.year), number)


def imports(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports at run time, at its top or in its functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guards = [n for n in ast.walk(tree) if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING"]
    typed = {id(node) for guard in guards for node in ast.walk(guard)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in typed:
            whole = [f"drcli.{name.name}" for name in node.names] if node.module == "drcli" else [node.module]
            yield from (module for module in whole if module.partition(".")[0] in {"drcli", "data_prep"})


def package(module: str) -> str:
    """drcli's packages are nodes of their own, data_prep is one."""
    return "data_prep" if module.startswith("data_prep") else ".".join(module.split(".")[:2])


def imported_by(*places: str) -> set[str]:
    """Packages of ours that files below drcli import at run time."""
    files = [path for place in places for path in sorted((ROOT / "drcli").glob(place))]
    assert files
    return {package(module) for path in files for module in imports(path)}


def test_the_names_import_the_registry_and_nothing_else() -> None:
    """That no package imports itself through others is in test_house.py."""
    assert imported_by("names.py") == {"drcli.registry"}
    assert imported_by("registry.py") <= {"drcli.errors", "drcli.reading", "drcli.terminal"}
    assert imported_by("recipe/*.py").isdisjoint({"drcli.methods", "drcli.models", "data_prep"})

"""`drcli ls`: the names that a recipe can use. Imports neither torch nor pydantic."""

from __future__ import annotations

from rich.table import Table

from drcli.errors import UsageError
from drcli.names import BACKBONES, DATASETS, FUSIONS, METHODS
from drcli.recipe.shipped import shipped_recipes
from drcli.registry import known

REGISTRIES = {"methods": METHODS, "datasets": DATASETS, "backbones": BACKBONES, "fusions": FUSIONS}
KINDS = ("recipes", *REGISTRIES)


def rows(kind: str) -> list[tuple[str, ...]]:
    """Return the names of a kind, and in one line what each is; of methods also year and number of modalities.

    Raises:
        UsageError: there is no such kind.
    """
    if kind == "recipes":
        return [(name, _first_comment(path.read_text(encoding="utf-8"))) for name, path in shipped_recipes().items()]
    if kind not in REGISTRIES:
        raise UsageError(f"ls {kind}: unknown kind; {known(kind, KINDS)}")
    registry = REGISTRIES[kind]
    more = {name: registry.columns(name) for name in registry.names()} if kind == "methods" else {}
    return [(name, *more.get(name, ()), registry.summary(name)) for name in registry.names()]


def _first_comment(text: str) -> str:
    return text.partition("\n")[0].removeprefix("#").strip()


def tables(kind: str | None) -> list[Table]:
    """Return one table per kind, or only that of the requested kind."""
    return [_table(name, rows(name)) for name in ((kind,) if kind is not None else KINDS)]


def _table(title: str, content: list[tuple[str, ...]]) -> Table:
    columns = ("year", "modalities") if title == "methods" else ()
    out = Table("name", *columns, "what it is", title=title, title_justify="left", show_edge=False)
    for row in content:
        out.add_row(*row)
    return out

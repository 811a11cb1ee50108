"""What Python code gives to `drcli.train` and the other functions, in the form that the command line has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from drcli.errors import UsageError
from drcli.recipe.text import spelled
from drcli.report.tables import check_columns

Place: TypeAlias = str | Path

Overrides: TypeAlias = Mapping[str, Any] | Iterable[str] | None
"""Values in place of a recipe's: {"training.epochs": 5}, or ["training.epochs=5"]; None: no such values."""

Series: TypeAlias = Mapping[str, float | Iterable[float]]
"""Numbers by modality: {"audio": [20, 10, 0]}."""


def texts(overrides: Overrides) -> list[str]:
    """Return overrides as KEY=VALUE.

    Raises:
        UsageError: a value is no plain data.
    """
    if overrides is None or isinstance(overrides, str):
        return [] if overrides is None else [overrides]
    if isinstance(overrides, Mapping):
        return [f"{key}={spelled(plain(key, value))}" for key, value in overrides.items()]
    return [str(text) for text in overrides]


def plain(key: str, value: Any) -> Any:
    """Return a value as plain data: paths are texts, and numbers of numpy and torch are Python's.

    Args:
        key: names it in messages.
        value: what is given.

    Raises:
        UsageError: it is no plain data.
    """
    if isinstance(value, Mapping):
        return {str(name): plain(f"{key}.{name}", item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(key, item) for item in value]
    if isinstance(value, Path):
        return str(value)
    value = value.item() if hasattr(value, "item") and not getattr(value, "shape", ()) else value
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UsageError(f"override {key}: {type(value).__name__}; must be text, a number, true or false, a list or a dict")


def listed(given: object) -> str | None:
    """Return one or several values as NAME[,NAME]; None stays None."""
    if given is None or isinstance(given, str):
        return given
    return ",".join(map(str, given)) if isinstance(given, Iterable) else str(given)


def series(given: Series | None) -> list[str]:
    """Return numbers by modality as MODALITY=NUMBER[,NUMBER].

    Raises:
        UsageError: they are not given by modality.
    """
    if given is not None and not isinstance(given, Mapping):
        raise UsageError(f"{given!r}: must be numbers by modality, such as {{'audio': [20, 10]}}")
    return [f"{m}={listed([found] if isinstance(found, int | float) else found)}" for m, found in (given or {}).items()]


def path(place: Place | None) -> Path | None:
    """Return a path; None stays None."""
    return None if place is None else Path(place)


def column_keys(columns: Iterable[str] | None) -> tuple[str, ...] | None:
    """Return the keys of columns, which a text gives as KEY[,KEY]; None stays None.

    Raises:
        UsageError: there is no such column.
    """
    if columns is None:
        return None
    check_columns(keys := tuple(columns.split(",") if isinstance(columns, str) else columns))
    return keys


def at_least(least: int, **given: int | None) -> None:
    """Refuse numbers that are too small.

    Raises:
        UsageError: one is.
    """
    for name, value in given.items():
        if value is not None and value < least:
            raise UsageError(f"{name} = {value}: must be at least {least}")

"""Names of methods, backbones, fusions and datasets, and the classes behind them.

A registry is one explicit table, name -> "module:Class". The class is imported only when it is
needed, so that listing names costs nothing; other packages join through entry points.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from drcli import terminal
from drcli.errors import UsageError
from drcli.reading import one_line


@dataclass(frozen=True)
class Entry:
    """One row of a registry.

    Attributes:
        target: "module:Class", or the class itself.
        summary: what it is, in one line.
        year: of a method, when it was first published; None: it is nobody's.
        modalities: of a method, how many its mathematics allows: "2", "1+" for one or more, "2+" for two or more.
    """

    target: str | type
    summary: str = ""
    year: int | None = None
    modalities: str = ""

    def load(self) -> Any:
        """Import and return the class."""
        if isinstance(self.target, type):
            return self.target
        module, _, attribute = self.target.partition(":")
        return getattr(import_module(module), attribute)


class Registry:
    """A table of names of one kind, resolved lazily.

    Args:
        kind: what the names are, in the singular ("method"); used in messages.
        entries: the built-in names.
        group: entry-point group through which other packages add names.
    """

    def __init__(self, kind: str, entries: Mapping[str, Entry], *, group: str) -> None:
        self.kind = kind
        self._entries = dict(entries)
        self._group = group
        self._plugins: dict[str, EntryPoint] | None = None
        self._registered = 0

    @property
    def has_own(self) -> bool:
        """Whether names are registered for a block, which other processes do not know."""
        return self._registered > 0

    def names(self) -> list[str]:
        """All known names: the built-in ones in their order, then those of other packages."""
        return [*self._entries, *(name for name in self._external() if name not in self._entries)]

    def summary(self, name: str) -> str:
        """What a name means, in one line."""
        if name in self._entries:
            return self._entries[name].summary
        return f"from {self._external()[name].value}"

    def columns(self, name: str) -> tuple[str, str]:
        """The year and the number of modalities of a method, as `drcli ls` prints them; "" where it is not said."""
        entry = self._entries.get(name, Entry(""))
        return "" if entry.year is None else str(entry.year), entry.modalities

    def load(self, name: str) -> Any:
        """Import and return the class of a name.

        Raises:
            UsageError: the name is unknown (the nearest spelling is offered), or the package that
                provides it cannot be imported.
        """
        if name in self._entries:
            return self._entries[name].load()
        if name not in self._external():
            raise UsageError(self.unknown(name))
        try:
            found = self._external()[name].load()
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            if terminal.interrupted():  # the user's own
                raise
            raise UsageError(f"{self.kind} {name!r} ({self.summary(name)}) does not load: {one_line(error)}") from error
        if not hasattr(getattr(found, "Settings", None), "model_validate_json"):
            raise UsageError(
                f"{self.kind} {name!r} ({self.summary(name)}) has no Settings, a class of pydantic that holds its "
                "block of a recipe; tell its author"
            )
        return found

    @contextmanager
    def registered(self, name: str, target: str | type, summary: str = "") -> Iterator[None]:
        """Add a name until the block ends, for tests and notebooks; a known name means `target` meanwhile.

        Args:
            name: as a recipe writes it.
            target: the class, or "module:Class", which is imported when it is needed.
            summary: what it is, in one line.
        """
        before = self._entries.get(name)
        self._entries[name] = Entry(target, summary)  # a known name keeps its place
        self._registered += 1
        try:
            yield
        finally:
            self._registered -= 1
            if before is None:
                del self._entries[name]
            else:
                self._entries[name] = before

    def unknown(self, name: str) -> str:
        """The message for a name that is not in the table."""
        return f"unknown {self.kind} {name!r}; {known(name, self.names())}"

    def _external(self) -> dict[str, EntryPoint]:
        if self._plugins is None:
            self._plugins = {point.name: point for point in installed().select(group=self._group)}
        return self._plugins


@cache
def installed() -> Any:
    """Entry points of every group, to `select` from; their search opens a file of each package, so it is made once."""
    return entry_points()


def known(name: str, names: Iterable[str]) -> str:
    """What is allowed, and the nearest spelling if there is one: "known: a, b. Did you mean a?"."""
    allowed = list(names)
    close = difflib.get_close_matches(name, allowed, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"known: {', '.join(allowed)}.{hint}"

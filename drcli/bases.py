"""What every base class of methods, backbones, fusions and preparers has: a block of settings, and hooks.

A misspelt hook is a method that nothing calls: the class is accepted and does nothing. Helpers are allowed,
so that a name alone cannot be refused for being unknown; one that looks like a hook is.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

SEARCH = "search"
"""Key of a field's JSON schema: the range in which `drcli tune` searches it, as plain data."""

LIKENESS = 0.8
"""From this ratio of difflib on, two names are taken for one and a misspelling of it."""


class Settings(BaseModel, extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True):
    """Unknown keys are refused, values cannot be changed, and a field may have an alias in the recipe.

    A field whose name Python reserves ends in an underscore and has its plain name as its alias:
    `lambda_: float = Field(3.0, alias="lambda")`.
    """


@dataclass(frozen=True)
class Search:
    """The range in which `drcli tune` searches a number of a method's block; both ends belong to it.

    It stands in the type of the field: `alpha: Annotated[float, Search(0.1, 10, log=True)] = Field(1.0)`.

    Args:
        low: its least value.
        high: its greatest.
        log: whether the logarithm of the value is what is drawn evenly; for what spans orders of magnitude.
        source: where the range is from; "ours" where no publication gives one.
        when: names and values of the block's other settings without which the number means nothing.

    Raises:
        ValueError: there is no such range.
    """

    low: float
    high: float
    log: bool = False
    source: str = "ours"
    when: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"no range: {self.low} to {self.high}; on a log scale it begins above 0")

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> Any:
        """Note the range in the field's JSON schema, where `drcli show --explain` and `drcli tune` find it."""
        plain = {"low": self.low, "high": self.high, "log": self.log, "source": self.source}
        return {**handler(core_schema), SEARCH: {**plain, "when": dict(self.when or {})}}


def hooks(base: type) -> list[str]:
    """Return the public names that a base class declares, with or without a default, in their order."""
    declared = dict.fromkeys([*inspect.get_annotations(base), *vars(base)])
    return [name for name in declared if not name.startswith("_")]


def refuse_misspelt(cls: type, base: type) -> None:
    """Refuse a new public name of a class that looks like a hook of its base without being one.

    It looks like one if it is spelt nearly the same, or begins with "on_" as hooks of the base do. Names that a
    base class of `cls` has already are known, whatever they look like.

    Args:
        cls: a class that derives from `base`.
        base: the class that declares the hooks.

    Raises:
        TypeError: there is such a name; the message gives the hook that is nearest.
    """
    declared = hooks(base)
    for name in vars(cls):
        if name.startswith("_") or name in declared or any(hasattr(parent, name) for parent in cls.__bases__):
            continue
        near = _nearest(name, declared)
        if near is not None:
            raise TypeError(
                f"{cls.__name__}.{name}: {base.__name__} has no hook of this name, so it would never be called; "
                f"did you mean {near}? A helper needs another name, or a leading underscore"
            )


def _nearest(name: str, declared: list[str]) -> str | None:
    """Return the hook that a name looks like, or those that begin with "on_"; None if it looks like none."""
    events = [hook for hook in declared if hook.startswith("on_")]
    if events and name.startswith("on_"):
        return " or ".join(events)
    return next(iter(difflib.get_close_matches(name, declared, n=1, cutoff=LIKENESS)), None)

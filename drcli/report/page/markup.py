"""HTML from values: what is not `Html` already is text, and is escaped where it is put in."""

from __future__ import annotations

import html
from collections.abc import Iterable


class Html(str):
    """Text that is HTML; run directories only ever give plain text."""

    __slots__ = ()


def escaped(value: object) -> Html:
    """Return a value as HTML: HTML as it is, everything else as text with `<`, `>`, `&` and quotes escaped."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def joined(parts: Iterable[object], between: str = "") -> Html:
    """Return the parts as HTML, one after the other."""
    return Html(escaped(between).join(map(escaped, parts)))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """Return an element; in names of attributes "_" stands for "-", and one at the end is dropped.

    An attribute that is None or False is left out, one that is True stands without a value.
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items() if _is_said(value))
    return Html(f"<{tag}{written}>{joined(children)}</{tag}>")


def _is_said(value: object) -> bool:
    return value is not None and value is not False  # 0 equals False, and is said


def _attribute(name: str, value: object) -> str:
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escaped(value)}"'

"""What a pickle may name and call: functions that make arrays, text, numbers and containers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from data_prep.sources.pickle_values import (
    SCALARS,
    RefusedError,
    encode,
    from_buffer,
    make_dtype,
    make_empty,
    make_scalar,
    plain_text,
)


class Global:
    """A name that a pickle may refer to; it becomes a value only by being called."""

    __slots__ = ("name",)

    def __init__(self, module: str, name: str) -> None:
        if (module, name) not in _CALLS:
            raise RefusedError(plain_text(f"{module}.{name}"))
        self.name = (module, name)

    def __call__(self, *arguments: Any) -> Any:
        """What the function of that name makes of its arguments."""
        function = _CALLS[self.name]
        if function is None:
            raise RefusedError(f"a call of {'.'.join(self.name)}")
        return function(*arguments)


def keys(items: Iterable[Any]) -> list[Any]:
    """Keys of a dict or items of a set: text, numbers, or tuples of these, whose hash is quick."""
    keys = list(items)
    for key in keys:
        parts = key if type(key) is tuple else (key,)
        if not all(type(part) in SCALARS for part in parts):
            raise RefusedError(f"a key of type {type(key).__name__} that holds others")
    return keys


def _make_dict(pairs: Any = ()) -> dict[Any, Any]:
    """Stand-in for `OrderedDict`, which dict is today."""
    items = list(pairs.items()) if type(pairs) is dict else pairs
    return dict(zip(keys(key for key, _ in items), (value for _, value in items), strict=True))


def _make_default(*_: Any) -> dict[Any, Any]:
    """Stand-in for `defaultdict`: nothing asks it for keys that it lacks."""
    return {}


def _make_bytes(*arguments: Any) -> bytes:
    """Stand-in for `bytes`, which old protocols call for empty ones, or to encode Latin-1."""
    return encode(*arguments) if arguments else b""


def _make_complex(real: Any, imaginary: Any) -> complex:
    """Stand-in for `complex`."""
    if type(real) is not float or type(imaginary) is not float:
        raise TypeError("complex number of other than two numbers")
    return complex(real, imaginary)


def _calls() -> Mapping[tuple[str, str], Callable[..., Any] | None]:
    """What may be named, as Python 2 and 3 and numpy 1 and 2 spell it; None may not be called."""
    table: dict[tuple[str, str], Callable[..., Any] | None] = {
        ("numpy", "ndarray"): None,  # an argument of _reconstruct
        ("numpy", "dtype"): make_dtype,
        ("_codecs", "encode"): encode,
        ("collections", "OrderedDict"): _make_dict,
        ("collections", "defaultdict"): _make_default,
    }
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray", "_reconstruct"] = make_empty
        table[f"{core}.multiarray", "scalar"] = make_scalar
        table[f"{core}.numeric", "_frombuffer"] = from_buffer
    for module in ("builtins", "__builtin__"):
        for kind in (bool, int, float, str, list, tuple, dict):
            table[module, kind.__name__] = None  # an argument of defaultdict
        table[module, "bytes"] = _make_bytes
        table[module, "complex"] = _make_complex
        table[module, "set"] = lambda items=(): set(keys(items))
        table[module, "frozenset"] = lambda items=(): frozenset(keys(items))
    return table


_CALLS = _calls()

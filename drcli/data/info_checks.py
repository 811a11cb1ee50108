"""Checks of single values in `dataset.json`: each returns the value with its type, or names the field.

Every function raises `ValueError` with the field, what it holds and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

RANKS: Mapping[str, int] = {"array": 3, "frames": 4, "flow": 4, "sequence": 2, "vector": 1, "tokens": 1}
"""Number of axes of one sample by kind: (C, H, W), (T, C, H, W), (T, 2, H, W), (L, D), (D,), (L,)."""

WITH_LENGTHS = ("sequence", "tokens")
"""Kinds that are padded at their end, with the number of valid steps of each row in a file."""

BY_DIMENSION = ("sequence", "vector")
"""Kinds that are normalised by their last axis; tokens are not normalised, the others have channels."""

DTYPES = ("float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64")
"""Types of stored arrays, by their numpy names."""

ID_DTYPE = "int32"
"""Type of stored token ids."""

LARGEST_VOCABULARY = 2**24
"""Far above any real one; the table of its embeddings is allocated when a model is built."""

SMALLEST_STD = 1e-38
"""Below it 1 / std is infinite in float32, in which batches are computed."""

_LARGEST = 3e38  # of float32, rounded down


def refuse(field: str, value: Any, allowed: str) -> NoReturn:
    """Raise the error of a field that holds something else than what is allowed."""
    shown = repr(value)
    raise ValueError(f"{field} is {shown if len(shown) <= 80 else shown[:77] + '...'}; it must be {allowed}")


def member(block: Mapping[str, Any], key: str, within: str = "") -> tuple[str, Any]:
    """The full name of a key, and its value; `within` names the block that should have it."""
    field = f"{within}.{key}" if within else key
    if key not in block:
        raise ValueError(f"{field} is missing")
    return field, block[key]


def mapping(field: str, value: Any) -> dict[str, Any]:
    """A JSON object."""
    return value if isinstance(value, dict) else refuse(field, value, "a mapping")


def text(field: str, value: Any) -> str:
    """A string that can be printed."""
    if not isinstance(value, str) or not value or any("\ud800" <= sign <= "\udfff" for sign in value):
        refuse(field, value, "a string of valid characters")
    return value


def file_name(field: str, value: Any) -> str:
    """A modality's name, which names its files: it must stay in its folder."""
    if value in {"", ".", ".."} or "/" in value or "\0" in value:
        refuse(field, value, "a name without a slash")
    return text(field, value)


def class_names(field: str, value: Any) -> tuple[str, ...]:
    """Names in index order, each once."""
    if not isinstance(value, list) or not value:
        refuse(field, value, "a list of class names")
    names = tuple(text(field, name) for name in value)
    if len(set(names)) < len(names):
        doubled = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{field} names {doubled!r} twice; each class must have a name of its own")
    return names


def flag(field: str, value: Any) -> bool:
    """True or false."""
    return value if isinstance(value, bool) else refuse(field, value, "true or false")


def whole(field: str, value: Any) -> int:
    """A whole number from 1."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**63:
        refuse(field, value, "a whole number from 1")
    return value


def sha256(field: str, value: Any) -> str:
    """A digest in hexadecimal digits."""
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        refuse(field, value, "a SHA-256 of 64 hexadecimal digits")
    return value


def choice(field: str, value: Any, allowed: Sequence[str]) -> str:
    """One of some names."""
    return (
        value if isinstance(value, str) and value in allowed else refuse(field, value, "one of " + ", ".join(allowed))
    )


def shape(field: str, value: Any, kind: str) -> tuple[int, ...]:
    """Axes of one sample, as many as its kind has."""
    sizes = value if isinstance(value, list) else refuse(field, value, "a list of whole numbers")
    axes = tuple(whole(field, size) for size in sizes)
    if len(axes) != RANKS[kind] or (kind == "flow" and axes[1] != 2):
        count = f"{RANKS[kind]} {'axis' if RANKS[kind] == 1 else 'axes'}"
        refuse(field, value, f"{count}{', the second of 2,' if kind == 'flow' else ''} for the kind {kind}")
    return axes


def statistics(
    field: str, value: Any, kind: str, axes: Sequence[int], *, least: float = -_LARGEST
) -> tuple[float, ...]:
    """One number, or one for each channel (sequences, vectors: dimension), finite in float32 and at least `least`."""
    channels = {"tokens": 1}.get(kind) or (axes[-1] if kind in BY_DIMENSION else axes[-3])
    found = value if isinstance(value, list) else refuse(field, value, "a list of numbers")
    if len(found) not in {1, channels}:
        raise ValueError(f"{field} has {len(found)} numbers; it must have 1 or {channels}")
    return tuple(number(field, item, least) for item in found)


def mean_and_std(
    block: Mapping[str, Any], within: str, kind: str, axes: Sequence[int]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of a modality, equally many."""
    mean = statistics(*member(block, "mean", within), kind, axes)
    std = statistics(*member(block, "std", within), kind, axes, least=SMALLEST_STD)
    if len(mean) != len(std):
        raise ValueError(
            f"{within} has {len(mean)} means and {len(std)} standard deviations; they must be equally many"
        )
    return mean, std


def token_ids(block: Mapping[str, Any], within: str) -> tuple[int, int]:
    """The number of token ids, which run from 0, and the one of them that fills the padding."""
    field, dtype = member({"dtype": ID_DTYPE, **block}, "dtype", within)
    if dtype != ID_DTYPE:
        refuse(field, dtype, f"{ID_DTYPE} for the kind tokens")
    field, size = member(block, "vocabulary", within)
    vocabulary = whole(field, size)
    if vocabulary > LARGEST_VOCABULARY:
        refuse(field, size, f"{LARGEST_VOCABULARY} at most")
    field, pad = member(block, "pad", within)
    if isinstance(pad, bool) or not isinstance(pad, int) or not 0 <= pad < vocabulary:
        refuse(field, pad, f"a token id from 0 to {vocabulary - 1}")
    return vocabulary, pad


def number(field: str, value: Any, least: float = -_LARGEST) -> float:
    """A number that is finite in float32, and at least `least`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= value <= _LARGEST:  # as NaN is not
        refuse(field, value, "finite" if least < 0 else f"finite and positive (from {least:g})")
    return float(value)

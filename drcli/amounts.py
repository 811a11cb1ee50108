"""Amounts as messages write them: "1 epoch", "2 epochs", "1.5 GB"."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun: "1 epoch", "1,200 epochs".

    Args:
        count: how many.
        one: the noun of one.
        many: of several; "": with an s.
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def in_bytes(count: int) -> str:
    """Return a number of bytes in the unit that suits it: "12 bytes", "1.5 GB"."""
    for size, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if 20_000 * count >= 19_999 * size:  # 999,950 bytes are 1.0 MB, not 1000.0 kB
            return f"{count / size:.1f} {unit}"
    return counted(count, "byte")

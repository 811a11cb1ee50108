"""The window of epochs in which a method acts."""

from __future__ import annotations

from collections.abc import Iterator


def missed(starts: int, ends: int, epochs: int) -> Iterator[str]:
    """Yield what to tell the user where a window (from 0, both ends in it) meets no epoch of the run."""
    if max(starts, 0) > min(ends, epochs - 1):
        yield f"it never acts (starts: {starts}, ends: {ends}, {epochs} epochs): this is joint training"

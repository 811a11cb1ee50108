"""What reading damaged files raises, other than our own errors."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib

NPZ_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    OverflowError,
    tokenize.TokenError,
    AssertionError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""Of numpy and zipfile, by the kind of damage to an .npz file."""


def one_line(error: BaseException) -> str:
    """Return what an error says on one line, or its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


LESS_MEMORY = "lower training.batch_size, or take a smaller model"
_SHORTAGES = ("not enough memory", "can't allocate memory", "out of memory", "Storage size calculation overflowed")


def is_memory_shortage(error: BaseException) -> bool:
    """Return whether an error of Python, numpy or torch says that memory cannot be had."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in _SHORTAGES)

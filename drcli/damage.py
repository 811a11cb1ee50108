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

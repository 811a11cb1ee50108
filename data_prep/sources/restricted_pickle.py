"""Reads pickles of numpy arrays and plain containers, and nothing else.

A pickle is a program: unpickling it may call any function that it names. Python's unpickler is not used;
`pickle_instructions` runs the program itself, and knows no instruction that could do harm.

The file is mapped into memory, and its large arrays are views of it: reading one of many gigabytes takes next to no
memory. Writing to such an array copies the pages that are written to; the file stays as it is.
"""

from __future__ import annotations

import mmap
import sys
from pathlib import Path
from typing import Any

from data_prep.files.opening import open_file
from data_prep.sources.pickle_instructions import run
from data_prep.sources.pickle_values import RefusedError
from drcli.errors import DataError

LARGEST = 16 * 10**9
"""Bytes; the largest of the files in use, CMU-MOSEI's unaligned_50.pkl, has some 12 GB."""

_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)  # named from Python 3.13 on
_FLAGS = mmap.MAP_PRIVATE | _NO_RESERVE
"""What is written stays in memory, of which nothing is set aside: a file may be larger than the memory."""

_DAMAGE = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What the machine raises on a file that is damaged or no pickle at all."""


def load_pickle(path: Path) -> Any:
    """The object in a pickle of Python 2 or 3 that holds numpy arrays, containers, text and numbers.

    Bytes strings of Python 2 become text, byte by byte (Latin-1). Arrays have numbers, text, bytes or such
    objects as elements; those of records or dates are refused. OrderedDict and defaultdict become dict. Arrays from
    64 KiB on lie in the file, where they may be unaligned.

    Raises:
        DataError: the file cannot be read, is not a pickle, is truncated, or asks for anything else;
            the message names what it asks for, and none of it is run.
    """
    with open_file(path, limit=LARGEST) as stream:
        try:
            return run(mmap.mmap(stream.fileno(), 0, flags=_FLAGS, prot=mmap.PROT_READ | mmap.PROT_WRITE))
        except RefusedError as error:
            raise DataError(
                f"{path}: this pickle asks for {error}, which is not part of a numpy array or a plain container; "
                "such a file can run code, so it is not read. Download it again from its authors"
            ) from error
        except _DAMAGE as error:
            what = str(error) or type(error).__name__
            raise DataError(
                f"{path}: cannot be read as a pickle ({what}); it is truncated, or another kind of file under "
                "this name. Download it again"
            ) from error

"""Bounded readers of files: text and JSON of limited size, depth and number of values (YAML: `recipe.plain_yaml`).

A file may come from anywhere, so nothing in it is trusted: only regular files are opened, sizes are checked
before memory is taken, and whatever is wrong is one error that names the file and the remedy. What libraries
raise over damaged files is listed here too.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeAlias

from drcli.errors import DataError, DrcliError

MAX_DEPTH = 32
"""Levels of nesting that a file may have; a guard against recursion, far above any real one."""

MAX_BYTES = 64 * 10**6
"""Bytes of a text file, where a reader sets no smaller limit."""

MAX_VALUES = 2_000_000
"""Values of a JSON file."""

ABSENT = object()
"""In place of a value where there is none."""

_LARGEST = 2**64
_NOT_PRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
# What may stand for a character of that kind, or for a number beyond 64 bits, in the text of JSON.
_SUSPECT = re.compile(r"[\x7f-\x9f]|\\[bf]|\\u(?:00[0189]|[dD][89a-fA-F])|[0-9]{20}")

Refusal: TypeAlias = type[DrcliError]

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

LESS_MEMORY = "lower training.batch_size, or take a smaller model"
_SHORTAGES = ("not enough memory", "can't allocate memory", "out of memory", "Storage size calculation overflowed")


class ContentsError(ValueError):
    """What is wrong with the contents of a file, without its name."""


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading; never waits for one.

    Raises:
        OSError: it cannot be opened, or is a folder, a pipe or a device.
    """
    try:
        _check_regular(path, os.stat(path))  # before it is opened: opening some devices has effects  # noqa: PTH116
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a NUL character
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path)) from error
    stream = os.fdopen(descriptor, "rb")
    try:
        _check_regular(path, os.fstat(descriptor))
    except OSError:
        stream.close()
        raise
    return stream


def _check_regular(path: Path, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_bytes(path: Path, *, remedy: str, limit: int = MAX_BYTES, error: Refusal = DataError) -> bytes:
    """Return the contents of a regular file.

    Args:
        path: the file.
        remedy: what the user can do where it cannot be read; ends the message.
        limit: the most bytes it may have.
        error: what is raised.

    Raises:
        DataError: (or `error`) it cannot be read, is not a regular file, or is larger.
    """
    try:
        with open_regular(path) as stream:
            content = stream.read(limit + 1)
    except OSError as found:
        raise error(f"{path}: cannot be read ({found.strerror or found}); {remedy}") from found
    if len(content) > limit:
        raise error(f"{path}: larger than {limit / 1e6:g} MB; {remedy}")
    return content


def read_text(path: Path, *, remedy: str, limit: int = MAX_BYTES, error: Refusal = DataError) -> str:
    """Return the text of a UTF-8 file, without a byte order mark; arguments and errors as `read_bytes`."""
    content = read_bytes(path, remedy=remedy, limit=limit, error=error)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as found:
        line = content.count(b"\n", 0, found.start) + 1
        raise error(f"{path}, line {line}: not UTF-8 text; {remedy}") from found


def read_json(
    path: Path, *, remedy: str, limit: int = MAX_BYTES, values: int = MAX_VALUES, error: Refusal = DataError
) -> Any:
    """Return the plain data of a JSON file.

    Args:
        path: the file.
        remedy: what the user can do where it cannot be read; ends the message.
        limit: the most bytes it may have.
        values: the most values it may hold.
        error: what is raised.

    Raises:
        DataError: (or `error`) as `read_bytes` and `parse_json`.
    """
    text = read_text(path, remedy=remedy, limit=limit, error=error)
    try:
        return parse_json(text, values=values)
    except ContentsError as found:
        raise error(f"{path}: damaged ({found}); {remedy}") from found


def read_json_object(path: Path, *, remedy: str, error: Refusal = DataError) -> dict[str, Any]:
    """Return the object of a JSON file; arguments and errors as `read_json`."""
    found = read_json(path, remedy=remedy, error=error)
    if not isinstance(found, dict):
        raise error(f"{path}: damaged (not a JSON object); {remedy}")
    return found


def read_json_lines(
    path: Path, *, remedy: str, limit: int = MAX_BYTES, error: Refusal = DataError
) -> list[dict[str, Any]]:
    """Return the objects of a JSON-lines file; a last line that a kill cut short is left out.

    A file that does not exist has no lines. Arguments and errors as `read_json`.
    """
    try:
        content = read_bytes(path, remedy=remedy, limit=limit, error=error)
    except error as found:
        if isinstance(found.__cause__, FileNotFoundError):
            return []
        raise
    lines = content.split(b"\n")[:-1]
    try:
        return [_parse_line(line, number) for number, line in enumerate(lines, start=1)]
    except ContentsError as found:
        raise error(f"{path}: damaged ({found}); {remedy}") from found


def _parse_line(line: bytes, number: int) -> dict[str, Any]:
    try:
        found = parse_json(line.decode())
    except ValueError as error:
        raise ContentsError(f"line {number}: {error}") from error
    if not isinstance(found, dict):
        raise ContentsError(f"line {number}: not a JSON object")
    return found


def parse_json(text: str, *, values: int = MAX_VALUES) -> Any:
    """Return the plain data of JSON.

    Args:
        text: the JSON.
        values: the most values it may hold.

    Raises:
        ContentsError: it is not JSON; it has too many values or levels, a key twice in one object, control
            characters or half surrogate pairs in its strings, or whole numbers beyond 64 bits.
    """
    levels = text.count("[") + text.count("{")
    if levels + text.count(",") > values:
        raise ContentsError(f"more than {values} values")
    try:
        found = json.loads(text, object_pairs_hook=_distinct)
    except ContentsError:
        raise
    except RecursionError as error:
        raise ContentsError(f"nested more than {MAX_DEPTH} levels deep") from error
    except ValueError as error:
        raise ContentsError(f"not JSON: {error}") from error
    if levels > MAX_DEPTH or _SUSPECT.search(text):
        check_values(found)
    return found


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of equal keys Python would keep the last without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for name in names if names.count(name) > 1)
        raise ContentsError(f"the key {shown(doubled)} is given twice")
    return found


def check_values(top: Any) -> None:
    """Check levels, strings and whole numbers of plain data, without recursion.

    Raises:
        ContentsError: too many levels, control characters or half surrogate pairs, or a number beyond 64 bits.
    """
    left = [(top, 1)]
    while left:
        value, depth = left.pop()
        if isinstance(value, dict | list):
            if depth > MAX_DEPTH:
                raise ContentsError(f"nested more than {MAX_DEPTH} levels deep")
            left += [(item, depth + 1) for item in (value.values() if isinstance(value, dict) else value)]
            left += [(name, depth) for name in value] if isinstance(value, dict) else []
        elif isinstance(value, str) and not is_printable(value):
            raise ContentsError(f"control characters in {shown(value)}")
        elif isinstance(value, int) and abs(value) >= _LARGEST:
            raise ContentsError("a whole number beyond 64 bits")


def is_printable(text: str) -> bool:
    """Return whether a text holds no control characters other than tab and line ends, and no half surrogate pairs."""
    return _NOT_PRINTABLE.search(text) is None


def printable(text: str) -> str:
    r"""Return a text with such characters spelled out (`\x1b`, `\udcff`)."""
    return _NOT_PRINTABLE.sub(lambda match: ascii(match[0])[1:-1], text)


def storable(value: Any) -> Any:
    """Return plain data whose strings `read_json` accepts, such as those of a command line that is not UTF-8."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {storable(name): storable(item) for name, item in value.items()}
    return [storable(item) for item in value] if isinstance(value, list | tuple) else value


def differing(there: Any, requested: Any, key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield each place in which two pieces of plain data differ, and what each has there, or ABSENT."""
    if isinstance(there, Mapping) and isinstance(requested, Mapping):
        for name in dict.fromkeys([*there, *requested]):
            yield from differing(there.get(name, ABSENT), requested.get(name, ABSENT), (*key, name))
    elif there != requested:
        yield key, there, requested


def differences(there: Mapping[str, Any], requested: Mapping[str, Any]) -> list[str]:
    """One line for each setting that differs: "image_noise: 0.5 in the folder, 0.3 requested".

    Values are compared as JSON would store them, so that a tuple equals a list.
    """
    plain = (json.loads(json.dumps(dict(settings))) for settings in (there, requested))
    return [
        f"{'.'.join(key)}: {_in_json(found)} in the folder, {_in_json(wanted)} requested"
        for key, found, wanted in differing(*plain)
    ]


def _in_json(value: Any) -> str:
    return "unset" if value is ABSENT else json.dumps(value)


def shown(text: str, limit: int = 40) -> str:
    """Return a text for a message, quoted, escaped and cut to `limit` characters."""
    return ascii(text if len(text) <= limit else text[: limit - 3] + "...")


def one_line(error: BaseException) -> str:
    """Return what an error says on one line, or its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def is_memory_shortage(error: BaseException) -> bool:
    """Return whether an error of Python, numpy or torch says that memory cannot be had."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in _SHORTAGES)

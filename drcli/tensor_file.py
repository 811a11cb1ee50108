"""Reads what `torch.save` writes, as tensors and plain containers: nothing is unpickled, nothing can run.

The archive's `data.pkl` is a pickle, which is a program. Of its instructions only those are followed that build
dictionaries, lists, tuples, text and numbers, and of its functions only those that stand for a tensor over a piece of
the file; whatever else it asks for is refused. Sizes are checked against the file before memory is taken: torch
itself believes a pickle that claims more values than there are, and reads beyond them.
"""

from __future__ import annotations

import math
import pickletools
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from typing import IO, Any

import torch
from torch import Tensor

from drcli.reading import MAX_DEPTH, NPZ_DAMAGE, ContentsError, is_printable, one_line, shown

MAX_PICKLE = 16 * 2**20
"""Bytes of the pickle, in which no values of tensors are."""

MAX_INSTRUCTIONS = 2_000_000
MAX_VALUES = 1_000_000
"""Values in the containers, a tensor counting as one."""

MAX_DIMENSIONS = 16

DTYPES: Mapping[str, torch.dtype] = {
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
}

_OLD_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_OLD_VERSION = 1001


class MoreThanTensorsError(ContentsError):
    """The file asks for something other than tensors and plain containers."""


@dataclass(frozen=True)
class _Name:
    """A function or class that the pickle names: "module name"."""

    text: str


@dataclass(frozen=True)
class _Storage:
    """Values that tensors share, (N,)."""

    values: Tensor


def read_tensors(stream: BufferedReader) -> Any:
    """Return what a file of `torch.save` holds, tensors on the CPU.

    Args:
        stream: the open file, at its beginning; a zip archive, or the format before PyTorch 1.6.

    Raises:
        MoreThanTensorsError: it asks for something other than tensors and plain containers.
        ContentsError: it is not such a file, or is damaged.
    """
    head = stream.read(len(_OLD_MAGIC))
    stream.seek(0)
    try:
        found = _read_old(stream) if head == _OLD_MAGIC else _read_archive(stream)
        return _plain(found)
    except ContentsError:
        raise
    except (*NPZ_DAMAGE, AttributeError) as error:
        raise ContentsError(one_line(error)) from error


def _read_archive(stream: BufferedReader) -> Any:
    with zipfile.ZipFile(stream) as archive:
        members = {info.filename: info for info in archive.infolist()}
        roots = [name.removesuffix("/data.pkl") for name in members if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ContentsError("the archive holds no data.pkl of torch.save")
        storages = _ArchiveStorages(archive, members, roots[0])
        if storages.content("byteorder", sys.byteorder.encode()) != sys.byteorder.encode():
            raise ContentsError("written on a machine of the other byte order")
        return _Machine(storages).run(BytesIO(storages.content("data.pkl")))


class _ArchiveStorages:
    """Storages of a zip archive by their key, read at their first use; zipfile compares their checksums."""

    def __init__(self, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], root: str) -> None:
        self._archive = archive
        self._members = members
        self._root = root
        self._read: dict[tuple[str, torch.dtype], _Storage] = {}

    def content(self, name: str, default: bytes = b"") -> bytes:
        """Return the contents of a small member."""
        info = self._members.get(f"{self._root}/{name}")
        if info is None:
            return default
        self._check(info, MAX_PICKLE)
        return self._archive.read(info)

    def __call__(self, key: str, dtype: torch.dtype, size: int) -> _Storage:
        if (key, dtype) not in self._read:
            info = self._members.get(f"{self._root}/data/{key}")
            if info is None or info.file_size != size * dtype.itemsize:
                raise ContentsError(f"the values of storage {shown(key)} are missing, or not as many as it says")
            self._check(info, info.compress_size)
            with self._archive.open(info) as stream:
                self._read[key, dtype] = _filled(stream, dtype, size)
        return self._read[key, dtype]

    @staticmethod
    def _check(info: zipfile.ZipInfo, limit: int) -> None:
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
            raise ContentsError(f"{shown(info.filename)} is compressed or too large; torch.save writes none such")


def _read_old(stream: BufferedReader) -> Any:
    """Read the format before PyTorch 1.6: pickles, then the values of the storages one after the other."""
    limit = stream.seek(0, 2)
    stream.seek(len(_OLD_MAGIC))
    storages = _OldStorages(limit)
    version, system = (_Machine(storages).run(stream) for _ in range(2))
    if version != _OLD_VERSION or system.get("little_endian") is not (sys.byteorder == "little"):
        raise ContentsError("written by another version of PyTorch, or on a machine of the other byte order")
    found = _Machine(storages).run(stream)
    keys = _Machine(storages).run(stream)
    if sorted(keys) != sorted(storages.taken):
        raise ContentsError("the values of some storages are missing")
    for key in keys:
        storages.fill(key, stream)
    return found


class _OldStorages:
    """Storages whose values follow the pickles."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self.taken: dict[str, _Storage] = {}

    def __call__(self, key: str, dtype: torch.dtype, size: int) -> _Storage:
        if key not in self.taken:
            self._left -= size * dtype.itemsize
            if self._left < 0:
                raise ContentsError(f"storage {shown(key)} is larger than the file")
            self.taken[key] = _Storage(torch.empty(size, dtype=dtype))
        found = self.taken[key]
        if found.values.dtype != dtype or len(found.values) != size:
            raise ContentsError(f"storage {shown(key)} is described in two ways")
        return found

    def fill(self, key: str, stream: IO[bytes]) -> None:
        """Read the values of a storage from where the stream is."""
        values = self.taken[key].values
        if int.from_bytes(stream.read(8), "little") != len(values):
            raise ContentsError(f"the values of storage {shown(key)} are missing, or not as many as it says")
        _fill(values, stream)


def _filled(stream: IO[bytes], dtype: torch.dtype, size: int) -> _Storage:
    values = torch.empty(size, dtype=dtype)
    _fill(values, stream)
    return _Storage(values)


def _fill(values: Tensor, stream: IO[bytes]) -> None:
    """Read the bytes of a tensor (N,); a file that ends before is damaged."""
    raw = values.view(torch.uint8)
    left = memoryview(raw.numpy().data)
    while left:
        piece = stream.read(min(len(left), 2**24))
        if not piece:
            raise ContentsError("the file ends within the values of a tensor")
        left[: len(piece)] = piece
        left = left[len(piece) :]
    stream.read(1 if isinstance(stream, zipfile.ZipExtFile) else 0)  # at its end zipfile compares the checksum
    if values.dtype == torch.bool and bool((raw > 1).any()):
        raise ContentsError("a truth value is neither 0 nor 1")


class _Machine:
    """Follows the instructions of a pickle that build tensors and plain containers.

    Args:
        storage: returns the storage of a key, type and number of values.
    """

    def __init__(self, storage: Callable[[str, torch.dtype, int], _Storage]) -> None:
        self._storage = storage
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: IO[bytes]) -> Any:
        """Return what the pickle at the stream's position builds, and leave the stream behind it."""
        for count, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
            if count > MAX_INSTRUCTIONS:
                raise ContentsError(f"more than {MAX_INSTRUCTIONS} instructions")
            follow = _INSTRUCTIONS.get(instruction.name)
            if follow is None:
                raise MoreThanTensorsError(f"the pickle's instruction {instruction.name} is refused")
            follow(self, argument)
        return self._stack.pop()

    def push(self, value: Any) -> None:
        """Put a number, a text, a container or None on the stack."""
        if isinstance(value, int) and abs(value) >= 2**64:
            raise ContentsError("a whole number beyond 64 bits")
        if isinstance(value, str) and not is_printable(value):
            raise ContentsError(f"control characters in {shown(value)}")
        self._stack.append(value)

    def mark(self) -> None:
        """Remember where the items of the next container begin."""
        self._marks.append(len(self._stack))

    def pop_items(self) -> list[Any]:
        """Take what was pushed since the last mark."""
        start = self._marks.pop()
        items, self._stack = self._stack[start:], self._stack[:start]
        return items

    def push_tuple(self, size: int) -> None:
        """Make a tuple of the last values."""
        if size > len(self._stack):
            raise ContentsError("a tuple of more values than there are")
        items, self._stack = self._stack[-size:], self._stack[:-size]
        self._stack.append(tuple(items))

    def append(self, items: list[Any]) -> None:
        """Add items to the list on top."""
        if type(self._stack[-1]) is not list:
            raise ContentsError("items for something that is not a list")
        self._stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        """Set keys and values, in turns, of the dictionary on top."""
        target = self._stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise ContentsError("items for something that is not a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in {str, int}:
                raise MoreThanTensorsError("a key is neither text nor a whole number")
            target[key] = value

    def put(self, index: int) -> None:
        """Remember the value on top."""
        self._memo[index] = self._stack[-1]

    def get(self, index: int) -> None:
        """Push a value that was remembered."""
        self._stack.append(self._memo[index])

    def name(self, text: str) -> None:
        """Push the name of a function or class; nothing is imported."""
        self._stack.append(_Name(text))

    def persistent(self) -> None:
        """Replace the description of a storage by the storage."""
        kind, name, key, _, size, *view = self._stack.pop()
        if kind != "storage" or not isinstance(name, _Name) or name.text not in DTYPES or any(view):
            raise MoreThanTensorsError(f"the storage {_described(name)} is refused")
        if not isinstance(key, str) or not _are_sizes((size,)):
            raise ContentsError("a storage is not described as torch.save does it")
        self._stack.append(self._storage(key, DTYPES[name.text], size))

    def call(self) -> None:
        """Replace a function's name and its arguments by what it stands for."""
        arguments, name = self._stack.pop(), self._stack.pop()
        stands_for = _FUNCTIONS.get(name.text) if isinstance(name, _Name) else None
        if stands_for is None:
            raise MoreThanTensorsError(f"{_described(name)} is refused")
        self._stack.append(stands_for(*arguments))

    def build(self) -> None:
        """Drop the attributes of a dictionary: `_metadata` of a state_dict."""
        self._stack.pop()
        if type(self._stack[-1]) is not dict:
            raise MoreThanTensorsError("attributes of something that is not a dictionary")

    def pop(self) -> list[Any]:
        """Take the last value, as a list of one."""
        return [self._stack.pop()]

    def pop_pair(self) -> list[Any]:
        """Take the last two values."""
        value, key = self._stack.pop(), self._stack.pop()
        return [key, value]


_Instruction = Callable[[_Machine, Any], None]
_INSTRUCTIONS: Mapping[str, _Instruction] = {
    "PROTO": lambda _, __: None,
    "STOP": lambda _, __: None,
    "MARK": lambda machine, _: machine.mark(),
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"),
        lambda machine, argument: machine.push(argument),
    ),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_items())),
    "TUPLE1": lambda machine, _: machine.push_tuple(1),
    "TUPLE2": lambda machine, _: machine.push_tuple(2),
    "TUPLE3": lambda machine, _: machine.push_tuple(3),
    "APPEND": lambda machine, _: machine.append(machine.pop()),
    "APPENDS": lambda machine, _: machine.append(machine.pop_items()),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop_pair()),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_items()),
    "BINPUT": lambda machine, index: machine.put(index),
    "LONG_BINPUT": lambda machine, index: machine.put(index),
    "BINGET": lambda machine, index: machine.get(index),
    "LONG_BINGET": lambda machine, index: machine.get(index),
    "GLOBAL": lambda machine, text: machine.name(text),
    "BINPERSID": lambda machine, _: machine.persistent(),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
}
"""What is followed, by the instruction's name in `pickletools`."""


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """What `torch._utils._rebuild_tensor` stands for: a view of a storage that does not reach beyond it."""
    if not isinstance(storage, _Storage) or not _are_sizes((offset,)) or not _are_sizes(size) or not _are_sizes(stride):
        raise ContentsError("a tensor is not described as torch.save does it")
    if len(size) != len(stride) or len(size) > MAX_DIMENSIONS:
        raise ContentsError("a tensor has as many strides as dimensions, and few")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    available = len(storage.values)
    if math.prod(size) > available or (math.prod(size) > 0 and last >= available):
        raise ContentsError(f"a tensor of shape {size} reaches beyond its {available} values")
    if math.prod(size) == 0:
        return torch.empty(size, dtype=storage.values.dtype)
    return storage.values.as_strided(size, stride, offset)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, tuple) and all(type(value) is int and 0 <= value < 2**48 for value in values)


def _parameter(tensor: Any, *_: Any) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise ContentsError("a parameter is not a tensor")
    return tensor


def _no_items() -> dict[Any, Any]:
    return {}


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "collections OrderedDict": _no_items,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "torch Size": tuple,
}


def _described(name: Any) -> str:
    return shown(name.text if isinstance(name, _Name) else type(name).__name__)


def _plain(top: Any) -> Any:
    """Return a value whose containers hold only tensors and plain values, not too many nor too deep."""
    left = [(top, 1)]
    for _ in range(MAX_VALUES):
        if not left:
            return top
        value, depth = left.pop()
        if depth > MAX_DEPTH:
            raise ContentsError(f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(value, dict | list | tuple):
            left += [(item, depth + 1) for item in (value.values() if isinstance(value, dict) else value)]
        elif isinstance(value, _Name | _Storage):
            raise MoreThanTensorsError(f"{_described(value)} is neither a tensor nor a plain value")
    raise ContentsError(f"more than {MAX_VALUES} values")

"""Reads and writes .safetensors: tensors by name behind a JSON header, in which nothing can run.

The format is a length of 8 bytes, a JSON object with type, shape and place of each tensor and texts in
`__metadata__`, and the values. The package `safetensors` checks places and sizes; what it leaves open is checked here
before: the size of the header, keys given twice, types.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from io import BufferedReader
from typing import Any

import torch
from torch import Tensor

from drcli.reading import ContentsError, one_line, parse_json, shown

MAX_HEADER = 16 * 2**20
"""Bytes of the header, in which no values of tensors are."""

METADATA = "__metadata__"

TYPES = frozenset({"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"})

_LENGTH = 8


def is_safetensors(head: bytes) -> bool:
    """Return whether a file that begins with these 9 bytes may be a .safetensors; no pickle and no archive is."""
    return head[_LENGTH : _LENGTH + 1] == b"{"


def write_safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return the contents of a file."""
    from safetensors.torch import save

    # A copy on the CPU of each: the package refuses tensors that share memory or have gaps.
    kept = {name: x.detach().cpu().clone(memory_format=torch.contiguous_format) for name, x in tensors.items()}
    contents: bytes = save(kept, dict(metadata))
    return contents


def read_safetensors(stream: BufferedReader) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a file, on the CPU, and its metadata.

    Args:
        stream: the open file, at its beginning.

    Raises:
        ContentsError: it is not such a file, or is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    metadata = _checked_header(_header(stream))
    stream.seek(0)
    try:
        tensors: dict[str, Tensor] = load(stream.read())
    except (SafetensorError, RuntimeError, ValueError, LookupError, TypeError) as error:
        raise ContentsError(one_line(error)) from error
    for name, tensor in tensors.items():
        if tensor.dtype == torch.bool and bool((tensor.view(torch.uint8) > 1).any()):
            raise ContentsError(f"a truth value of {shown(name)} is neither 0 nor 1")
    return tensors, metadata


def _header(stream: BufferedReader) -> Any:
    """Return the header of a file, as plain data."""
    size = stream.seek(0, os.SEEK_END) - _LENGTH
    stream.seek(0)
    length = int.from_bytes(stream.read(_LENGTH), "little")
    if not 0 < length <= min(size, MAX_HEADER):
        raise ContentsError(f"a header of {length} bytes, where at most {max(0, min(size, MAX_HEADER))} can be")
    try:
        return parse_json(stream.read(length).decode())
    except UnicodeDecodeError as error:
        raise ContentsError("the header is not UTF-8 text") from error


def _checked_header(header: Any) -> dict[str, str]:
    """Return the metadata of a header whose entries have the right types."""
    if not isinstance(header, dict):
        raise ContentsError("the header is not a JSON object")
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ContentsError(f"{METADATA} does not hold texts by name")
    for name, entry in header.items():
        kind = entry.get("dtype") if isinstance(entry, dict) else None
        if not isinstance(kind, str) or kind not in TYPES:
            raise ContentsError(f"{shown(name)} is not described as a tensor of {', '.join(sorted(TYPES))}")
    return metadata

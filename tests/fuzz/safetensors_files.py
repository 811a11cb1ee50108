"""Files of .safetensors: what is accepted holds what the file says, and an export what was exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz.mutation import SilentAcceptanceError, mutated, refused
from hypothesis import strategies as st

from drcli.errors import DrcliError
from drcli.models.weight_files import digest, read
from drcli.safetensors_file import METADATA, write_safetensors

STATE = {
    "w": torch.arange(6.0).reshape(2, 3),
    "n": torch.tensor(3),
    "h": torch.ones(2).half(),
    "b": torch.tensor([True]),
}
PLAIN = write_safetensors(STATE, {"format": "pt"})
EXPORTED = write_safetensors(
    STATE, {"drcli": "0", "modality": "m", "backbone": "x", "settings": "{}", "digest": digest(STATE)}
)
_NUMPY = {"F32": "<f4", "F64": "<f8", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}

_WRONG: tuple[Any, ...] = (
    None,
    -1,
    2**63,
    2**70,
    1.5,
    "",
    "x\x1b",
    "F8_E5M2",
    "F64",
    "BOOL",
    [],
    [0],
    [2, 3],
    [2**40, 2**40],
)


def _with_header(header: Any, values: bytes) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return len(text).to_bytes(8, "little") + text + values


def _parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


@st.composite
def _replaced(draw: st.DrawFn) -> bytes:
    """A file with one value of its header replaced by a wrong one."""
    header, values = _parts(draw(st.sampled_from((PLAIN, EXPORTED))))
    name = draw(st.sampled_from(sorted(header)))
    key = draw(st.sampled_from([*sorted(header[name]), None]))
    wrong = draw(st.sampled_from(_WRONG))
    return _with_header({**header, name: wrong if key is None else {**header[name], key: wrong}}, values)


def _doubled() -> bytes:
    header, values = _parts(PLAIN)
    entry = json.dumps(header["w"])
    return _with_header(f'{{"w": {entry}, "w": {entry}}}', values[:24])


def inputs() -> st.SearchStrategy[bytes]:
    """Damage at any place, wrong headers, lengths beyond the file."""
    fixed = (
        PLAIN, EXPORTED, b"", b"{", (2**63).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]",
        _doubled(), _with_header({}, b""), _with_header("{" * 5000, b""),
        write_safetensors({"a": torch.ones(1) / 0}, {}),
    )  # fmt: skip
    return st.one_of(mutated((PLAIN, EXPORTED)), _replaced(), st.sampled_from(fixed))


def check(data: bytes, folder: Path) -> str:
    """Read the weights."""
    path = folder / "weights.safetensors"
    path.write_bytes(data)
    try:
        found = read(str(path))
    except DrcliError as error:
        return refused(error)
    header, values = _parts(data)
    names = set(header) - {METADATA}
    if set(found.tensors) != {name.removeprefix("module.") for name in names} or len(found.tensors) < len(names):
        raise SilentAcceptanceError("other names than the header has")
    for name in names:
        _compare(found.tensors[name.removeprefix("module.")], header[name], values)
    if found.backbone and digest(found.tensors) != digest(STATE):
        raise SilentAcceptanceError("other weights than were exported")
    return "accepted"


def _compare(tensor: torch.Tensor, entry: dict[str, Any], values: bytes) -> None:
    start, end = entry["data_offsets"]
    if list(tensor.shape) != entry["shape"]:
        raise SilentAcceptanceError("another shape than the header says")
    if entry["dtype"] in _NUMPY:
        expected = np.frombuffer(values[start:end], _NUMPY[entry["dtype"]]).reshape(entry["shape"])
        if not np.array_equal(tensor.numpy(), expected):
            raise SilentAcceptanceError("other values than the file holds")

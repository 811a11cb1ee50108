"""Files of pre-trained weights: checksums find every altered byte of a zip archive; nothing raises anything else."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from fuzz.mutation import SilentAcceptanceError, mutated, refused
from hypothesis import strategies as st
from torch import nn

from drcli.errors import DrcliError
from drcli.models.weight_files import read

STATE = {"module.w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3), "h": torch.ones(2).half()}


def _saved(value: Any, *, zipped: bool = True) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def inputs() -> st.SearchStrategy[bytes]:
    """State dicts of both formats with damage, and other things that torch saves."""
    other: st.SearchStrategy[Any] = st.sampled_from(
        (None, 3, [], {"state_dict": {}}, {"state_dict": STATE}, {"a": torch.ones(2) / 0}, nn.ReLU())
    )
    return st.one_of(mutated((_saved(STATE), _saved(STATE, zipped=False))), other.map(_saved))


def check(data: bytes, folder: Path) -> str:
    """Read the weights."""
    path = folder / "weights.pt"
    path.write_bytes(data)
    try:
        found = read(str(path)).tensors
    except DrcliError as error:
        return refused(error)
    expected = {name.removeprefix("module."): tensor for name, tensor in STATE.items()}
    same = all(name in expected and tensor.equal(expected[name]) for name, tensor in found.items())
    if data.startswith(b"PK") and not same:
        raise SilentAcceptanceError("other weights than were saved")
    return "accepted"

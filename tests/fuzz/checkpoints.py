"""Checkpoints with a valid seal and any contents: accepted only where every tensor fits the model, and is finite."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from fuzz.mutation import SilentAcceptanceError, mutated, refused
from hypothesis import strategies as st
from torch import nn

from drcli import checkpoint
from drcli.engine.saved import check_optimizer, check_state, check_tensors, saved
from drcli.errors import DrcliError

MODEL = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
OPTIMIZER = torch.optim.Adam(MODEL.parameters())
MODEL(torch.arange(12.0).reshape(4, 3)).square().sum().backward()
OPTIMIZER.step()
METHOD = {"means": {"audio": torch.ones(2)}, "count": 1}
STATE: dict[str, Any] = {
    "checkpoint_version": 1,
    "recipe": {"modalities": {"audio": {}}, "name": "x"},
    "modalities": ["audio"],
    "dataset_fingerprint": "f",
    "epoch": 3,
    "step": 40,
    "seconds": 1.5,
    "selected": {"epoch": 2, "accuracy": 0.5},
    "model": MODEL.state_dict(),
    "extras": {},
    "method": METHOD,
    "optimizer": OPTIMIZER.state_dict(),
}
_WRONG: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        2**70,
        1.5,
        float("nan"),
        float("inf"),
        "",
        "x\x1b",
        [],
        {},
        {"a": 1},
        {3: 4},
        [None],
        (),
        ("audio",),
    ),
    *(torch.ones(2), torch.ones(2, 3), torch.full((2,), torch.nan), torch.ones(2).double(), torch.ones(2).bool()),
    *(
        torch.zeros(1).expand(2, 3),
        torch.zeros(()),
        torch.ones(2).to_sparse(),
        nn.Parameter(torch.ones(2)),
        torch.float32,
    ),
)


def _sealed(state: Any) -> bytes:
    stream = io.BytesIO()
    checkpoint.write_sealed(stream, state)
    return stream.getvalue()


@st.composite
def _replaced(draw: st.DrawFn) -> bytes:
    """The state with one value, at any depth, replaced by a wrong one, or left out."""
    return _sealed(_with_change(draw, STATE))


def _with_change(draw: st.DrawFn, block: Any) -> Any:
    if not isinstance(block, dict) or not block or (block is not STATE and draw(st.booleans())):
        return draw(st.sampled_from(_WRONG))
    key = draw(st.sampled_from(sorted(block, key=str)))
    rest = {name: value for name, value in block.items() if name != key}
    return rest if draw(st.integers(0, 5)) == 0 else {**rest, key: _with_change(draw, block[key])}


@st.composite
def _resealed(draw: st.DrawFn) -> bytes:
    """A file with damage under a seal that is right again."""
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    stream = io.BytesIO()
    sealing = checkpoint.Sealing(stream)
    sealing.write(memoryview(draw(mutated((buffer.getvalue(),))) + b"\0\0"))
    sealing.seal()
    return stream.getvalue()


def inputs() -> st.SearchStrategy[bytes]:
    """States with wrong values, files with damage, with the seal right and wrong."""
    return st.one_of(_replaced(), _replaced(), _resealed(), mutated((_sealed(STATE),)))


def check(data: bytes, folder: Path) -> str:
    """Load the checkpoint and check it against the model, method and optimizer that it is for."""
    path = folder / "checkpoint.pt"
    path.write_bytes(data)
    try:
        found = saved(checkpoint.load(path), path)
        check_tensors(found.model, MODEL.state_dict(), "model")
        check_tensors(found.extras, {}, "extras")
        check_state(found.method, METHOD, "method")
        check_optimizer(found.optimizer, OPTIMIZER, "optimizer")
    except DrcliError as error:
        return refused(error)
    MODEL.load_state_dict(found.model)
    if not all(tensor.isfinite().all() for tensor in MODEL.state_dict().values()):
        raise SilentAcceptanceError("weights that are not finite")
    return "accepted"

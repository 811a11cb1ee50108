"""FEATURES.npz: whatever is accepted is finite, and has as many rows as labels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.mutation import SilentAcceptanceError, mutated, refused
from hypothesis import strategies as st

from drcli.diagnosis.features_file import load_features
from drcli.errors import DrcliError

GOOD: dict[str, Any] = {
    "labels_train": np.array([3, 3, 7, 7]),
    "labels_val": np.array([7, 3, 3]),
    "audio_train": np.arange(8.0).reshape(4, 2),
    "audio_val": np.arange(6.0).reshape(3, 2),
}
_ARRAYS = (
    *(
        np.zeros(()),
        np.zeros((4, 0)),
        np.zeros((0, 2)),
        np.full((4, 2), np.nan),
        np.full((4, 2), 1e300),
        np.zeros((4, 2, 1)),
    ),
    *(
        np.array(["a", "b", "c", "d"]),
        np.array([b"\xff"] * 4),
        np.zeros(4, "M8[s]"),
        np.zeros(4, "V3"),
        np.zeros((4, 2), "c8"),
    ),
    *(
        np.zeros(4, [("a", "i4")]),
        np.array([2**64 - 1] * 4, "u8"),
        np.zeros((4, 2), ">f2"),
        np.asfortranarray(np.eye(4, 2)),
    ),
    *(np.zeros(4, "U0"), np.zeros((4, 2), "f16"), np.zeros(4, bool), np.array([None] * 4)),
)


def _saved(arrays: dict[str, Any], *, compressed: bool = False) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, allow_pickle=True, **arrays)
    return stream.getvalue()


def inputs() -> st.SearchStrategy[bytes]:
    """A valid file with damage, or with one array replaced by any other."""
    name = st.sampled_from((*GOOD, "x_train", "_val", "../x_train"))
    replaced = st.tuples(name, st.sampled_from(_ARRAYS)).map(lambda pair: _saved({**GOOD, pair[0]: pair[1]}))
    return st.one_of(mutated((_saved(GOOD), _saved(GOOD, compressed=True))), replaced)


def check(data: bytes, folder: Path) -> str:
    """Load the features."""
    path = folder / "features.npz"
    path.write_bytes(data)
    try:
        found = load_features(path)
    except DrcliError as error:
        return refused(error)
    for features, labels in ((found.features_train, found.labels_train), (found.features_val, found.labels_val)):
        if not all(x.isfinite().all() and len(x) == len(labels) for x in features.values()):
            raise SilentAcceptanceError("features are not finite, or not as many as labels")
        if not 0 <= int(labels.min()) <= int(labels.max()) < found.num_classes:
            raise SilentAcceptanceError("labels beyond the classes")
    return "accepted"

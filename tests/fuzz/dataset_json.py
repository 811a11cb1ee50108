"""dataset.json of a prepared dataset."""

from __future__ import annotations

import json
from pathlib import Path

from fuzz.mutate import mutated
from hypothesis import strategies as st

from drcli.data.format import INFO_FILE, SPLITS, DatasetInfo, ModalityInfo, data_files, read_info
from drcli.errors import DrcliError

_MODALITIES = {
    "audio": ModalityInfo((1, 8, 8), "float16", (0.5,), (1.0,), "array"),
    "text": ModalityInfo((50, 3), "float32", (0.0,), (1.0,), "sequence"),
}
VALID = (
    DatasetInfo(
        name="toy",
        classes=("a", "b"),
        modalities=_MODALITIES,
        rows=dict.fromkeys(SPLITS, 4),
        samples=dict.fromkeys(SPLITS, 4),
        settings={"seed": 0},
        source={"fingerprint": "f", "limit": None},
        sha256=dict.fromkeys(data_files(_MODALITIES), "0" * 64),
    )
    .to_json()
    .encode()
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def _replaced(draw: st.DrawFn) -> bytes:
    """One value, at any depth, replaced by any other."""
    raw = json.loads(VALID)
    block = raw
    for _ in range(draw(st.integers(0, 3))):
        inner = [value for value in block.values() if isinstance(value, dict) and value]
        block = draw(st.sampled_from(inner)) if inner else block
    block[draw(st.sampled_from(sorted(block)))] = draw(_VALUES)
    return json.dumps(raw).encode()


def inputs() -> st.SearchStrategy[bytes]:
    """A valid file with damage, or with one value replaced."""
    return st.one_of(mutated((VALID,)), _replaced())


def check(data: bytes, folder: Path) -> str:
    """Read the file, and what is made of it."""
    (folder / INFO_FILE).write_bytes(data)
    try:
        info = read_info(folder)
    except DrcliError:
        return "refused"
    assert len(info.fingerprint) == 64
    assert read_info(folder).to_json() == info.to_json()
    return "accepted"

"""dataset.json of a prepared dataset."""

from __future__ import annotations

import json
import math
from pathlib import Path

from fuzz.mutation import SilentAcceptanceError, as_json, mutated, refused, replaced
from hypothesis import strategies as st

from drcli.data.format import INFO_FILE, SPLITS, DatasetInfo, ModalityInfo, _digest, data_files, read_info
from drcli.errors import DrcliError

_MODALITIES = {
    "audio": ModalityInfo((1, 8, 8), "float16", (0.5,), (1.0,), "array"),
    "text": ModalityInfo((50, 3), "float32", (0.0,), (1.0,), "sequence", masked=True),
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
        sha256=dict.fromkeys(data_files(_MODALITIES, {"audio": 9}, dict.fromkeys(SPLITS, 4), {"audio": 3}), "0" * 64),
        pools={"audio": 9},
        file_rows={"audio": 3},
        format_version=6,
    )
    .to_json()
    .encode()
)


@st.composite
def _resealed(draw: st.DrawFn) -> bytes:
    """One value replaced, under a seal that is right again, or in version 1, which has none."""
    raw = draw(replaced(json.loads(VALID)))
    if isinstance(raw, dict):
        raw.pop("seal", None)
        raw |= {"format_version": 1} if draw(st.booleans()) else {"seal": _digest(raw)}
    return as_json(raw)


def inputs() -> st.SearchStrategy[bytes]:
    """A valid file with damage, or with one value replaced, the seal wrong or right."""
    return st.one_of(mutated((VALID,)), replaced(json.loads(VALID)).map(as_json), _resealed(), _resealed())


def check(data: bytes, folder: Path) -> str:
    """Read the file; what is accepted must be what was written, or sealed again with values that can be."""
    (folder / INFO_FILE).write_bytes(data)
    try:
        info = read_info(folder)
    except DrcliError as error:
        return refused(error)
    raw = json.loads(data)
    if info.format_version > 1 and raw.pop("seal") != _digest(raw):
        raise SilentAcceptanceError("a file that was altered")
    _demand_sense(info)
    assert len(info.fingerprint) == 64
    (folder / INFO_FILE).write_text(info.to_json(), encoding="utf-8")
    assert read_info(folder) == info
    return "accepted"


def _demand_sense(info: DatasetInfo) -> None:
    if len(set(info.classes)) < len(info.classes):
        raise SilentAcceptanceError("two classes of one name")
    for split in SPLITS:
        if not 0 < info.samples[split] <= info.rows[split]:
            raise SilentAcceptanceError(f"{info.samples[split]} samples in {info.rows[split]} rows")
    for spec in info.modalities.values():
        if not all(map(math.isfinite, (*spec.mean, *spec.std))) or min(spec.std) <= 0:
            raise SilentAcceptanceError("a mean or standard deviation that is no such thing")
        if min(spec.shape) < 1 or len(spec.shape) != {"array": 3, "sequence": 2}.get(spec.kind, 4):
            raise SilentAcceptanceError(f"{spec.kind} of the shape {spec.shape}")
        if len(spec.mean) not in {1, spec.shape[-1 if spec.kind == "sequence" else len(spec.shape) - 3]}:
            raise SilentAcceptanceError("neither one mean nor one per channel")

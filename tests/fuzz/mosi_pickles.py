"""CMU-MOSI's pickles in both layouts, a value replaced by another or bytes damaged; the first byte is the layout."""

from __future__ import annotations

import copy
import pickle
from functools import cache, partial
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.mutation import mutated, refused
from hypothesis import strategies as st
from support import mosi_tree as tree

from data_prep.sources.mosi_pickles import read_pickle
from data_prep.sources.mosi_segments import check_contents
from drcli.errors import DataError

COUNTS = {"train": 3, "valid": 3, "test": 3}

ODD: tuple[Any, ...] = (
    None,
    "text",
    b"",
    [],
    {},
    float("nan"),
    2**63,
    np.zeros(0),
    np.float32(np.inf),
    np.zeros((3, 8, 0)),
    np.full((3, 8, 6), np.nan),
    np.zeros((3, 8, 6)),
    np.ones((3, 8, 6), dtype=complex),
    np.full((3, 8, 6), "1.5"),
    np.array([None, 1.5, "x"], dtype=object),
    [[1.0], [2.0, 3.0], 4.0],
    [float("nan"), 4.0, -1],
    [-1, 0, 10**9],
    ["a\nb", "c", "d"],
    [b"\xff", "x" * 300, ("a",)],
    np.zeros((3, 3, 8)),
)


@cache
def tables() -> tuple[tree.Table, tree.Table]:
    """Both layouts with three segments per fold."""
    mmsa = tree.mmsa_table(tree.UNALIGNED)
    return tree.cmu_table(tree.ALIGNED, counts=COUNTS), {
        fold: {key: value[:3] for key, value in entry.items()} for fold, entry in mmsa.items()
    }


def replaced(layout: int, fold: str, key: str, value: Any) -> bytes:
    table = copy.deepcopy(tables()[layout])
    table[fold][key] = value
    return bytes([layout]) + pickle.dumps(table, protocol=4)


def inputs() -> st.SearchStrategy[bytes]:
    """The layout, then a pickle."""
    keys = [st.sampled_from(sorted(table["train"])) for table in tables()]
    folds, values = st.sampled_from(sorted(COUNTS)), st.sampled_from(ODD)
    odd = [st.builds(replaced, st.just(layout), folds, key, values) for layout, key in enumerate(keys)]
    damaged = [
        mutated([pickle.dumps(table, protocol=4)]).map(partial(add, bytes([layout])))
        for layout, table in enumerate(tables())
    ]
    return st.one_of(*odd, *damaged)


def check(data: bytes, folder: Path) -> str:
    """Read it; what is accepted must be finite segments of one width, with labels of CMU-MOSI's range."""
    path = folder / "mosi_data.pkl"
    path.write_bytes(data[1:])
    try:
        contents = read_pickle(path, is_mmsa=data[:1] == b"\x01")
        check_contents(contents, str(path))
    except DataError as error:
        return refused(error)
    for m in ("text", "audio", "visual"):
        assert len({stream.shape[1] for stream in contents.streams(m)}) == 1
        assert all(np.isfinite(stream).all() for stream in contents.streams(m))
        assert any(stream.any() for stream in contents.streams(m))
    for segments in contents.splits.values():
        assert all(-3 <= segment.sentiment <= 3 and segment.id.isprintable() for segment in segments)
    return "accepted"

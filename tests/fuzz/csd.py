"""CMU-MOSI's .csd files: one of the five is damaged; the first byte says which."""

from __future__ import annotations

import tempfile
from functools import cache, partial
from operator import add
from pathlib import Path

import numpy as np
from fuzz.mutation import mutated, refused
from hypothesis import strategies as st
from support import mosi_tree as tree

from data_prep.sources.mosi_csd import choose_files, read_csd
from data_prep.sources.mosi_folds import FOLDS
from data_prep.sources.mosi_segments import check_contents
from drcli.errors import DataError


@cache
def valid() -> tuple[bytes, ...]:
    """The five files of three videos, one in each fold."""
    streams = tree.csd_videos([min(FOLDS[split]) for split in FOLDS])
    with tempfile.TemporaryDirectory() as folder:
        paths = [tree.write_csd(Path(folder) / f"{name}.csd", streams[name]) for name in tree.CSD_NAMES]
        return tuple(path.read_bytes() for path in paths)


def inputs() -> st.SearchStrategy[bytes]:
    """Which file, then its damaged content."""
    return st.one_of([mutated([c]).map(partial(add, bytes([k]))) for k, c in enumerate(valid())])


def check(data: bytes, folder: Path) -> str:
    """Read the five files; what is accepted must be finite, labelled, and within the opinions' times."""
    kind = data[0] % len(tree.CSD_NAMES) if data else 0
    for index, name in enumerate(tree.CSD_NAMES):
        (folder / f"{name}.csd").write_bytes(data[1:] if index == kind else valid()[index])
    try:
        contents = read_csd(choose_files(sorted(folder.glob("*.csd"))), lambda *_: None)
        check_contents(contents, "csd")
    except DataError as error:
        return refused(error)
    for split, segments in contents.splits.items():
        for segment in segments:
            assert segment.id[:11] in FOLDS[split]
            assert -3 <= segment.sentiment <= 3
            lengths = {len(stream) for stream in segment.streams.values()}
            assert len(lengths) == 1
            assert all(np.isfinite(stream).all() for stream in segment.streams.values())
    return "accepted"

"""The tables of bc-LSTM: one of the nine is damaged; the first byte says which."""

from __future__ import annotations

import csv
import io
import math
import re
import tempfile
from functools import cache, partial
from operator import add
from pathlib import Path

import numpy as np
from fuzz.mutation import mutated, refused
from hypothesis import strategies as st
from support import mosi_tree as tree

from data_prep.sources.mosi_segments import check_contents
from data_prep.sources.mosi_utterances import PARTS, Utterances, read_utterances, utterance_files
from drcli.errors import DataError

Tables = dict[str, list[list[str]]]


@cache
def valid() -> dict[str, bytes]:
    """The nine files by role."""
    with tempfile.TemporaryDirectory() as folder:
        source = tree.utterance_download(Path(folder), scores=False) / "bc"
        files = utterance_files(source / "transcripts.csv")
        return {role: path.read_bytes() for role, path in files.items()}


def inputs() -> st.SearchStrategy[bytes]:
    """Which file, then its damaged content."""
    return st.one_of([mutated([c]).map(partial(add, bytes([k]))) for k, c in enumerate(valid().values())])


def check(data: bytes, folder: Path) -> str:
    """Read the nine files; what is accepted must be what an independent reading of them gives."""
    kind = data[0] % len(valid()) if data else 0
    files = {role: folder / f"{role}.csv" for role in valid()}
    for index, (role, content) in enumerate(valid().items()):
        files[role].write_bytes(data[1:] if index == kind else content)
    try:
        found = read_utterances(files, val_videos=2, seed=0)
        check_contents(found.contents, "bc-LSTM")
    except DataError as error:
        return refused(error)
    compare(found, {role: table(path.read_bytes()) for role, path in files.items()})
    return "accepted"


def table(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def compare(found: Utterances, tables: Tables) -> None:
    splits = found.contents.splits
    segments = {segment.id: segment for part in splits.values() for segment in part}
    homes = {"train": {segment.id for segment in splits["train"]}}
    homes["test"] = set(segments) - homes["train"]
    for part in PARTS:
        chosen = [tables["transcripts"][int(row[0])] for row in tables[f"rows_{part}"]]
        assert {row[0] for row in chosen} == homes[part]
        for m in ("text", "audio", "visual"):
            for row, said in zip(tables[f"{m}_{part}"], chosen, strict=True):
                segment = segments[said[0]]
                assert (segment.words, segment.sentiment) == (said[1], 1 if said[3] == row[-1] == "1" else -1)
                assert all(re.fullmatch(r"\s*[-+.\dEeA-Za-z]+\s*", field, re.ASCII) for field in row)
                expected = [x if math.isfinite(x) else 0 for x in map(np.float32, row[:-1])]
                assert segment.streams[m].tolist() == [[float(x) for x in expected]]

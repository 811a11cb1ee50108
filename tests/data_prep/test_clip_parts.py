"""Clips whose arrays lie in several files: the rows of one file, whatever was skipped, stopped or shared out."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command_line import tree
from support.many import Source, make_source

from data_prep.writing import allocation, clips, rows
from drcli.data.format import SPLITS, read_info
from drcli.errors import DataError

ROW = 24
"""Bytes of a clip's row: 2 x 3 numbers of float32."""


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """12 clips of train in files of 5, 5 and 2; 4 clips of val and of test in one file."""
    monkeypatch.setattr(allocation, "LARGEST_FILE", 5 * ROW + 4)


def values(root: Path, split: str) -> list[float]:
    """First value of each row."""
    paths = sorted((root / split).glob("audio*.npy"))
    return np.concatenate([np.load(path) for path in paths])[:, 0, 0, 0].tolist() if paths else []


def in_one_file(source: Source, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(allocation, "LARGEST_FILE", 10**9)
        source.prepare(out, max_bad=0.9)


SKIPPED = {
    "": ["audio.000.npy", "audio.001.npy", "audio.002.npy"],
    "c00": ["audio.000.npy", "audio.001.npy", "audio.002.npy"],
    "c00 c17": ["audio.000.npy", "audio.001.npy"],  # 10 clips are left
    "c00 c06 c11 c16 c17": ["audio.000.npy", "audio.001.npy"],
    "c00 c01 c05 c06 c10 c11 c15": ["audio.npy"],  # 5 clips
    "c03 c08": ["audio.000.npy", "audio.001.npy", "audio.002.npy"],  # of val
}


@pytest.mark.parametrize("broken", SKIPPED)
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_rows_are_those_of_one_file_whichever_clips_were_skipped(
    broken: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source(tmp_path / "source", broken=broken)
    in_one_file(source, tmp_path / "one", monkeypatch)
    info = source.prepare(tmp_path / "many", max_bad=0.9, workers=workers)
    assert sorted(path.name for path in (tmp_path / "many" / "train").glob("audio*")) == SKIPPED[broken]
    assert info.file_rows == ({} if SKIPPED[broken] == ["audio.npy"] else {"audio": 5})
    for split in SPLITS:
        assert values(tmp_path / "many", split) == values(tmp_path / "one", split)
    assert info.modalities == read_info(tmp_path / "one").modalities


@pytest.mark.parametrize("count", [1, 3, 4])
def test_shards_in_parts_are_joined_to_the_bytes_of_one_process(tmp_path: Path, count: int) -> None:
    source = make_source(tmp_path / "source", broken="c00 c13 c19")
    source.prepare(tmp_path / "whole", max_bad=0.5)
    for index in range(count, 0, -1):
        source.shard(tmp_path / "out", f"{index}/{count}", max_bad=0.5)
    source.merge(tmp_path / "out", max_bad=0.5)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.parametrize(
    ("damage", "what"),
    [(Path.unlink, "cannot be read"), (lambda path: np.save(path, np.zeros((1, 1, 2, 3), "f4")), "is damaged")],
    ids=["gone", "short"],
)
def test_a_part_of_a_shard_that_is_gone_or_too_short_is_named(
    damage: Callable[[Path], object], what: str, tmp_path: Path
) -> None:
    source, out = make_source(tmp_path / "source"), tmp_path / "out"
    folder = source.halves(out)
    damage(folder / "rows" / "train" / "audio.000.npy")
    with pytest.raises(DataError, match=rf"train/audio.000.npy: {what}.*; delete .*2-of-2 and repeat .* 2/2"):
        source.merge(out)


SHRUNK = "c00 c01 c05 c06 c10 c11 c15"
"""Of three files of train one is left, and gets another name."""

STEPS = [
    (rows, "_move", 1),
    (Path, "unlink", 1),
    (Path, "unlink", 2),
    (rows, "_shorten", 1),
    (os, "truncate", 1),
    (Path, "replace", 1),
    (clips, "adopt", 1),
    (clips, "adopt", 2),
]


@pytest.mark.parametrize("broken", [SHRUNK, *(pytest.param(text, marks=pytest.mark.slow) for text in SKIPPED)])
@pytest.mark.parametrize(("owner", "step", "nth"), STEPS, ids=[f"{step} {nth}" for _, step, nth in STEPS])
def test_stopped_after_a_file_was_moved_removed_or_cut_the_next_run_gives_the_same_bytes(
    broken: str, owner: Any, step: str, nth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source(tmp_path / "source", broken=broken)
    with monkeypatch.context() as patched:
        stop_after(patched, owner, step, nth)
        with suppress(KeyboardInterrupt):
            source.prepare(tmp_path / "out", max_bad=0.9)
    if (tmp_path / "out").exists():
        assert step == "unlink"  # no file had to go
        return
    source.prepare(tmp_path / "out", max_bad=0.9)
    source.prepare(tmp_path / "whole", max_bad=0.9)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (Path.unlink, "is missing"),
        (lambda path: os.truncate(path, path.stat().st_size - 1), "cannot be read"),
        (lambda path: np.save(path, np.zeros((5, 1, 2, 3))), "is damaged"),
        (lambda path: np.save(path, np.zeros((4, 1, 2, 3), "f4")), "is damaged"),
    ],
    ids=["gone", "cut off", "another type", "short"],
)
def test_a_file_between_others_that_was_damaged_since_the_stop_is_named(
    damage: Callable[[Path], object], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, scratch = make_source(tmp_path / "source"), tmp_path / "out.partial"
    with monkeypatch.context() as patched:
        stop_after(patched, clips, "compact", 1)
        with suppress(KeyboardInterrupt):
            source.prepare(tmp_path / "out")
    damage(scratch / "rows" / "train" / "audio.001.npy")
    with pytest.raises(DataError, match=rf"rows/train/audio\.001\.npy: {what}.*; delete {scratch} and repeat"):
        source.prepare(tmp_path / "out")


def stop_after(patched: pytest.MonkeyPatch, owner: Any, name: str, nth: int) -> None:
    """Let the nth call of a function raise KeyboardInterrupt after it did its work."""
    original, calls = getattr(owner, name), itertools.count(1)

    def stopping(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if next(calls) == nth:
            raise KeyboardInterrupt
        return result

    patched.setattr(owner, name, stopping)

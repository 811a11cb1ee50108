from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.writing.writer import DatasetWriter
from drcli.data import verified
from drcli.data.prepared import open_dataset
from drcli.errors import DataError

ROWS = 40


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset that counts as large: 2 pieces of 16 bytes of a file are compared, of 960 in train/audio.npy."""
    monkeypatch.setattr(verified, "LARGE", 1000)
    monkeypatch.setattr(verified, "PIECES", 2)
    monkeypatch.setattr(verified, "PIECE", 16)
    folder = tmp_path / "toy"
    folder.mkdir()
    writer = DatasetWriter(folder, name="toy", classes=("ant", "bee"))
    for split in ("train", "val", "test"):
        part = writer.split(split, labels=[0, 1] * (ROWS // 2), ids=[f"{split}{n}" for n in range(ROWS)])
        part.array("audio", (1, 1, 10), "float16")[:, 0, 0] = np.arange(10 * ROWS).reshape(ROWS, 10)
    writer.finish(settings={}, source={"fingerprint": "f", "limit": None})
    return folder


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders whose files were read whole."""
    read: list[Path] = []
    real: Callable[..., None] = verified.verify_files

    def note(root: Path, *rest: Any) -> None:
        read.append(root)
        real(root, *rest)

    monkeypatch.setattr(verified, "verify_files", note)
    return read


def change(path: Path, place: int) -> None:
    """Change a byte, and keep the size and the time of the file."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_large_dataset_is_read_whole_once(root: Path, whole: list[Path]) -> None:
    for _ in range(3):
        open_dataset(root)
    assert whole == [root]
    open_dataset(root, everything=True)
    assert whole == [root, root]


def test_a_small_one_is_read_whole_each_time_and_gets_no_receipt(
    root: Path, whole: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verified, "LARGE", 10**9)
    for _ in range(2):
        open_dataset(root)
    assert whole == [root, root]
    assert not (root / verified.RECEIPT).exists()


@pytest.mark.parametrize("place", [0, -1])
def test_a_change_in_a_sampled_piece_is_found_though_size_and_time_are_the_same(root: Path, place: int) -> None:
    open_dataset(root)
    change(root / "val" / "audio.npy", place)
    with pytest.raises(DataError, match=r"val/audio.npy was truncated or altered since it was prepared"):
        open_dataset(root)


def test_a_change_elsewhere_with_another_time_is_found(root: Path) -> None:
    open_dataset(root)
    path = root / "val" / "audio.npy"
    before = path.stat()
    change(path, 500)
    open_dataset(root)  # size, time and sampled pieces are the same: --verify finds it
    with pytest.raises(DataError, match=r"val/audio.npy was truncated or altered"):
        open_dataset(root, everything=True)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    with pytest.raises(DataError, match=r"val/audio.npy was truncated or altered"):
        open_dataset(root)


def test_a_copy_with_other_times_is_read_once_more(root: Path, whole: list[Path]) -> None:
    open_dataset(root)
    for path in root.rglob("*.npy"):
        os.utime(path)
    for _ in range(2):
        open_dataset(root)
    assert whole == [root, root]


@pytest.mark.parametrize("text", ["", "[]", '{"fingerprint": 7}', "\x00", "{" * 10_000])
def test_a_damaged_receipt_refuses_nothing(root: Path, whole: list[Path], text: str) -> None:
    open_dataset(root)
    (root / verified.RECEIPT).write_text(text)
    open_dataset(root)
    assert whole == [root, root]


def test_a_missing_file_is_named(root: Path) -> None:
    open_dataset(root)
    (root / "test" / "labels.npy").unlink()
    with pytest.raises(DataError, match=r"test/labels.npy is missing"):
        open_dataset(root)


@pytest.mark.parametrize(("most", "pieces"), [(1024, 32), (9 * 20, 20), (3, 2)])
def test_of_many_files_fewer_pieces_are_compared_their_ends_at_least(
    root: Path, most: int, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dataset has 9 files."""
    seen: list[int] = []

    def note(_path: Path, _size: int, count: int) -> str:
        seen.append(count)
        return "digest"

    monkeypatch.setattr(verified, "PIECES", 32)
    monkeypatch.setattr(verified, "MOST_PIECES", most)
    monkeypatch.setattr(verified, "sampled_digest", note)
    open_dataset(root)
    assert set(seen) == {pieces}

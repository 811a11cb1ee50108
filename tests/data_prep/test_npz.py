from __future__ import annotations

import io
import os
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from data_prep.sources import npz
from data_prep.sources.npz import read_headers, read_rows, read_whole
from drcli.errors import DataError


@contextmanager
def little_memory(most: int) -> Iterator[None]:
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < most


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    return stream.getvalue()


def archive(path: Path, members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def test_labels_that_unpack_to_much_are_refused_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "LARGEST_WHOLE", 10**6)
    np.savez_compressed(tmp_path / "train.npz", labels=np.zeros((50, 100_000), np.uint8))
    assert (tmp_path / "train.npz").stat().st_size < 10_000
    stored = read_headers(tmp_path / "train.npz")["labels"]
    with little_memory(10**6), pytest.raises(DataError, match=r"would take 5 MB of memory at a time, more than 1 MB"):
        read_whole(stored)


def test_one_sample_that_takes_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "LARGEST_ROW", 10**6)
    np.savez_compressed(tmp_path / "train.npz", audio=np.zeros((1, 2, 10**6), np.uint8))
    stored = read_headers(tmp_path / "train.npz")["audio"]
    with pytest.raises(DataError, match=r"array 'audio' would take 2 MB .* more than 1 MB; save smaller samples"):
        list(read_rows(stored))


def test_an_array_in_fortran_order_is_read_whole_within_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.asfortranarray(np.arange(600, dtype=np.uint8).reshape(2, 300))
    np.savez(tmp_path / "train.npz", audio=array)
    stored = read_headers(tmp_path / "train.npz")["audio"]
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in read_rows(stored)]), array)
    monkeypatch.setattr(npz, "LARGEST_FORTRAN", 500)
    with pytest.raises(DataError, match=r"save numpy\.ascontiguousarray of it"):
        list(read_rows(stored))


def test_an_archive_out_of_proportion_is_refused_by_its_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "train.npz", audio=np.zeros((100, 10**5), np.uint8))
    assert list(read_headers(tmp_path / "train.npz")) == ["audio"]  # 10 MB are no harm
    monkeypatch.setattr(npz, "LARGEST_FORTRAN", 10**6)
    with pytest.raises(DataError, match=r"unpacks from 0\.0 to 10 MB, more than 200 times as much; if that is right"):
        read_headers(tmp_path / "train.npz")
    np.savez(tmp_path / "test.npz", audio=np.zeros((100, 10**5), np.uint8))
    assert list(read_headers(tmp_path / "test.npz")) == ["audio"]


def test_a_header_that_unpacks_to_much_is_refused_in_little_memory(tmp_path: Path) -> None:
    length = 50 * 10**6
    content = b"\x93NUMPY\x02\x00" + length.to_bytes(4, "little") + b" " * length
    path = archive(tmp_path / "train.npz", [("labels.npy", content)])
    del content
    with little_memory(10**6), pytest.raises(DataError, match=r"'labels' is damaged \(header of 50,000,000 bytes"):
        read_headers(path)


def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = archive(tmp_path / "train.npz", [("labels.npy", npy(np.arange(3))), ("labels.npy", npy(np.arange(4)))])
    with pytest.raises(DataError, match="holds two arrays of the same name"):
        read_headers(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_that_numpy_does_not_use_is_refused(tmp_path: Path, method: int) -> None:
    path = archive(tmp_path / "train.npz", [("labels.npy", npy(np.arange(3)))], method)
    with pytest.raises(DataError, match="packed by a method that numpy does not use"):
        read_headers(path)


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    content = npy(np.arange(12, dtype=np.uint8).reshape(3, 4)).replace(b"(3, 4)", b"(-3,-4)"[:7])
    content = content.replace(b"(-3,-4), ", b"(-3,-4),")  # the header's length stays
    path = archive(tmp_path / "train.npz", [("audio.npy", content)])
    with pytest.raises(DataError, match=r"array 'audio' is damaged \(shape \(-3, -4\)\)"):
        read_headers(path)


def test_a_pipe_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train.npz")
    with pytest.raises(DataError, match=r"train\.npz: is a pipe, not a file"):
        read_headers(tmp_path / "train.npz")

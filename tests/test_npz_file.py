"""Arrays of .npz files: sizes are known before memory is taken, and nothing is unpickled."""

from __future__ import annotations

import io
import os
import tracemalloc
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drcli.npz_file import read_npz
from drcli.reading import ContentsError


def refused(path: Path) -> str:
    with pytest.raises(ContentsError) as caught:
        read_npz(path)
    return str(caught.value)


def archive(path: Path, members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as out:
        for name, content in members.items():
            out.writestr(name, content)
    return path


def header(descr: str, shape: str) -> bytes:
    """The header of an .npy file, whatever it claims."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def test_arrays_come_back_as_they_were_saved(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    arrays: dict[str, Any] = {
        "x": np.arange(6.0).reshape(2, 3),
        "names": np.array(["a", "é"]),
        "f": np.asfortranarray(np.eye(3)),
    }
    for save in (np.savez, np.savez_compressed):
        save(path, **arrays)
        found = read_npz(path)
        assert list(found) == list(arrays)
        assert all(found[name].tolist() == array.tolist() for name, array in arrays.items())
    assert list(read_npz(path, wanted=lambda name: name == "names")) == ["names"]


def test_a_bomb_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    """300 MiB of zeros in 0.3 MB."""
    path, size = tmp_path / "a.npz", 300 * 2**20
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out, out.open("x.npy", "w") as stream:
        stream.write(header("|u1", f"({size - 70},)"))
        for _ in range(300):
            stream.write(bytes(2**20))
    tracemalloc.start()
    try:
        said = refused(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
    assert "MB unpack to 315 MB; more than 256 MiB and 16 times the file are refused: save it without" in said


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (header("<f8", "(1000000000000,)"), "array 'x' is damaged (79 bytes, its header says 8000000000079)"),
        (header("<f8", "(-1, -8)"), "array 'x' is damaged"),
        (header("<U0", "(1000000000000,)"), "array 'x' is damaged"),
        (header("|O", "(1,)") + b"cos\nsystem\n", "array 'x' holds Python objects, which are not loaded"),
        (b"no array", "array 'x' is damaged"),
        (b"", "array 'x' is damaged"),
    ],
)
def test_a_header_that_claims_something_else_is_refused(content: bytes, why: str, tmp_path: Path) -> None:
    assert refused(archive(tmp_path / "a.npz", {"x.npy": content})).startswith(why)


def test_members_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    assert refused(archive(tmp_path / "a.npz", {"readme.txt": b"hello"})).startswith("'readme.txt' is not an array")
    assert refused(archive(tmp_path / "a.npz", {"a\x1b.npy": b""})).startswith("'a\\x1b.npy'"[:6])
    lzma = archive(tmp_path / "a.npz", {"x.npy": bytes(100)}, zipfile.ZIP_LZMA)
    assert refused(lzma).startswith("array 'x' is compressed in a way that numpy does not write")


def test_every_flipped_byte_is_found_or_changes_nothing(tmp_path: Path) -> None:
    path, buffer = tmp_path / "a.npz", io.BytesIO()
    np.savez(buffer, x=np.arange(5))
    data = buffer.getvalue()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :])
        try:
            found = read_npz(path)
        except ContentsError:
            continue
        assert [array.tolist() for array in found.values()] in ([], [[0, 1, 2, 3, 4]]), position


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(OSError, match="not a regular file"):
        read_npz(tmp_path / "a.npz")
    with pytest.raises(IsADirectoryError):
        read_npz(tmp_path)

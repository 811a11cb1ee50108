from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.media import LFS_POINTER, lfs_pointer

from data_prep.files.lfs import Pointer, parse_pointer, read_pointer, refuse_pointers
from drcli.errors import DataError

OID = "c6f94b25" * 8


def test_a_pointer_tells_digest_and_size(tmp_path: Path) -> None:
    path = lfs_pointer(tmp_path / "1001_DFA_ANG_XX.wav", oid=OID, size=72862)
    assert 128 <= path.stat().st_size <= 132
    assert read_pointer(path) == Pointer(OID, 72862)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
        lambda text: text.replace("oid", "ext-0-foo sha256:" + "0" * 64 + "\noid"),
    ],
)
def test_variants_of_a_pointer_are_recognised(change: object) -> None:
    text = change(LFS_POINTER.format(oid=OID, size=7))  # type: ignore[operator]
    assert parse_pointer(text.encode()) == Pointer(OID, 7)


@pytest.mark.parametrize(
    "content", [b"", b"RIFF....WAVE", b"version https://git-lfs.github.com/spec/v1\n", b"\xff" * 130]
)
def test_other_files_are_no_pointers(content: bytes, tmp_path: Path) -> None:
    assert parse_pointer(content) is None
    (tmp_path / "file").write_bytes(content)
    assert read_pointer(tmp_path / "file") is None


def test_a_long_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = lfs_pointer(tmp_path / "file")
    path.write_bytes(path.read_bytes() + b" " * 2000)
    assert read_pointer(path) is None


def test_pointers_in_a_download_are_refused_with_the_command_that_fetches_them(tmp_path: Path) -> None:
    paths = [lfs_pointer(tmp_path / f"{i}.wav", size=1_500_000) for i in range(3)]
    (tmp_path / "good.wav").write_bytes(b"RIFF" * 500)
    refuse_pointers(tmp_path, [tmp_path / "good.wav"], ["AudioWAV"])
    with pytest.raises(
        DataError, match=r"0\.wav: a Git LFS pointer.*3 files \(4\.5 MB\).*lfs pull --include 'A/\*,V/\*'"
    ):
        refuse_pointers(tmp_path, [*paths, tmp_path / "good.wav"], ["A", "V"])


def test_a_size_of_a_hundred_digits_is_no_pointer() -> None:
    assert parse_pointer(LFS_POINTER.format(oid=OID, size="9" * 100).encode()) is None


def test_a_pipe_is_no_pointer_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    assert read_pointer(tmp_path / "a.wav") is None

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data_prep.files.folders import find_files, find_named, list_folder
from data_prep.files.opening import open_file, read_file
from drcli.errors import DataError


def test_files_are_found_once_in_a_fixed_order_through_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("b/2.mp4", "b/1.MP4", "a/3.mp4", "a/._3.mp4", "a/notes.txt", ".trash/4.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "5.mp4").touch()
    (root / "c").symlink_to(tmp_path / "disk")
    (root / "a" / "up").symlink_to(root)
    found = [path.relative_to(root).as_posix() for path in find_files(root, frozenset({".mp4"}))]
    assert found == ["a/3.mp4", "b/1.MP4", "b/2.mp4", "c/5.mp4"]


def test_suffixes_are_compared_in_lower_case_and_hidden_files_ignored(tmp_path: Path) -> None:
    for name in ("b.WAV", "a.wav", "c.Wav", "._a.wav", ".a.wav", "a.wave", "wav"):
        (tmp_path / name).touch()
    assert [path.name for path in list_folder(tmp_path, {".wav"})] == ["a.wav", "b.WAV", "c.Wav"]
    assert list_folder(tmp_path / "gone", {".wav"}) == []


def test_a_named_file_is_found_in_any_case_the_exact_one_first(tmp_path: Path) -> None:
    for name in ("Train.CSV", "val.csv", "VAL.csv", "._train.csv"):
        (tmp_path / name).touch()
    assert find_named(tmp_path, "train.csv") == tmp_path / "Train.CSV"
    assert find_named(tmp_path, "val.csv", "train.csv") == tmp_path / "val.csv"
    assert find_named(tmp_path, "test.csv") is None


def test_a_link_that_leads_nowhere_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.wav").symlink_to(tmp_path / "gone")
    assert list_folder(tmp_path, {".wav"}) == []


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def device(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize(("make", "what"), [(pipe, "a pipe"), (device, "a device")])
def test_a_pipe_or_a_device_in_place_of_a_file_is_refused(tmp_path: Path, make: object, what: str) -> None:
    path = make(tmp_path / "a.wav")  # type: ignore[operator]
    message = rf"a\.wav: is {what}, not a file; replace it by the file from the download"
    with pytest.raises(DataError, match=message):
        list_folder(tmp_path, {".wav"})
    with pytest.raises(DataError, match=message):
        list(find_files(tmp_path, {".wav"}))
    with pytest.raises(DataError, match=message):
        open_file(path)


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder, not a file"):
        open_file(tmp_path)
    with pytest.raises(DataError, match=r"cannot be read \(No such file"):
        open_file(tmp_path / "gone")
    with pytest.raises(DataError, match="cannot be read"):
        open_file(tmp_path / "a\0b")


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 1000)
    assert read_file(path, limit=1000) == b"x" * 1000
    with pytest.raises(DataError, match=r"a: has 0\.0 MB, more than the 0\.0 MB that such a file may have"):
        read_file(path, limit=999)


def test_a_file_that_states_no_size_is_read_up_to_its_limit() -> None:
    path = Path("/proc/self/status")
    if not path.exists():
        pytest.skip("this system has no /proc")
    with pytest.raises(DataError, match="such a file may have"):
        read_file(path, limit=10)


def test_a_folder_with_the_suffix_of_a_file_is_refused_beside_files_and_searched_below(tmp_path: Path) -> None:
    (tmp_path / "a.wav").mkdir()
    (tmp_path / "a.wav" / "b.wav").touch()
    with pytest.raises(DataError, match=r"a\.wav: is a folder, not a file"):
        list_folder(tmp_path, {".wav"})
    assert list(find_files(tmp_path, {".wav"})) == [tmp_path / "a.wav" / "b.wav"]

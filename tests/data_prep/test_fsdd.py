from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from data_prep.sources.fsdd import list_recordings, read_wav
from drcli.errors import DataError


def write(path: Path, *, rate: int = 8000, channels: int = 1, width: int = 2, count: int = 4) -> Path:
    with wave.open(str(path), "wb") as stream:
        stream.setframerate(rate)
        stream.setnchannels(channels)
        stream.setsampwidth(width)
        stream.writeframes(np.array([0, 16384, -32768, 32767], dtype="<i2").tobytes()[: count * channels * width])
    return path


def test_samples_are_scaled_to_one(tmp_path: Path) -> None:
    assert read_wav(write(tmp_path / "a.wav")).tolist() == [0.0, 0.5, -1.0, 32767 / 32768]


@pytest.mark.parametrize(
    ("take", "split"), [(0, "test"), (4, "test"), (5, "val"), (9, "val"), (10, "train"), (49, "train")]
)
def test_takes_belong_to_the_official_splits(tmp_path: Path, take: int, split: str) -> None:
    write(tmp_path / f"7_theo_{take}.wav")
    (recording,) = list_recordings(tmp_path)
    assert (recording.digit, recording.speaker, recording.index) == (7, "theo", take)
    assert (recording.split, recording.name) == (split, f"7_theo_{take}")


def test_recordings_are_found_in_the_folder_or_below_in_order(tmp_path: Path) -> None:
    for name in ("0_b_0", "0_a_10", "0_a_9"):
        write(tmp_path / f"{name}.wav")
    assert [recording.name for recording in list_recordings(tmp_path)] == ["0_a_9", "0_a_10", "0_b_0"]
    (tmp_path / "recordings").mkdir()
    write(tmp_path / "recordings" / "5_c_1.wav")
    assert [recording.name for recording in list_recordings(tmp_path)] == ["5_c_1"]


def test_no_recordings_is_an_error_that_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no recordings/\*.wav here; expected the recordings of the Free Spoken"):
        list_recordings(tmp_path)


@pytest.mark.parametrize("name", ["seven_theo_1.wav", "7_theo.wav", "77_theo_1.wav", "7_theo_x.WAV"])
def test_an_unexpected_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"unexpected name; expected \{digit\}_\{speaker\}_\{index\}.wav") as caught:
        list_recordings(tmp_path)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"channels": 2, "count": 2}, "8000 Hz, 2 channels, 16 bits; expected 8000 Hz, 1 channel, 16 bits"),
        ({"rate": 16000}, "16000 Hz, 1 channels, 16 bits"),
        ({"width": 1}, "8000 Hz, 1 channels, 8 bits"),
        ({"count": 0}, "0 of 0 samples are there"),
    ],
)
def test_another_format_is_refused(tmp_path: Path, form: dict[str, int], message: str) -> None:
    path = write(tmp_path / "7_theo_1.wav", **form)
    with pytest.raises(DataError, match=message) as caught:
        read_wav(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("keep", "message"),
    [(0, "not a readable WAV"), (20, "not a readable WAV"), (48, "2 of 4 samples are there; truncated")],
)
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int, message: str) -> None:
    path = write(tmp_path / "7_theo_1.wav")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=message):
        read_wav(path)


def test_text_in_place_of_sound_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataError, match=r"a.wav: not a readable WAV file \(file does not start with RIFF id\)"):
        read_wav(tmp_path / "a.wav")


def test_recordings_with_suffixes_in_capitals_are_found_and_hidden_files_are_not(tmp_path: Path) -> None:
    for name in ("0_a_1.wav", "0_a_2.WAV", "0_b_1.Wav"):
        write(tmp_path / name)
    for name in ("._0_a_1.wav", ".wav", "._0_a_3.WAV"):
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
    assert [recording.name for recording in list_recordings(tmp_path)] == ["0_a_1", "0_a_2", "0_b_1"]


@pytest.mark.parametrize("name", ["7_theo_1.WAV", "7_theo_01.wav"])
def test_a_recording_under_two_names_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "7_theo_1.wav")
    write(tmp_path / name)
    with pytest.raises(DataError, match=r"the same recording as .*; remove one of the files"):
        list_recordings(tmp_path)


def test_a_header_that_claims_more_than_the_file_has_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "7_theo_1.wav")
    content = bytearray(path.read_bytes())
    content[40:44] = (2**31).to_bytes(4, "little")  # the size of the chunk of samples
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="4 of 1073741824 samples are there; truncated"):
        read_wav(path)

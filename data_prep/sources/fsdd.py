"""The Free Spoken Digit Dataset: its file names, its official split, its WAV files."""

from __future__ import annotations

import io
import re
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.files.folders import list_folder
from data_prep.files.opening import read_file
from drcli.errors import DataError

RATE = 8000  # Hz
LONGEST_FILE = 16 * 10**6  # bytes; 1,000 seconds, and the longest recording lasts 2.3
_NAME = re.compile(r"(\d)_([A-Za-z]+)_(\d{1,9})", re.ASCII)


@dataclass(frozen=True)
class Recording:
    """One spoken digit.

    Attributes:
        path: the WAV file.
        digit: what is said, 0 ... 9.
        speaker: name of the speaker.
        index: which take, from 0.
    """

    path: Path
    digit: int
    speaker: str
    index: int

    @property
    def name(self) -> str:
        """The id, the file's name without its ending."""
        return self.path.stem

    @property
    def split(self) -> str:
        """The official test takes are 0-4; the next five are validation, the rest training."""
        if self.index < 5:
            return "test"
        return "val" if self.index < 10 else "train"


def list_recordings(source: Path) -> list[Recording]:
    """All recordings of a download, by digit, speaker and take.

    Args:
        source: holds `recordings/*.wav`, or the WAV files themselves.

    Raises:
        DataError: there are none, one is there twice, or a file's name is not {digit}_{speaker}_{index}.wav.
    """
    folder = source / "recordings" if (source / "recordings").is_dir() else source
    recordings = [_parse(path) for path in list_folder(folder, {".wav"})]
    if not recordings:
        raise DataError(
            f"{source}: no recordings/*.wav here; expected the recordings of the Free Spoken Digit Dataset, "
            "named {digit}_{speaker}_{index}.wav"
        )
    _refuse_doubles(recordings)
    return sorted(recordings, key=_identity)


def _identity(recording: Recording) -> tuple[int, str, int]:
    return recording.digit, recording.speaker, recording.index


def _refuse_doubles(recordings: Sequence[Recording]) -> None:
    """Check that no recording is there under two names, as 7_theo_1.wav and 7_theo_1.WAV."""
    first: dict[tuple[int, str, int], Recording] = {}
    for recording in recordings:
        other = first.setdefault(_identity(recording), recording)
        if other is not recording:
            raise DataError(f"{recording.path}: the same recording as {other.path.name}; remove one of the files")


def _parse(path: Path) -> Recording:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        raise DataError(f"{path}: unexpected name; expected {{digit}}_{{speaker}}_{{index}}.wav, as 7_theo_12.wav")
    return Recording(path, int(match[1]), match[2], int(match[3]))


def read_wav(path: Path) -> NDArray[np.float64]:
    """The samples (S,) of an 8 kHz mono 16-bit WAV file, in [-1, 1).

    Raises:
        DataError: the file is damaged, empty, or of another format.
    """
    try:
        with wave.open(io.BytesIO(read_file(path, limit=LONGEST_FILE)), "rb") as stream:
            form = (stream.getframerate(), stream.getnchannels(), 8 * stream.getsampwidth())
            expected = stream.getnframes()
            content = stream.readframes(expected)
    except (wave.Error, EOFError, OSError, ArithmeticError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: not a readable WAV file ({error}); download it again") from error
    if form != (RATE, 1, 16):
        raise DataError(
            f"{path}: {form[0]} Hz, {form[1]} channels, {form[2]} bits; expected {RATE} Hz, 1 channel, 16 bits"
        )
    if not content or len(content) != 2 * expected:
        raise DataError(
            f"{path}: {len(content) // 2} of {expected} samples are there; truncated or empty, fetch it again"
        )
    return np.frombuffer(content, "<i2") / 32768.0

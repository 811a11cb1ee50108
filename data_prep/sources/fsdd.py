"""The Free Spoken Digit Dataset: its file names, its official split, its WAV files."""

from __future__ import annotations

import re
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drcli.errors import DataError

RATE = 8000  # Hz
_NAME = re.compile(r"(\d)_([A-Za-z]+)_(\d+)\.wav")


@dataclass(frozen=True)
class Recording:
    """One spoken digit.

    Attributes:
        path: the WAV file.
        digit: what is said, 0 ... 9.
        speaker: who says it.
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
        DataError: there are none, or a file's name is not {digit}_{speaker}_{index}.wav.
    """
    folder = source / "recordings" if (source / "recordings").is_dir() else source
    recordings = [_parse(path) for path in folder.glob("*.wav")]
    if not recordings:
        raise DataError(
            f"{source}: no recordings/*.wav here; expected the recordings of the Free Spoken Digit Dataset, "
            "named {digit}_{speaker}_{index}.wav"
        )
    return sorted(recordings, key=lambda recording: (recording.digit, recording.speaker, recording.index))


def _parse(path: Path) -> Recording:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise DataError(f"{path}: unexpected name; expected {{digit}}_{{speaker}}_{{index}}.wav, as 7_theo_12.wav")
    return Recording(path, int(match[1]), match[2], int(match[3]))


def read_wav(path: Path) -> NDArray[np.float64]:
    """The samples (S,) of an 8 kHz mono 16-bit WAV file, in [-1, 1).

    Raises:
        DataError: the file is damaged, empty, or of another format.
    """
    try:
        with wave.open(str(path), "rb") as stream:
            form = (stream.getframerate(), stream.getnchannels(), 8 * stream.getsampwidth())
            expected = stream.getnframes()
            content = stream.readframes(expected)
    except (wave.Error, EOFError, OSError) as error:
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

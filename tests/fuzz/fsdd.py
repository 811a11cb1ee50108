"""WAV files of the spoken digits."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
from fuzz.mutation import mutated, refused
from hypothesis import strategies as st

from data_prep.sources.fsdd import read_wav
from drcli.errors import DataError


def valid() -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(np.arange(-40, 40, dtype="<i2").tobytes())
    return stream.getvalue()


def inputs() -> st.SearchStrategy[bytes]:
    """A damaged recording."""
    return mutated([valid()])


def check(data: bytes, folder: Path) -> str:
    """Read it; what is accepted must be samples that the file holds, in the order in which it holds them."""
    path = folder / "7_theo_1.wav"
    path.write_bytes(data)
    try:
        samples = read_wav(path)
    except DataError as error:
        return refused(error)
    assert len(samples) > 0
    assert (samples * 32768).astype("<i2").tobytes() in data
    return "accepted"

"""JPEG files of pre-computed pictures and flow."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from fuzz.mutation import mutated, refused
from hypothesis import strategies as st

from data_prep.media import ClipError
from data_prep.media.container import MAX_PIXELS
from data_prep.sources.image_folders import jpeg_size, read_image
from drcli.errors import DataError

PICTURE = np.arange(24 * 32 * 3, dtype=np.uint8).reshape(24, 32, 3)
VALID = [
    cv2.imencode(".jpg", PICTURE, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])[1].tobytes() for progressive in (0, 1)
]


def inputs() -> st.SearchStrategy[bytes]:
    """A damaged picture."""
    return mutated(VALID)


def check(data: bytes, folder: Path) -> str:
    """Read it in colours and in grey; what is accepted must have the size that its header says."""
    path = folder / "frame000001.jpg"
    path.write_bytes(data)
    try:
        picture, grey = read_image(path), read_image(path, grey=True)
    except ClipError as error:
        return refused(DataError(f"{error.reason}: {error.detail}"))
    assert picture.shape == (*grey.shape, 3)
    assert picture.shape[:2] in {jpeg_size(data), (jpeg_size(data) or (0, 0))[::-1]}  # EXIF may turn it
    assert grey.size <= MAX_PIXELS
    return "accepted"

"""Clips whose display matrix turns or mirrors them come out as a player shows them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.media import make_video, set_matrix
from support.ucf101_tree import moving_texture

from data_prep.media import ClipError, probe, read_frames
from data_prep.media.orientation import UPRIGHT, Orientation

Pixels = NDArray[np.uint8]
Matrix = tuple[float, float, float, float]

# Matrix [a b; c d], what a player does with the picture (H, W), and degrees counterclockwise after mirroring.
MATRICES: dict[str, tuple[Matrix, Callable[[Pixels], Pixels], bool, int]] = {
    "upright": ((1, 0, 0, 1), lambda p: p, False, 0),
    "clockwise": ((0, 1, -1, 0), lambda p: p.T[:, ::-1], False, 270),
    "upside down": ((-1, 0, 0, -1), lambda p: p[::-1, ::-1], False, 180),
    "counterclockwise": ((0, -1, 1, 0), lambda p: p.T[::-1], False, 90),
    "mirrored left to right": ((-1, 0, 0, 1), lambda p: p[:, ::-1], True, 0),
    "mirrored top to bottom": ((1, 0, 0, -1), lambda p: p[::-1], True, 180),
    "transposed": ((0, 1, 1, 0), lambda p: p.T, True, 90),
    "transposed the other way": ((0, -1, -1, 0), lambda p: p.T[::-1, ::-1], True, 270),
}


def matrix_bytes(matrix: Matrix) -> bytes:
    a, b, c, d = (round(value * 65536) for value in matrix)
    return struct.pack("=9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)


def placed(picture: Pixels, matrix: Matrix) -> Pixels:
    """Each pixel (p, q) where the matrix puts it, moved so that the least coordinates are 0."""
    a, b, c, d = matrix
    pixels = [(a * p + c * q, b * p + d * q, v) for (q, p), v in np.ndenumerate(picture)]
    left, top = min(x for x, _, _ in pixels), min(y for _, y, _ in pixels)
    shape = picture.shape if a else picture.shape[::-1]
    shown = np.zeros(shape, picture.dtype)
    for x, y, value in pixels:
        shown[int(y - top), int(x - left)] = value
    return shown


@pytest.mark.parametrize("name", MATRICES)
def test_an_orientation_puts_pixels_where_its_matrix_says(name: str) -> None:
    matrix, shows, mirrored, degrees = MATRICES[name]
    picture = np.arange(6, dtype=np.uint8).reshape(2, 3)
    orientation = Orientation.from_matrix(matrix_bytes(matrix))
    assert orientation == Orientation(mirrored, degrees // 90)
    np.testing.assert_array_equal(orientation.apply(picture[None])[0], placed(picture, matrix))
    np.testing.assert_array_equal(shows(picture), placed(picture, matrix))


@pytest.mark.parametrize("name", MATRICES)
def test_a_clip_comes_out_as_a_player_shows_it(tmp_path: Path, name: str) -> None:
    matrix, shows, mirrored, degrees = MATRICES[name]
    path = texture_clip(tmp_path / "a.mp4")
    stored = read_frames(path, [0.1], size=(48, 80)).pixels[0]
    set_matrix(path, matrix, (80 if min(matrix[:3:2]) < 0 else 0, 48 if min(matrix[1::2]) < 0 else 0))
    expected = np.stack([shows(channel) for channel in stored])
    found = read_frames(path, [0.1], size=(expected.shape[1], expected.shape[2])).pixels[0]
    np.testing.assert_array_equal(found, expected)
    info = probe(path)
    assert (info.mirrored, info.rotation) == (mirrored, degrees)


def texture_clip(path: Path) -> Path:
    """A clip of 80 x 48 whose pictures have no symmetry."""
    import av

    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 80, "yuv420p"
        for number, pixels in enumerate(moving_texture(5, (1, 0), size=(48, 80))):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    "matrix", [(0.7071, 0.7071, -0.7071, 0.7071), (1, 0, 0.5, 1), (1, 0, 1, 0), (0, 0, 0, 1), (0, 0, 0, 0)]
)
def test_a_matrix_that_is_none_of_the_eight_skips_the_clip_with_its_numbers(tmp_path: Path, matrix: Matrix) -> None:
    path = set_matrix(make_video(tmp_path / "a.mp4"), matrix)
    with pytest.raises(ClipError) as caught:
        read_frames(path, [0.1], size=(48, 64))
    assert caught.value.reason == "not upright"
    assert f"[{', '.join(f'{value:.4g}' for value in matrix)}] neither turns by right angles" in caught.value.detail
    with pytest.raises(ClipError, match="not upright"):
        probe(path)


def test_a_scaled_matrix_counts_as_its_directions() -> None:
    assert Orientation.from_matrix(matrix_bytes((1.3333, 0, 0, 1))) == UPRIGHT
    assert Orientation.from_matrix(matrix_bytes((0, -2, 2, 0))) == Orientation(False, 1)
    with pytest.raises(ValueError, match="4 bytes instead of 36"):
        Orientation.from_matrix(b"\0\0\0\0")

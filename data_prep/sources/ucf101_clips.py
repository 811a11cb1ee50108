"""What is taken from one clip of UCF-101: pictures at fixed positions, and the optical flow that starts there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.media import ClipError, probe, read_frames
from data_prep.media.flow import Method, compute_flow, dequantise, quantise, resize_flow
from data_prep.sources.image_folders import Series, read_image, resize_image

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Taken:
    """What was taken from a clip.

    Attributes:
        rgb: (P, 3, H, W) the frames shown at the positions.
        flow: (P, 2, H, W) flow from each of them to the next frame, as `data_prep.media.flow.quantise` stores it.
        bad_packets: packets that did not decode.
    """

    rgb: Pixels
    flow: Pixels
    bad_packets: int


@dataclass(frozen=True)
class Reader:
    """Takes pictures and flow from clips: decoded and computed, or imported.

    Attributes:
        positions: P, how many.
        size: H and W.
        method: how flow is computed; ignored where flow is imported.
        pictures: where the extracted pictures are; None decodes the clip.
        flow: where the horizontal and vertical flow images are; None computes flow.
    """

    positions: int
    size: tuple[int, int]
    method: Method
    pictures: Series | None = None
    flow: tuple[Series, Series] | None = None

    def take(self, class_name: str, video: str, path: Path | None) -> Taken:
        """Pictures and flow of one clip.

        Args:
            class_name: folder of its class.
            video: its name without suffix.
            path: its file; None where pictures are imported.

        Raises:
            ClipError: the clip or its pre-computed images are missing, damaged or too short.
        """
        if self.pictures is not None:
            shown, bad = self._extracted(self.pictures.images(class_name, video)), 0
        else:
            assert path is not None
            shown, bad = self._decoded(path)
        if self.flow is not None:
            u, v = (series.images(class_name, video) for series in self.flow)
            return Taken(shown, self._imported(u, v), bad)
        first, following = shown[: self.positions], shown[self.positions :]
        return Taken(first, self._computed(first, following), bad)

    def _wanted(self, count: int) -> list[int]:
        """Frames to read: those at the positions, then, to compute flow, those that follow them."""
        chosen = frame_numbers(count, self.positions)
        return chosen if self.flow is not None else [*chosen, *(number + 1 for number in chosen)]

    def _decoded(self, path: Path) -> tuple[Pixels, int]:
        """The wanted frames of a clip (., 3, H, W), and the number of bad packets."""
        info = probe(path)
        if info.video_codec is None:
            raise ClipError("no video stream", "there is only sound")
        rate = info.rate
        if rate is None:
            raise ClipError("unreadable", "it states no frame rate")

        def times(duration: float) -> list[float]:
            # The clips have constant rates; the middle of a frame's time keeps rounding from its neighbours.
            return [(number + 0.5) / rate for number in self._wanted(round(duration * rate))]

        frames = read_frames(path, times, size=self.size)
        return frames.pixels, frames.bad_packets

    def _extracted(self, images: Sequence[Path]) -> Pixels:
        """The wanted ones of a clip's extracted pictures, (., 3, H, W)."""
        pictures = [resize_image(read_image(images[number]), self.size) for number in self._wanted(len(images))]
        return np.stack(pictures).transpose(0, 3, 1, 2)

    def _computed(self, first: Pixels, following: Pixels) -> Pixels:
        """Flow (P, 2, H, W) between pictures (P, 3, H, W) and those that follow."""
        pairs = zip(first.transpose(0, 2, 3, 1), following.transpose(0, 2, 3, 1), strict=True)
        return np.stack([quantise(compute_flow(*pair, method=self.method)) for pair in pairs])

    def _imported(self, u: Sequence[Path], v: Sequence[Path]) -> Pixels:
        """Flow (P, 2, H, W) from images that were computed before."""
        if len(u) != len(v):
            raise ClipError("corrupt", f"{len(u)} horizontal and {len(v)} vertical flow images")
        chosen = frame_numbers(len(u) + 1, self.positions)
        return np.stack([fit_flow(read_image(u[k], grey=True), read_image(v[k], grey=True), self.size) for k in chosen])


def frame_numbers(count: int, positions: int) -> list[int]:
    """The frames, from 0, at the centres of equal segments of a clip, moved back where none would follow.

    Args:
        count: frames of the clip.
        positions: how many segments.

    Raises:
        ClipError: there are fewer than two frames, so no flow.
    """
    if count < 2:
        raise ClipError("too short", f"{count} frames, and flow needs two")
    return [min((2 * index + 1) * count // (2 * positions), count - 2) for index in range(positions)]


def fit_flow(u: Pixels, v: Pixels, size: tuple[int, int]) -> Pixels:
    """Stored flow (2, H, W) of two images, in pixels of the size wanted; images of that size stay as they are.

    Raises:
        ClipError: the images differ in size.
    """
    if u.shape != v.shape:
        raise ClipError("corrupt", f"flow images of {u.shape} and {v.shape} pixels")
    stored = np.stack([u, v])
    return stored if u.shape == size else quantise(resize_flow(dequantise(stored), size))

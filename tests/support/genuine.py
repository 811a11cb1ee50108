"""Trees of genuine clips under the names that a download would give them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
FRAMES = {"ANG": 67, "DIS": 70, "FEA": 65, "HAP": 56, "NEU": 61, "SAD": 60}
"""Pictures of each recording 1001_DFA_<emotion>_XX.flv."""


def existing(path: Path) -> Path:
    """The path, or a skip that says what is missing."""
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


def link(target: Path, path: Path) -> Path:
    """A symbolic link to a genuine file, which is not copied."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(existing(target))
    return path


def link_cremad(shared: Path, clone: Path, actors: Sequence[str]) -> list[str]:
    """A clone of CREMA-D in which each actor gives the genuine videos and sounds of speaker 1001.

    The sounds are of another sentence, but for anger's; there is no genuine sound of sadness, anger's stands for it.

    Returns:
        Names of the recordings.
    """
    data = existing(shared / "data" / "cremad")
    names = []
    for actor in actors:
        for emotion in EMOTIONS:
            names.append(f"{actor}_DFA_{emotion}_XX")
            sound = {"ANG": "DFA_ANG", "SAD": "DFA_ANG"}.get(emotion, f"IOM_{emotion}")
            link(data / "VideoFlash" / f"1001_DFA_{emotion}_XX.flv", clone / "VideoFlash" / f"{names[-1]}.flv")
            link(data / "AudioWAV" / f"1001_{sound}_XX.wav", clone / "AudioWAV" / f"{names[-1]}.wav")
    return names


def in_order(path: Path, size: tuple[int, int]) -> tuple[NDArray[np.uint8], float]:
    """All pictures (N, 3, H, W) in the order in which the decoder hands them out, and frames per second."""
    with av.open(str(path), metadata_errors="replace") as container:
        stream: Any = container.streams.video[0]
        stream.codec_context.thread_count = 1
        pictures = [
            frame.reformat(size[1], size[0], format="gbrp", interpolation="AREA") for frame in container.decode(stream)
        ]
        rate = float(stream.average_rate)
    planes = [[np.frombuffer(p, np.uint8).reshape(-1, p.line_size)[:, : size[1]] for p in f.planes] for f in pictures]
    return np.array([[red, green, blue] for green, blue, red in planes]), rate

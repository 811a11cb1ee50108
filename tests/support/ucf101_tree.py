"""A small UCF-101: true names, AVI with MPEG-4 tagged XVID, MP3 sound in some classes, the official lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from support.media import make_video

from data_prep.media.flow import quantise

Pixels = NDArray[np.uint8]

CLASSES = ("Archery", "HandstandPushups", "YoYo")
GROUPS = {"test": (1,), "train": (8, 9), "val": (24,)}  # the lists call the last two train
MOTION = ((2, 0), (0, 2), (-2, -1))  # pixels right and down from frame to frame, by class
SIZE = (48, 64)


def video_name(class_name: str, group: int, clip: int = 1) -> str:
    """File name without suffix; class HandstandPushups is spelt with a capital S in it."""
    return f"v_{class_name.replace('Handstand', 'HandStand')}_g{group:02d}_c{clip:02d}"


def moving_texture(count: int, motion: tuple[int, int], *, seed: int = 0, size: tuple[int, int] = SIZE) -> list[Pixels]:
    """`count` frames (H, W, 3) over a smooth texture that moves by (right, down) pixels a frame."""
    height, width = size
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width, 3)).astype(np.float32)
    tiled = cv2.GaussianBlur(np.tile(noise, (3, 3, 1)), (0, 0), 2)[height : 2 * height, width : 2 * width]
    texture = (255 * (tiled - tiled.min()) / np.ptp(tiled)).astype(np.uint8)  # its edges meet
    return [np.roll(texture, (motion[1] * index, motion[0] * index), axis=(0, 1)) for index in range(count)]


def write_avi(path: Path, frames: Sequence[Pixels], *, rate: int = 25) -> Path:
    """Encode frames as UCF-101 does, without sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="avi") as output:
        stream: Any = output.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        stream.codec_context.codec_tag = "XVID"
        stream.codec_context.bit_rate = 4_000_000
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def make_lists(folder: Path, *, classes: Sequence[str] = CLASSES, clips: int = 1) -> Path:
    """classInd.txt, trainlist01.txt with labels, testlist01.txt without; line ends of Windows."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{label + 1} {name}" for label, name in enumerate(classes)]
    _write(folder / "classInd.txt", lines)
    for part, splits in (("train", ("train", "val")), ("test", ("test",))):
        lines = []
        for label, name in enumerate(classes):
            for group in sorted(group for split in splits for group in GROUPS[split]):
                paths = [f"{name}/{video_name(name, group, clip + 1)}.avi" for clip in range(clips)]
                lines += [f"{path} {label + 1}" if part == "train" else path for path in paths]
        _write(folder / f"{part}list01.txt", lines)
    return folder


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\r\n" for line in lines), encoding="utf-8", newline="")


def make_ucf101(source: Path, *, classes: Sequence[str] = CLASSES, clips: int = 1, count: int = 12) -> Path:
    """Write lists and clips of `count` frames; the last class has sound, as half of the classes do."""
    make_lists(source / "ucfTrainTestlist", classes=classes, clips=clips)
    for label, name in enumerate(classes):
        for group in sorted(group for groups in GROUPS.values() for group in groups):
            for clip in range(clips):
                path = source / "UCF-101" / name / f"{video_name(name, group, clip + 1)}.avi"
                seed = 100 * group + clip
                if label == len(classes) - 1:
                    make_video(path, seconds=count / 25, size=SIZE, codec="mpeg4", tag="XVID", audio="libmp3lame")
                else:
                    write_avi(path, moving_texture(count, MOTION[label % 3], seed=seed))
    return source


def make_flow_archive(
    root: Path, *, classes: Sequence[str] = CLASSES, clips: int = 1, count: int = 12, joined: bool = False
) -> Path:
    """Flow images of every clip, the motion of its class: u/<video>/frame000001.jpg, or <video>/flow_x_00001.jpg."""
    for label, name in enumerate(classes):
        images = quantise(np.array(MOTION[label % 3], dtype=np.float32))
        for group in sorted(group for groups in GROUPS.values() for group in groups):
            for clip in range(clips):
                video = video_name(name, group, clip + 1)
                for direction, axis, value in (("u", "x", images[0]), ("v", "y", images[1])):
                    folder = root / video if joined else root / direction / video
                    folder.mkdir(parents=True, exist_ok=True)
                    for number in range(1, count):
                        file = f"flow_{axis}_{number:05d}.jpg" if joined else f"frame{number:06d}.jpg"
                        cv2.imwrite(str(folder / file), np.full(SIZE, value, dtype=np.uint8))
    return root

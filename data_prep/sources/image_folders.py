"""Pre-computed pictures and optical flow: a folder of numbered JPEG files for each clip.

Two layouts are in use. The archives that are shared for UCF-101 have one folder per direction,

    u/v_Archery_g01_c01/frame000001.jpg    v/v_Archery_g01_c01/frame000001.jpg

(newer versions of gpu_flow call them x and y). dense_flow and mmaction2 put both directions beside the
pictures, with or without folders of classes above:

    [Archery/]v_Archery_g01_c01/flow_x_00001.jpg, flow_y_00001.jpg, img_00001.jpg

Flow image number i, counted from 1, is between pictures i and i + 1, in the eight bits of
`data_prep.media.flow.quantise`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.files.opening import MB, read_file
from data_prep.media import ClipError
from data_prep.media.container import MAX_PIXELS, extra
from data_prep.media.flow import opencv
from drcli.errors import DataError
from drcli.reading import one_line

Pixels = NDArray[np.uint8]

DIRECTIONS = (("u", "v"), ("x", "y"))
_NUMBERED = re.compile(
    r"(?P<prefix>|frame|img_|image_|flow_x_|flow_y_|x_|y_)(?P<number>\d{1,9})\.jpe?g", re.IGNORECASE | re.ASCII
)
_PICTURES = frozenset({"", "frame", "img_", "image_"})
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # "start of frame" of all kinds of JPEG

LARGEST_FILE = 64 * MB
"""Bytes of one image."""


@dataclass(frozen=True)
class Series:
    """Where one series of numbered images of each clip lies.

    Attributes:
        root: folder of the clips' folders, or of folders of classes with these.
        prefixes: what the wanted files' names begin with, before the number.
    """

    root: Path
    prefixes: frozenset[str]

    def folder(self, class_name: str, video: str) -> Path | None:
        """The folder of a clip; None if there is none."""
        folders = (self.root / video, self.root / class_name / video)
        return next((path for path in folders if path.is_dir()), None)

    def count(self, class_name: str, video: str) -> int:
        """How many files the folder of a clip has; 0 without one. Hidden files do not count."""
        folder = self.folder(class_name, video)
        return sum(not path.name.startswith(".") for path in folder.iterdir()) if folder else 0

    def images(self, class_name: str, video: str) -> list[Path]:
        """The images of a clip in order.

        Raises:
            ClipError: there is no such folder, no image in it, or a number is missing or there twice.
        """
        folder = self.folder(class_name, video)
        if folder is None:
            raise ClipError("unreadable", f"no folder {video} in {self.root}")
        return _in_order(folder, self.prefixes)


def find_flow(root: Path) -> tuple[Series, Series]:
    """The horizontal and the vertical series of a folder of pre-computed flow, whichever its layout.

    Raises:
        DataError: there is no such folder, or one of its directions is missing.
    """
    _check_folder(root, "flow_dir")
    for place in (root, root / "tvl1_flow"):
        for names in DIRECTIONS:
            there = [name for name in names if (place / name).is_dir()]
            if len(there) == 1:
                absent = names[1] if there == [names[0]] else names[0]
                raise DataError(
                    f"{place}: has a folder {there[0]} but no {absent}; the archive comes in parts, which are joined "
                    "before they are unpacked: cat ucf101_tvl1_flow.zip.00* > ucf101_tvl1_flow.zip"
                )
            if there:
                horizontal, vertical = (Series(place / name, _PICTURES) for name in names)
                return horizontal, vertical
    return Series(root, frozenset({"flow_x_", "x_"})), Series(root, frozenset({"flow_y_", "y_"}))


def find_pictures(root: Path) -> Series:
    """The series of a folder of extracted RGB pictures.

    Raises:
        DataError: there is no such folder.
    """
    _check_folder(root, "rgb_dir")
    place = root / "jpegs_256"
    return Series(place if place.is_dir() else root, _PICTURES)


def _check_folder(root: Path, setting: str) -> None:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; correct dataset.prepare.{setting}")


def _in_order(folder: Path, prefixes: frozenset[str]) -> list[Path]:
    """The numbered images of a folder with one of the prefixes; other files and folders are ignored."""
    images: dict[int, Path] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            match = _NUMBERED.fullmatch(entry.name)
            if match and match["prefix"].lower() in prefixes:
                number = int(match["number"])
                if number in images:
                    raise ClipError("corrupt", f"{images[number].name}, {entry.name} in {folder}: same number")
                images[number] = Path(entry.path)
    if not images:
        raise ClipError("unreadable", f"no numbered JPEG files in {folder}")
    first, last = min(images), max(images)
    if len(images) != last - first + 1:
        hole = next(number for number in range(first, last) if number not in images)  # found in len(images) steps
        raise ClipError("corrupt", f"image {hole} is missing in {folder}")
    return [images[number] for number in sorted(images)]


def read_image(path: Path, *, grey: bool = False) -> Pixels:
    """A JPEG file as (H, W, 3) RGB, or as (H, W).

    Args:
        path: the file.
        grey: one channel.

    Raises:
        ClipError: it cannot be read, was cut off, is not a JPEG, or has more than `MAX_PIXELS`.
    """
    cv2 = opencv()
    try:
        data = read_file(path, limit=LARGEST_FILE)
    except DataError as error:
        raise ClipError("unreadable", str(error)) from error
    size = jpeg_size(data)
    if size is None or b"\xff\xd9" not in data[-64:]:  # OpenCV would fill the rest of a truncated picture with grey
        raise ClipError("corrupt", f"{path} is truncated or not a JPEG")
    if size[0] * size[1] > MAX_PIXELS:
        raise ClipError("absurd size", f"{path}: the header says {size[1]} x {size[0]}")
    _check_data(data, path)
    buffer = np.frombuffer(data, dtype=np.uint8)
    try:
        decoded = cv2.imdecode(buffer, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ClipError("corrupt", f"{path}: {error}") from error
    if decoded is None:
        raise ClipError("corrupt", f"{path} is not a readable JPEG")
    image: Pixels = decoded if grey else np.ascontiguousarray(decoded[..., ::-1])
    return image


def _check_data(data: bytes, path: Path) -> None:
    """Refuse a JPEG whose data is damaged: OpenCV would guess the rest and say so on standard error only."""
    av = extra("av")
    context = av.CodecContext.create("mjpeg", "r")
    context.options = {"err_detect": "explode", "max_pixels": str(MAX_PIXELS)}
    context.thread_count = 1
    try:
        frames = [*context.decode(av.Packet(data)), *context.decode(None)]
    except (av.FFmpegError, ValueError, MemoryError) as error:
        raise ClipError("corrupt", f"{path}: its data is damaged ({one_line(error)})") from error
    if len(frames) != 1:
        raise ClipError("corrupt", f"{path}: holds {len(frames)} pictures")


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Height and width in pixels by the header of a JPEG file; None if it has none.

    The header is a sequence of segments: 0xff, a marker, two bytes of length, content.
    """
    position = 2
    if data[:2] != b"\xff\xd8":
        return None
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _FRAME_MARKERS:
            return int.from_bytes(data[position + 5 : position + 7]), int.from_bytes(data[position + 7 : position + 9])
        # A marker may have more 0xff before it; it then has no length yet.
        position += 1 if marker == 0xFF else 2 + int.from_bytes(data[position + 2 : position + 4])
    return None


def resize_image(image: Pixels, size: tuple[int, int]) -> Pixels:
    """The image (H, W) or (H, W, 3) at another height and width, averaged over areas when it shrinks."""
    if image.shape[:2] == size:
        return image
    cv2 = opencv()
    resized: Pixels = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return resized

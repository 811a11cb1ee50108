"""Opens media files by PyAV, which brings its own FFmpeg, and turns what is wrong with them into `ClipError`."""

from __future__ import annotations

import importlib
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.files.lfs import read_pointer
from data_prep.media.orientation import UPRIGHT, Orientation
from drcli.errors import UsageError

REASONS = (
    "corrupt",
    "no video stream",
    "no audio stream",
    "too short",
    "not in the split",
    "unreadable",
    "lfs pointer",
    "absurd size",
    "absurd rate",
    "out of range",
    "not upright",
    "unexpected error",
    "worker died",
)
"""Why a clip is skipped; the last two are given by `data_prep.writing.workers`."""

SLACK = 0.25  # seconds that a stream may end before its time
MAX_PIXELS = 2**25  # 7680 x 4320 fits; a header that claims more is damaged
# Only containers of clips: FFmpeg would also open play lists, which name other files to be read.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,live_flv,wav,mp3,ogg,flac,aac,mpeg,mpegts,asf"


class ClipError(Exception):
    """One clip cannot be used; the others can.

    Attributes:
        reason: one of `REASONS`.
        detail: what was found, for the report.
    """

    def __init__(self, reason: str, detail: str) -> None:
        assert reason in REASONS
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class MediaInfo:
    """What a file says of itself.

    Attributes:
        duration: seconds, of the video stream if that is stated, else of the file; None: not stated.
        width: of the coded picture, before any rotation; 0 without video.
        height: likewise.
        rate: frames per second on average; None: not stated.
        has_audio: whether there is an audio stream.
        rotation: degrees counterclockwise by which a player turns the picture, after it has mirrored it.
        video_codec: FFmpeg's name, such as "flv" for Sorenson H.263; None without video.
        audio_codec: likewise, such as "mp3float".
        mirrored: whether a player mirrors the picture left to right.
    """

    duration: float | None
    width: int
    height: int
    rate: float | None
    has_audio: bool
    rotation: int
    video_codec: str | None
    audio_codec: str | None
    mirrored: bool = False


def extra(module: str) -> Any:
    """A module of the extra `media`, imported.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"{module} is needed to prepare this dataset: pip install 'drcli[media]' ({error})") from error


@contextmanager
def open_media(path: Path) -> Iterator[Any]:
    """An open `av.container.InputContainer`.

    Raises:
        ClipError: the file is missing, empty, a Git LFS pointer, or no medium; FFmpeg's errors while it
            is open come out as "corrupt".
    """
    av = extra("av")
    check_file(path)
    try:
        # Metadata is not used, and often not UTF-8.
        container = av.open(f"file:{path}", options={"format_whitelist": FORMATS}, metadata_errors="replace")
    except (av.FFmpegError, OSError, UnicodeError, ValueError) as error:
        raise ClipError("unreadable", f"not a media file that can be opened ({_said(error)})") from error
    with container:
        try:
            yield container
        except av.FFmpegError as error:
            raise ClipError("corrupt", _said(error)) from error


def check_file(path: Path) -> None:
    """Check that there is a file with contents of its own.

    Raises:
        ClipError: it is missing, empty, a Git LFS pointer, or no regular file.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
            raise ClipError("unreadable", "it is not a regular file")
        pointer = read_pointer(path)
    except OSError as error:
        raise ClipError("unreadable", error.strerror or str(error)) from error
    if status.st_size == 0:
        raise ClipError("unreadable", "the file is empty")
    if pointer is not None:
        raise ClipError(
            "lfs pointer", f"Git LFS did not fetch it: {pointer.size} bytes are missing; run `git lfs pull`"
        )


def _said(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def video_stream(container: Any) -> Any:
    """The first video stream that is not a cover picture, set to decode in one thread.

    One thread per process: more would gain nothing beside the other workers, and report errors late.

    Raises:
        ClipError: there is none, or its size is absurd.
    """
    pictures = [stream for stream in container.streams.video if stream.codec_context is not None]
    moving = [stream for stream in pictures if "attached_pic" not in str(stream.disposition).lower()]
    if not moving:
        raise ClipError("no video stream", f"{len(container.streams)} streams, none of them video")
    context = moving[0].codec_context
    if context.width * context.height > MAX_PIXELS:
        raise ClipError("absurd size", f"the header says {context.width} x {context.height}")
    context.options = {"max_pixels": str(MAX_PIXELS)}
    context.thread_count = 1
    return moving[0]


def audio_stream(container: Any) -> Any:
    """The first audio stream, set to decode in one thread.

    Raises:
        ClipError: there is none.
    """
    streams = [stream for stream in container.streams.audio if stream.codec_context is not None]
    if not streams:
        raise ClipError("no audio stream", f"{len(container.streams)} streams, none of them audio")
    streams[0].codec_context.thread_count = 1
    return streams[0]


def stated_duration(container: Any, stream: Any) -> float | None:
    """Seconds of a stream, else of the file, as the headers say; None if they do not."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return float(container.duration / 1_000_000) if container.duration else None


def probe(path: Path) -> MediaInfo:
    """What a file says of itself; one frame is decoded, for its orientation.

    Raises:
        ClipError: the file cannot be opened, has neither picture nor sound, an absurd size, or a display
            matrix that neither turns by right angles nor mirrors.
    """
    with open_media(path) as container:
        if not container.streams.video:
            sound = audio_stream(container)
            return MediaInfo(stated_duration(container, sound), 0, 0, None, True, 0, None, sound.codec_context.name)
        stream = video_stream(container)
        sounds = [sound.codec_context.name for sound in container.streams.audio if sound.codec_context is not None]
        rate = stream.average_rate or stream.guessed_rate
        orientation = _orientation(container, stream)
        return MediaInfo(
            duration=stated_duration(container, stream),
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            rate=float(rate) if rate else None,
            has_audio=bool(sounds),
            rotation=90 * orientation.turns,
            video_codec=stream.codec_context.name,
            audio_codec=sounds[0] if sounds else None,
            mirrored=orientation.mirrored,
        )


def orientation_of(frame: Any) -> Orientation:
    """How a player turns and mirrors a decoded frame.

    Raises:
        ClipError: by something else than right angles.
    """
    kind = extra("av.sidedata.sidedata").Type.DISPLAYMATRIX
    data = frame.side_data.get(kind)
    try:
        return UPRIGHT if data is None else Orientation.from_matrix(bytes(data))
    except ValueError as error:
        raise ClipError("not upright", f"{error}; encode the clip anew, so that its pictures are stored upright") from (
            error
        )


def _orientation(container: Any, stream: Any) -> Orientation:
    """Of the first frame that decodes; upright if none does."""
    av = extra("av")
    for packet in container.demux(stream):
        try:
            for frame in packet.decode():
                return orientation_of(frame)
        except av.FFmpegError:
            continue
    return UPRIGHT

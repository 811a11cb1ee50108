"""Small clips in true containers and codecs, whose pictures tell which frame they are."""

from __future__ import annotations

import struct
import wave
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"
LEVELS = 40  # frame numbers are told apart modulo this
NTSC = Fraction(30000, 1001)


def picture(number: int, size: tuple[int, int], shade: int = 0) -> NDArray[np.uint8]:
    """Frame `number` of a clip, (H, W, 3): its number as brightness, and a white mark in the top left corner.

    `shade` (0 ... 60) tints the picture green, so that classes can be told apart.
    """
    height, width = size
    pixels = np.full((height, width, 3), 20 + 5 * (number % LEVELS), dtype=np.uint8)
    pixels[..., 1] += np.uint8(min(shade, 35))
    pixels[: height // 4, : width // 4] = 255
    return pixels


def frame_number(pixels: NDArray[Any]) -> int:
    """The number, modulo `LEVELS`, that `picture` drew; `pixels` is one frame (3, H, W)."""
    _, height, width = pixels.shape
    middle = pixels[0, height // 2 :, width // 2 :].astype(np.float64)
    return round((float(np.median(middle)) - 20) / 5)


def tone(seconds: float, rate: int, frequency: float = 440.0, amplitude: float = 0.5) -> NDArray[np.float64]:
    """A sine (S,) of the given frequency in Hz."""
    steps = np.arange(round(seconds * rate)) / rate
    sine: NDArray[np.float64] = amplitude * np.sin(2 * np.pi * frequency * steps)
    return sine


def make_wav(path: Path, samples: NDArray[Any], *, rate: int = 16000, channels: int = 1) -> Path:
    """A 16-bit PCM WAV of samples (S,) in [-1, 1], the same in all channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.clip(np.round(samples * 32767), -32768, 32767).astype("<i2")
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(channels)
        stream.setsampwidth(2)
        stream.setframerate(rate)
        stream.writeframes(np.repeat(values, channels).tobytes())
    return path


def make_video(
    path: Path,
    *,
    seconds: float = 1.0,
    rate: Fraction | int = 25,
    size: tuple[int, int] = (48, 64),
    codec: str = "libx264",
    tag: str | None = None,
    container: str | None = None,
    times: Sequence[float] | None = None,
    audio: str | None = None,
    audio_rate: int = 44100,
    channels: int = 1,
    frequency: float = 440.0,
    shade: int = 0,
    rotation: int = 0,
    options: dict[str, str] | None = None,
    faststart: bool = False,
) -> Path:
    """Encode a clip.

    Args:
        path: file to write; folders are made.
        seconds: duration of both streams.
        rate: frames per second.
        size: height and width.
        codec: video encoder: "libx264", "mpeg4", "flv" (Sorenson H.263).
        tag: four-character code, such as "XVID".
        container: format name; default: by the file's ending.
        times: presentation times of the frames in seconds, for a variable frame rate.
        audio: audio encoder: "aac", "libmp3lame", "libopus", "pcm_s16le"; None leaves it out.
        audio_rate: samples per second.
        channels: 1 or 2.
        frequency: of the tone, in Hz.
        shade: see `picture`.
        rotation: degrees clockwise that a player must turn the picture by, written to the header of an MP4.
        options: of the video encoder, such as {"bf": "2", "g": "10"}.
        faststart: put the index of an MP4 at its beginning.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = {"movflags": "faststart"} if faststart else {}
    with av.open(str(path), "w", format=container, options=flags) as output:
        video: Any = output.add_stream(codec, rate=rate, options=options or {})
        video.height, video.width, video.pix_fmt = *size, "yuv420p"
        video.codec_context.thread_count = 1
        if codec in ("mpeg4", "flv"):
            video.codec_context.bit_rate = 2_000_000
        if tag:
            video.codec_context.codec_tag = tag
        sound: Any = None
        if audio:
            sound = output.add_stream(audio, rate=audio_rate, layout="mono" if channels == 1 else "stereo")
        count = len(times) if times is not None else round(seconds * rate)
        if times is not None:
            video.codec_context.time_base = Fraction(1, 1000)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(picture(number, size, shade), format="rgb24")
            frame.pts = number if times is None else round(times[number] * 1000)
            frame.time_base = 1 / Fraction(rate) if times is None else Fraction(1, 1000)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if sound is not None:
            _encode_tone(output, sound, tone(seconds, audio_rate, frequency), channels)
    if rotation:
        rotate_mp4(path, rotation)
    return path


def _encode_tone(output: Any, stream: Any, samples: NDArray[np.float64], channels: int) -> None:
    values = np.repeat(np.round(samples * 32767).astype(np.int16), channels)[None]
    frame = av.AudioFrame.from_ndarray(values, format="s16", layout="mono" if channels == 1 else "stereo")
    frame.sample_rate, frame.pts = stream.rate, 0
    frame.time_base = Fraction(1, stream.rate)
    output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def rotate_mp4(path: Path, degrees: int) -> None:
    """Write a rotation into the first track header of an MP4, as phones do; `degrees` clockwise, 90, 180 or 270."""
    turns = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
    a, b, c, d = (value * 65536 for value in turns[degrees])
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(bytes(content))


def set_matrix(path: Path, matrix: tuple[float, float, float, float], shift: tuple[int, int] = (0, 0)) -> Path:
    """Write a display matrix [a b; c d] and where it puts the origin into the first track header of an MP4."""
    a, b, c, d = (round(value * 65536) for value in matrix)
    x, y = (value * 65536 for value in shift)
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, x, y, 1 << 30)
    path.write_bytes(bytes(content))
    return path


NOT_CODED = b"\x00\x00\x01\xb6\x50\x4f"  # a P picture without content, at a rate of 25
DIVX_LAG = b"\x7f"  # the chunk by which DivX keeps the time that it takes to look ahead


def make_packed(path: Path, *, count: int, lag: bool = False, size: tuple[int, int] = (48, 64)) -> Path:
    """An AVI of MPEG-4 whose P and B pictures are packed in one chunk, as DivX and XviD write it.

    Each pair of a P picture and the B picture that is shown before it becomes one chunk, and a picture
    that is not coded follows, so that there are as many chunks as pictures.

    Args:
        path: file to write.
        count: pictures, an odd number: an I picture and pairs; at 25 per second.
        lag: write a chunk without picture after the first one, as DivX does.
        size: height and width.
    """
    context: Any = av.CodecContext.create("mpeg4", "w")
    context.height, context.width, context.pix_fmt = *size, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    context.bit_rate, context.options = 2_000_000, {"bf": "1", "g": "300"}
    coded = []
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(picture(number, size), format="rgb24")
        frame.pts = number
        coded += [bytes(packet) for packet in context.encode(frame)]
    coded += [bytes(packet) for packet in context.encode(None)]
    assert len(coded) == count
    header, first = coded[0][: coded[0].index(b"\x00\x00\x01\xb2")], coded[0][coded[0].index(b"\x00\x00\x01\xb6") :]
    chunks = [header + b"\x00\x00\x01\xb2DivX503b1393p" + first, *([DIVX_LAG] if lag else [])]
    for pair in range(1, count, 2):
        chunks += [coded[pair] + coded[pair + 1], NOT_CODED]
    write_chunks(path, chunks, size)
    return path


def write_chunks(path: Path, chunks: Sequence[bytes], size: tuple[int, int]) -> None:
    """An AVI of 25 chunks per second, tagged DX50."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.codec_tag = "DX50"
        output.start_encoding()
        for number, chunk in enumerate(chunks):
            packet = av.Packet(chunk)
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = number
            packet.is_keyframe = number == 0
            output.mux(packet)


def cut(path: Path, share: float) -> Path:
    """Keep only the first part of a file, as a broken download does."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def scramble(path: Path, start: float, end: float, seed: int = 0) -> Path:
    """Overwrite the bytes between two places of a file, given as shares of its size, with noise."""
    content = bytearray(path.read_bytes())
    first, last = int(len(content) * start), int(len(content) * end)
    content[first:last] = np.random.default_rng(seed).integers(0, 256, last - first, dtype=np.uint8).tobytes()
    path.write_bytes(bytes(content))
    return path


def lfs_pointer(path: Path, *, oid: str = "c6" * 32, size: int = 72862) -> Path:
    """What stands in place of a file when Git LFS did not fetch it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(LFS_POINTER.format(oid=oid, size=size), encoding="ascii")
    return path

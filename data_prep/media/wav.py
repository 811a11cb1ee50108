"""Reads WAV files: checks what their headers say, and reads 16-bit samples without FFmpeg.

FFmpeg takes longer to make sure that a WAV file is one than to decode a few seconds of it, does not tell
that a file was cut short, and believes a header that contradicts itself.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from data_prep.media.container import ClipError
from data_prep.media.limits import MAX_CHANNELS, check_rate, check_samples
from data_prep.media.riff import chunks

PCM, FLOAT, A_LAW, MU_LAW, EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_BITS = {PCM: (8, 16, 24, 32, 64), FLOAT: (32, 64), A_LAW: (8,), MU_LAW: (8,)}
_UNSTATED = 2**31 - 2**20  # bytes; what writes a WAV into a pipe states about 2**31 or 2**32

_Form = tuple[int, int, int, int, int, int]


@dataclass(frozen=True)
class Header:
    """What a WAV file says of its samples.

    Attributes:
        coding: PCM, FLOAT, or another number that stands for a way to code samples.
        channels: how many.
        rate: samples per second.
        byte_rate: bytes per second.
        block: bytes of one sample in all channels.
        bits: of one sample.
        start: where the samples begin in the file.
        size: bytes of all samples.
    """

    coding: int
    channels: int
    rate: int
    byte_rate: int
    block: int
    bits: int
    start: int
    size: int


@dataclass(frozen=True)
class Pcm:
    """16-bit samples.

    Attributes:
        values: (S, channels) int16.
        rate: samples per second.
        stated: seconds that the header states.
    """

    values: NDArray[np.int16]
    rate: int
    stated: float


def read_pcm(path: Path) -> Pcm | None:
    """The samples of a WAV file of 16-bit integers; None of any other file, which is left to FFmpeg.

    Raises:
        ClipError: a WAV file contradicts itself, or states a rate, or a number of channels or samples,
            that no recording has.
    """
    try:
        with path.open("rb") as stream:
            header = read_header(stream)
            if header is None:
                return None
            length = path.stat().st_size
            check_header(header)
            if header.size > _UNSTATED or header.coding != PCM or header.bits != 16:
                return None
            _check_end(stream, header, length)
            stream.seek(header.start)
            content = stream.read(min(header.size, length - header.start))
    except OSError as error:
        raise ClipError("unreadable", error.strerror or str(error)) from error
    count = len(content) // header.block
    values = np.frombuffer(content, "<i2", count=count * header.channels).reshape(count, header.channels)
    return Pcm(values, header.rate, header.size / header.byte_rate) if count else None


def read_header(stream: BinaryIO) -> Header | None:
    """The header of a WAV file, read from its beginning; None if it is not a WAV file, or has no samples."""
    head = stream.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    form: _Form | None = None
    for name, start, size in chunks(stream):
        if name == b"fmt ":
            form = _form(stream.read(min(size, 26)))
        elif name == b"data":
            return None if form is None else Header(*form, start, size)
    return None


def _form(content: bytes) -> _Form | None:
    """The first six fields of `Header`; None if the chunk is too short."""
    if len(content) < 16:
        return None
    coding, channels, rate, byte_rate, block, bits = struct.unpack("<HHIIHH", content[:16])
    if coding == EXTENSIBLE and len(content) == 26:
        coding = int.from_bytes(content[24:], "little")
    return coding, channels, rate, byte_rate, block, bits


def check_header(header: Header) -> None:
    """Check that a header is one of a recording.

    Raises:
        ClipError: it contradicts itself, or a number is out of bounds.
    """
    check_rate(header.rate)
    if not 1 <= header.channels <= MAX_CHANNELS:
        raise ClipError("corrupt", f"the header says {header.channels} channels")
    if _is_uncoded(header) != (header.coding in _BITS) or header.bits not in _BITS.get(header.coding, (header.bits,)):
        raise ClipError(
            "corrupt",
            f"the header contradicts itself: coding {header.coding}, {header.rate} Hz, {header.channels} channels, "
            f"{header.bits} bits, but {header.block} bytes per sample and {header.byte_rate} per second",
        )
    if header.coding in _BITS and header.size <= _UNSTATED:
        check_samples(header.size // header.block, header.rate)


def _is_uncoded(header: Header) -> bool:
    """Whether its numbers are those of samples that follow one another as they are."""
    block = header.channels * -(-header.bits // 8)
    return header.bits > 0 and header.block == block and header.byte_rate == header.rate * block


def _check_end(stream: BinaryIO, header: Header, length: int) -> None:
    """Check that what follows the samples is another chunk, or nothing."""
    end = header.start + header.size + header.size % 2
    stream.seek(min(end, length))
    name = stream.read(8)[:4]
    if length - end >= 8 and not all(32 <= byte < 127 for byte in name):
        raise ClipError(
            "corrupt",
            f"the header says {header.size} bytes of sound, and {length - end} bytes follow that are not part of it",
        )

"""The opinion segments of CMU-MOSI, whatever file they come from: padding removed, all values finite."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from drcli.amounts import counted
from drcli.errors import DataError

Floats = NDArray[np.floating[Any]]
"""float32, or float64 whose values float32 can hold."""

MODALITIES = ("text", "audio", "visual")
NON_FINITE = ("-inf", "+inf", "NaN")
_PIECE = 2**22  # values that are looked at together


@dataclass(frozen=True)
class Segment:
    """One opinion segment.

    Attributes:
        id: its name, as the file has it.
        sentiment: mean of the annotators, in [-3, 3].
        streams: valid steps {m: (T_m, D_m)}, without padding; T_m may be 0.
        words: what was said, where the file has it.
    """

    id: str
    sentiment: float
    streams: Mapping[str, Floats]
    words: str | None = None

    @property
    def has_words(self) -> bool:
        """Whether any of its text is not zero, or it has a transcript."""
        return self.words is not None or bool(self.streams["text"].any())


@dataclass(frozen=True)
class Skipped:
    """A segment that is left out, and why."""

    id: str
    reason: str
    detail: str = ""


def real_numbers(values: ArrayLike) -> NDArray[Any]:
    """The values as an array of numbers, or of objects that may be numbers.

    Raises:
        TypeError: they are text, complex, or anything else.
        ValueError: they are not an array.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biufO":  # numpy would read text as numbers, and drop imaginary parts
        raise TypeError(f"they are {array.dtype}")
    return array


@dataclass
class Repairs:
    """How many values of each modality were not finite, by what they were."""

    counts: dict[str, dict[str, int]] = field(
        default_factory=lambda: {m: dict.fromkeys(NON_FINITE, 0) for m in MODALITIES}
    )

    def finite(self, modality: str, values: ArrayLike, *, in_place: bool = False) -> Floats:
        """Return the values as float32 with 0 for every one that is not finite, and count these.

        COVAREP's log of silence is -inf; MultiBench and MMSA set -inf to 0 before anything else. NaN and
        +inf, which they leave, would make the loss NaN and become 0 too.

        Args:
            modality: counts them.
            values: an array, or what makes one.
            in_place: change an array of float32 or float64 itself, which stays of its type: in one that lies in a file,
                only what is replaced takes memory. Of float64, what is 0 in float32 becomes 0.

        Raises:
            ValueError: the values are not numbers, or not an array.
            TypeError: likewise.
        """
        array = real_numbers(values)
        if not (in_place and array.dtype in {np.dtype(np.float32), np.dtype(np.float64)} and array.flags.writeable):
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is counted
                array = np.array(array, dtype=np.float32)
        rows = np.atleast_1d(array)
        step = max(1, _PIECE * len(rows) // max(1, array.size))
        for start in range(0, len(rows), step):
            self._repair(modality, rows[start : start + step])
        return array

    def _repair(self, modality: str, piece: Floats) -> None:
        """Set what is not finite to 0, in place: a piece of an array, whose masks take little memory."""
        with np.errstate(over="ignore"):
            stored = piece.astype(np.float32, copy=False)
        found = {"-inf": np.isneginf(stored), "+inf": np.isposinf(stored), "NaN": np.isnan(stored)}
        for name, where in found.items():
            self.counts[modality][name] += int(np.count_nonzero(where))
            piece[where] = 0
        if stored is not piece:
            piece[(stored == 0) & (piece != 0)] = 0

    def messages(self) -> list[str]:
        """One line for each modality that had such values."""
        return [
            f"{m}: " + ", ".join(f"{counted(n, 'value')} {name}" for name, n in counts.items() if n) + "; now 0"
            for m, counts in self.counts.items()
            if any(counts.values())
        ]


@dataclass(frozen=True)
class Contents:
    """What a source holds.

    Attributes:
        splits: segments by split, in the file's order; all three splits are there.
        is_aligned: whether a step is a word in every modality, or only in text.
        repairs: values that were not finite.
        skipped: segments that the source names but cannot give.
        notes: lines that the user should see.
    """

    splits: Mapping[str, Sequence[Segment]]
    is_aligned: bool
    repairs: Repairs
    skipped: Sequence[Skipped] = ()
    notes: Sequence[str] = ()

    def streams(self, modality: str) -> Iterator[Floats]:
        """A modality of all segments, split by split."""
        return (segment.streams[modality] for segments in self.splits.values() for segment in segments)


def first_step(stream: Floats) -> int:
    """Index of the first row of (L, D) that is not all zero; L if there is none."""
    steps = np.flatnonzero(stream.any(axis=1))
    return int(steps[0]) if len(steps) else len(stream)


def check_contents(
    contents: Contents, where: str, *, video: Callable[[str], str | None] | None = None, bound: float = 3
) -> None:
    """Refuse contents that cannot be a dataset.

    Args:
        contents: what was read.
        where: the file or folder it was read from, for messages.
        video: the video of a segment's name; None: `video_of`, for CMU-MOSI.
        bound: labels lie in [-bound, bound].

    Raises:
        DataError: a label is not a number in this range, a segment is there twice, a modality has several
            widths or is 0 throughout, or a video is in two splits.
    """
    names = Counter(segment.id for segments in contents.splits.values() for segment in segments)
    doubled = [name for name, count in names.items() if count > 1]
    if doubled:
        raise DataError(f"{where}: segment {doubled[0]} is in the file {names[doubled[0]]} times; download it again")
    for split, segments in contents.splits.items():
        for segment in segments:
            label = segment.sentiment
            if not abs(label) <= bound:  # NaN is refused too
                wanted = f"{-bound:g} ... {bound:g}"
                raise DataError(f"{where}: label of {split} segment {segment.id} is {label:g}, expected {wanted}")
    if not names:
        raise DataError(f"{where}: holds no segment")
    for m in MODALITIES:
        _check_modality(contents, m, where)
    _check_videos(contents, where, video or video_of)


def _check_modality(contents: Contents, modality: str, where: str) -> None:
    widths = sorted({stream.shape[1] for stream in contents.streams(modality)})
    if len(widths) > 1:
        raise DataError(f"{where}: {modality} has several widths, {', '.join(map(str, widths))}; download it again")
    if not any(stream.any() for stream in contents.streams(modality)):
        raise DataError(f"{where}: {modality} is 0 in every step of all segments; download it again")


def _check_videos(contents: Contents, where: str, video_of: Callable[[str], str | None]) -> None:
    home: dict[str, str] = {}
    for split, segments in contents.splits.items():
        for segment in segments:
            video = video_of(segment.id)
            if video is not None and home.setdefault(video, split) != split:
                raise DataError(f"{where}: video {video} is in both {home[video]} and {split}; splits share no video")


def video_of(name: str) -> str | None:
    """The video of a segment called "video[...]" (CMU), "video$_$k" (MMSA) or "video_k" (bc-LSTM); else None.

    The 11 characters of a video's id may be dashes and underscores too.
    """
    match = re.match(r"[\w-]{11}(?=\[|\$_\$|_\d+$|$)", name)
    return match[0] if match else None

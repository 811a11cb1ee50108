"""CREMA-D's download: names of its recordings, where its files are, what is known to be wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.files.folders import find_files
from drcli.errors import DataError

EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
AUDIO = "AudioWAV"
VIDEO = ("VideoFlash", "VideoMP4")  # the official folder, and a usual name of re-encodings
_SUFFIXES = frozenset({".flv", ".mp4"})
_STEM = re.compile(rf"(\d{{4}})_([A-Z]{{3}})_({'|'.join(EMOTIONS)})_(XX|LO|MD|HI)")
_ALIASES = {"1040_ITH_SAD_X": "1040_ITH_SAD_XX"}  # misnamed until 2022

BROKEN: Mapping[str, str] = {
    "1064_IEO_DIS_MD": "the video lasts 61 s and shows all emotions",
    "1064_TIE_SAD_XX": "the video states no duration",
    "1076_MTI_NEU_XX": "the video is very short",
    "1076_MTI_SAD_XX": "the sound is silent, the video is very short and shows an error picture",
}
"""Recordings that the authors of CREMA-D list as defective (their issue 8)."""

TWINS: Sequence[tuple[str, str]] = (
    ("1006_TIE_HAP_XX", "1006_TIE_NEU_XX"),
    ("1013_WSI_DIS_XX", "1013_WSI_SAD_XX"),
    ("1017_IWW_ANG_XX", "1017_IWW_FEA_XX"),
)
"""Pairs of recordings with the same sound, byte for byte, under two labels."""


@dataclass(frozen=True)
class Recording:
    """One sentence, acted.

    Attributes:
        stem: actor, sentence, emotion and level, as "1001_DFA_ANG_XX".
        audio: its WAV file.
        video: its FLV file, or a re-encoding.
    """

    stem: str
    audio: Path
    video: Path

    @property
    def actor(self) -> str:
        """Number of the actor, "1001" ... "1091"."""
        return self.stem[:4]

    @property
    def emotion(self) -> str:
        """One of `EMOTIONS`."""
        return self.stem[9:12]


def parse_stem(name: str) -> str | None:
    """The name of a recording, one misnamed file corrected; None if it is not such a name."""
    stem = _ALIASES.get(name, name)
    return stem if _STEM.fullmatch(stem) else None


def find_recordings(source: Path) -> tuple[list[Recording], dict[str, str]]:
    """All recordings of a download, by name, and those that lack a file, with what they lack.

    Raises:
        DataError: a folder is missing or empty, or a file is not named like a recording.
    """
    audio = _by_stem(find_files(source / AUDIO, frozenset({".wav"})))
    video = _by_stem(path for folder in VIDEO for path in find_files(source / folder, _SUFFIXES))
    for what, found, folder in (("WAV", audio, AUDIO), ("FLV or MP4", video, " or ".join(VIDEO))):
        if not found:
            raise DataError(f"{source}: no {what} files in {folder}; --source must name the clone of CREMA-D")
    lacking = {stem: "no video" if stem in audio else f"no {AUDIO}" for stem in sorted(audio.keys() ^ video.keys())}
    return [Recording(stem, audio[stem], video[stem]) for stem in sorted(audio.keys() & video.keys())], lacking


def _by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """The first file of each recording: FLV before MP4, the official folder before others."""
    found: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: VIDEO.index(path.parent.name) if path.parent.name in VIDEO else 9):
        stem = parse_stem(path.stem)
        if stem is None:
            raise DataError(
                f"{path}: not the name of a recording; expected ACTOR_SENTENCE_EMOTION_LEVEL such as "
                f"1001_DFA_ANG_XX, with an emotion of {', '.join(EMOTIONS)}; remove the file"
            )
        found.setdefault(stem, path)
    return found


def same_content(first: Path, second: Path) -> bool:
    """Whether two files hold the same bytes."""
    return first.stat().st_size == second.stat().st_size and first.read_bytes() == second.read_bytes()

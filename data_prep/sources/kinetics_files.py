"""Which files of a download are the clips that the lists name: the same video, and the same seconds of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.files.folders import find_files
from data_prep.sources.kinetics_lists import SUFFIXES, Listed, parse_clip

_MAX_LINES = 5  # of messages about single clips


@dataclass(frozen=True)
class OtherTime:
    """A listed clip that the download lacks, though it has other seconds of the same video, from another release.

    Attributes:
        clip: the listed clip.
        starts: seconds at which the files of the download begin.
    """

    clip: Listed
    starts: Sequence[int]

    def __str__(self) -> str:
        there = " and ".join(f"from {start} s" for start in self.starts)
        wanted = "the list names no time" if self.clip.start is None else f"the list says {self.clip.start} s"
        return f"{self.clip.video}: there, {there}; {wanted}"


def find_clips(source: Path) -> dict[str, list[Path]]:
    """All files below a folder that are named like a clip, by YouTube id.

    Flat folders, folders of classes and the replacements for corrupt clips may be side by side.
    """
    found: dict[str, list[Path]] = {}
    for path in find_files(source, SUFFIXES):
        clip = parse_clip(path.stem)
        if clip is not None:
            found.setdefault(clip[0], []).append(path)
    return found


def match_clips(
    listed: Iterable[Listed], files: Mapping[str, Sequence[Path]]
) -> tuple[dict[str, Path], list[OtherTime]]:
    """The file of each listed clip that is there, by YouTube id, and the clips that are there at another time only.

    Args:
        listed: the clips of all splits.
        files: as `find_clips` gives them.
    """
    matches: dict[str, Path] = {}
    others: list[OtherTime] = []
    for clip in listed:
        match = best_file(files.get(clip.video, ()), clip)
        if isinstance(match, OtherTime):
            others.append(match)
        elif match is not None:
            matches[clip.video] = match
    return matches, others


def best_file(paths: Sequence[Path], clip: Listed) -> Path | OtherTime | None:
    """The file of a listed clip, a replacement for a corrupt one before others; None if the video is not there.

    A file whose name states another start than the list shows other seconds of the video, and does not match.
    Where the list states none, the files must agree on one. A file without a start in its name matches.

    Args:
        paths: files with the clip's YouTube id.
        clip: the listed clip.
    """
    timed = {path: start for path in paths if (start := _start(path)) is not None}
    starts = set(timed.values())
    if clip.start is None:
        right = list(paths) if len(starts) <= 1 else []
    else:
        right = [path for path in paths if timed.get(path, clip.start) == clip.start]
    if right:
        return min(right, key=lambda path: (path not in timed, *_rank(path)))
    return OtherTime(clip, sorted(starts)) if paths else None


def _start(path: Path) -> int | None:
    clip = parse_clip(path.stem)
    return None if clip is None else clip[1]


def _rank(path: Path) -> tuple[bool, int, str]:
    """Replacements first, then what is higher up."""
    is_replacement = any(part.startswith("replacement") for part in path.parts)
    return not is_replacement, len(path.parts), str(path)


def other_time_lines(others: Sequence[OtherTime]) -> list[str]:
    """Lines for the user: how many clips are there at another time, and the first of them."""
    if not others:
        return []
    shown = [f"{other} ({other.clip.where})" for other in others[:_MAX_LINES]]
    more = [f"and {len(others) - _MAX_LINES} more"] if len(others) > _MAX_LINES else []
    return [
        f"{len(others)} listed clips count as missing, since the download has other seconds of their videos: "
        + "; ".join([*shown, *more])
    ]

"""A small clone of CREMA-D: FLV with Sorenson video and MP3, WAV of 16 kHz, true names and folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.media import NTSC, make_video, make_wav, tone

EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
ACTORS = ("1001", "1002", "1003", "1004", "1005")


def make_recording(source: Path, stem: str, *, seconds: float = 1.3, video: str = "flv", **options: Any) -> None:
    """One recording; its emotion shows as a tint and sounds as a pitch."""
    label = EMOTIONS.index(stem[9:12]) if stem[9:12] in EMOTIONS else 0
    frequency = 200.0 * (label + 1)
    make_wav(source / "AudioWAV" / f"{stem}.wav", tone(seconds, 16000, frequency), rate=16000)
    if video == "flv":
        codecs: dict[str, Any] = {"codec": "flv", "audio": "libmp3lame", "audio_rate": 44100}
    else:
        codecs = {"codec": "libx264", "audio": "aac", "audio_rate": 44100}
    path = source / "VideoFlash" / f"{stem}.{video}"
    settings = {"size": (48, 64), "rate": NTSC, "shade": 6 * label, **codecs, **options}
    make_video(path, seconds=seconds, **settings)


def stems(actors: Sequence[str] = ACTORS, sentences: Sequence[str] = ("IEO",)) -> list[str]:
    """Every emotion by every actor, in the order of the names."""
    return sorted(f"{actor}_{sentence}_{e}_XX" for actor in actors for sentence in sentences for e in EMOTIONS)


def make_cremad(source: Path, *, names: Sequence[str] | None = None, **options: Any) -> list[str]:
    """Write a clone; returns the names of its recordings.

    Args:
        source: folder to make.
        names: of the recordings; default: six emotions by five actors.
        options: of `make_recording`.
    """
    names = stems() if names is None else names
    for stem in names:
        make_recording(source, stem, **options)
    (source / "SentenceFilenames.csv").write_text('"Stimulus_Number","Filename"\n', encoding="utf-8")
    return list(names)


def make_lists(folder: Path, names: Sequence[str]) -> Path:
    """The authors' three lists over recordings of five actors: three to train on, one each to validate and test."""
    homes = {"my_train.csv": ACTORS[:3], "val.csv": ACTORS[3:4], "test.csv": ACTORS[4:]}
    for name, actors in homes.items():
        write_list(folder / name, [stem for stem in names if stem[:4] in actors], header=name == "test.csv")
    return folder


def write_list(path: Path, names: Sequence[str], *, header: bool = False, eol: str = "\n", bom: bool = False) -> Path:
    """A list of the literature: NAME,LABEL, as each of them varies it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [*(["name,label"] if header else []), *(f"{name},{name[9:12]}" for name in names)]
    path.write_bytes(("\ufeff" if bom else "").encode() + "".join(line + eol for line in lines).encode())
    return path

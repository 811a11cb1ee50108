"""A small download of VGGSound: the official list, clips of four seconds under the three grammars of names in use."""

from __future__ import annotations

from pathlib import Path

from support.kinetics_tree import clip_id, make_clip

VGG_CLASSES = ("ambulance siren", "bird chirping, tweeting", "playing hammond organ")
VGG_COUNTS = {"train": 5, "test": 2}  # videos of each class; a video of train gives two clips
GRAMMARS = ("{video}_{start:06d}.mp4", "v{video}_{start}_{end}.mp4", "{video}_{start}000_{end}000.mp4")


def file_name(video: str, start: int, grammar: int = 0) -> str:
    return GRAMMARS[grammar].format(video=video, start=start, end=start + 10)


def make_vggsound(source: Path) -> Path:
    """Write vggsound.csv, and thirty and six clips of three classes; each class has a grammar of names."""
    rows = []
    for split, count in VGG_COUNTS.items():
        for label, name in enumerate(VGG_CLASSES):
            for number in range(count):
                video = clip_id(split, label, number)
                for start in (7, 130) if split == "train" else (30,):
                    make_clip(source / "video" / file_name(video, start, label), label)
                    quoted = f'"{name}"' if "," in name else name
                    rows.append(f"{video},{start},{quoted},{split}\n")
    (source / "vggsound.csv").write_text("".join(rows), encoding="utf-8")
    return source


def add_row(source: Path, row: str) -> None:
    """Add a line to the list."""
    with (source / "vggsound.csv").open("a", encoding="utf-8") as stream:
        stream.write(f"{row}\n")

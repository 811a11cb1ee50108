"""ucf101: 101 human actions, pictures and optical flow (Soomro et al. 2012).

The official train and test lists are taken as they are; the validation part is cut from the training
list by whole groups, since clips of a group show the same people in the same place. A clip gives
pictures at the centres of equal segments, and the optical flow from each of them to the next frame:
computed at the stored size, or imported from pre-computed images.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from data_prep.clip_preparer import Chosen, ClipPreparer
from data_prep.files.folders import find_files
from data_prep.job import Job
from data_prep.media.flow import constant_flow, opencv
from data_prep.media.pictures import FLOW, FRAME_SIZE, IMAGENET, FrameSize
from data_prep.sources.image_folders import Series, find_flow, find_pictures
from data_prep.sources.ucf101_clips import Reader
from data_prep.sources.ucf101_lists import NUM_CLASSES, Video, find_lists, list_paths, read_classes, read_splits
from data_prep.writing.clips import ArraySpec, Clip, Outcome
from data_prep.writing.provenance import decoders, fingerprint
from data_prep.writing.selection import Search, limit_clips, report_missing

SUFFIXES = frozenset({".avi", ".mp4", ".mkv"})
KINDS = ".avi, .mp4 or .mkv files"


class Ucf101(ClipPreparer):
    """Pictures and optical flow of actions: `rgb` (positions, 3, H, W), `flow` (positions, 2, H, W)."""

    name = "ucf101"

    class Settings(ClipPreparer.Settings):
        """The recipe's `dataset.prepare` block."""

        fold: Literal[1, 2, 3] = Field(1, description="number of the official train and test list")
        val_groups: tuple[Annotated[int, Field(ge=1, le=25)], ...] = Field(
            (23, 24, 25), min_length=1, description="groups of the training list that become the validation split"
        )
        flow: Literal["tvl1", "dis", "import"] = Field(
            "tvl1",
            description="optical flow; tvl1: as in the literature, slow; dis: about 70 times faster; "
            "import: read from flow_dir",
        )
        flow_dir: Path | None = Field(
            None,
            validate_default=True,
            description="pre-computed flow: folders u and v of clips' folders, or clips' folders with flow_x_00001.jpg",
        )
        rgb_dir: Path | None = Field(
            None, description="extracted pictures: clips' folders with frame000001.jpg; null: decode the clips"
        )
        positions: int = Field(
            10, ge=1, le=100, description="stored pictures and flow fields per clip, at the centres of equal segments"
        )
        frame_size: FrameSize = Field(
            FRAME_SIZE,
            description="height and width, in pixels, of stored pictures and flow; flow is computed at this size",
        )
        seed: int = Field(0, ge=0, le=2**63 - 1, description="seed of the choice of clips under --limit")

        @field_validator("flow_dir")
        @classmethod
        def _needed_for_import(cls, folder: Path | None, info: ValidationInfo) -> Path | None:
            if info.data.get("flow") == "import" and folder is None:
                raise ValueError("must name the folder of the pre-computed flow, since flow is import")
            if info.data.get("flow") in ("tvl1", "dis") and folder is not None:
                raise ValueError("must be left out, or flow must be import")
            return folder

    settings: Settings

    def fingerprint(self, source: Path) -> str:
        """Digest of the lists by content, of the clips by name and size, of image folders by number of files."""
        folder = find_lists(source)
        _, clips, _ = self._find(source)
        paths = [clip.path for clip in clips if clip.path is not None]
        digest = fingerprint(source, paths, list_paths(folder, self.settings.fold))
        counts = [s.count(clip.class_name, clip.id) for clip in clips for s in self._series()]
        return hashlib.sha256(f"{digest} {counts}".encode()).hexdigest()

    def choose(self, job: Job) -> Chosen:
        """Find the listed clips that are there."""
        classes, clips, listed = self._find(job.download)
        if len(classes) != NUM_CLASSES:
            job.warn(f"{find_lists(job.download)}: {len(classes)} classes, UCF-101 has {NUM_CLASSES}")
        self._search(job.download, listed).check(clips)
        counts = {split: dict(Counter(classes[video.label] for video in videos)) for split, videos in listed.items()}
        missing = report_missing(counts, clips, classes, job.warn)
        chosen = limit_clips(clips, classes, job, seed=self.settings.seed)
        return Chosen(chosen, classes, {"missing": missing})

    def work(self) -> Work:
        """What takes pictures and flow, by the settings."""
        return Work(self._reader())

    def versions(self) -> dict[str, str]:
        """Versions of what decodes, and of OpenCV, which computes the flow."""
        return {**decoders(), "cv2": opencv().__version__}

    def _find(self, source: Path) -> tuple[tuple[str, ...], list[ActionClip], dict[str, list[Video]]]:
        """Class names, the listed clips that are there, and the listed ones by split."""
        folder = find_lists(source)
        classes = read_classes(list_paths(folder, self.settings.fold)[0])
        splits = read_splits(folder, self.settings.fold, self.settings.val_groups, classes)
        files = {} if self.settings.rgb_dir else find_videos(source)
        series = self._series()
        clips = []
        for split, videos in splits.items():
            for video in videos:
                class_name = classes[video.label]
                path = best_file(files.get(video.name.lower(), ()), class_name)
                has_series = all(s.folder(class_name, video.name) for s in series)
                if has_series and (path or self.settings.rgb_dir):
                    clips.append(ActionClip(video.name, video.label, split, class_name, path))
        return classes, clips, splits

    def _search(self, source: Path, listed: Mapping[str, Sequence[Video]]) -> Search:
        """What was looked for: clips, or the folders of their pictures."""
        names = {split: [video.name for video in videos] for split, videos in listed.items()}
        flow = self.settings.flow_dir
        besides = f", and which each need a folder of flow in {flow}" if flow else ""
        if self.settings.rgb_dir is None:
            return Search(source, names, lambda: find_files(source, SUFFIXES), KINDS, besides)
        folder = find_pictures(self.settings.rgb_dir).root
        return Search(folder, names, lambda: (path for path in folder.iterdir() if path.is_dir()), "folders", besides)

    def _reader(self) -> Reader:
        """What takes pictures and flow from a clip, by the settings."""
        settings = self.settings
        return Reader(
            positions=settings.positions,
            size=settings.frame_size,
            method="dis" if settings.flow == "dis" else "tvl1",
            pictures=find_pictures(settings.rgb_dir) if settings.rgb_dir else None,
            flow=find_flow(settings.flow_dir) if settings.flow_dir else None,
        )

    def _series(self) -> list[Series]:
        """All series of images that are imported."""
        reader = self._reader()
        return [*(reader.flow or ()), *([reader.pictures] if reader.pictures else [])]

    def specs(self) -> dict[str, ArraySpec]:
        """Pictures and flow."""
        positions, size = self.settings.positions, self.settings.frame_size
        return {
            "rgb": ArraySpec((positions, 3, *size), "uint8", kind="frames", statistics=IMAGENET),
            "flow": ArraySpec((positions, 2, *size), "uint8", kind="flow", statistics=FLOW),
        }


@dataclass(frozen=True)
class ActionClip(Clip):
    """A clip, the folder of its class, and its file; no file where its pictures are imported."""

    class_name: str
    path: Path | None


@dataclass(frozen=True)
class Work:
    """From a clip to its rows."""

    reader: Reader

    def __call__(self, clip: ActionClip) -> Outcome:
        """Take pictures and flow.

        Raises:
            ClipError: the clip or its pre-computed images are damaged or too short.
        """
        taken = self.reader.take(clip.class_name, clip.id, clip.path)
        return Outcome({"rgb": taken.rgb, "flow": taken.flow}, taken.bad_packets, constant_flow(taken.flow))


def find_videos(source: Path) -> dict[str, list[Path]]:
    """All video files below a folder by name without suffix, in lower case; class folders may be lost."""
    found: dict[str, list[Path]] = {}
    for path in find_files(source, SUFFIXES):
        found.setdefault(path.stem.lower(), []).append(path)
    return found


def best_file(paths: Iterable[Path], class_name: str) -> Path | None:
    """The file of a clip, from the folder of its class if there are several; None if there is none."""
    there = [path for path in paths if path.is_file()]
    return min(there, key=lambda path: (path.parent.name != class_name, str(path)), default=None)

"""How fast clips are prepared, next to decoding alone; memory; and what the whole datasets would take.

    python benchmarks/prepare.py [--clips 24] [--repeats 3] [--json FILE]

Makes clips of the true size, rate, length and codecs with a moving texture, prepares them in one
process, and decodes the same files without keeping anything. Seconds are processor time, so that other
work on the machine does not count; the first clip, which includes imports, is left out. Memory is the
anonymous memory of the process, without the pages of the arrays on disk.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from support import cremad_tree, kinetics_tree, ucf101_tree  # noqa: E402
from support.media import NTSC, make_wav, tone  # noqa: E402

from drcli.data.format import SPLITS, DatasetInfo  # noqa: E402
from drcli.names import DATASETS  # noqa: E402

Tree = Callable[[Path, int], list[Path]]
"""Writes a download of at least so many clips; returns the files that are decoded."""


@dataclass(frozen=True)
class Case:
    """A dataset as it is prepared.

    Attributes:
        dataset: its name.
        tree: makes the download.
        settings: other than the defaults.
        total: clips of the real dataset.
    """

    dataset: str
    tree: Tree
    settings: dict[str, Any]
    total: int


def write_clip(
    path: Path, *, codec: str, size: tuple[int, int], rate: Fraction | int, seconds: float, audio: str | None = None
) -> Path:
    """A clip with a texture that moves, at about 1 Mbit/s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = ucf101_tree.moving_texture(round(seconds * rate), (3, 1), size=size)
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=rate, options={"preset": "veryfast"} if codec == "libx264" else {})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.bit_rate = 1_000_000
        sound: Any = output.add_stream(audio, rate=44100, layout="mono") if audio else None
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if sound is not None:
            wave = np.round(tone(seconds, 44100) * 32767).astype(np.int16)[None]
            piece = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
            piece.sample_rate, piece.pts = 44100, 0
            output.mux(sound.encode(piece))
            output.mux(sound.encode(None))
    return path


def copies(clip: Path, targets: Sequence[Path]) -> list[Path]:
    """The same clip under many names."""
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, target)
    clip.unlink()
    return list(targets)


def cremad(root: Path, count: int) -> list[Path]:
    """FLV of 480 x 360 at 29.97 frames per second and WAV, the median 2.5 s."""
    actors = [str(1001 + index) for index in range(max(3, math.ceil(count / 6)))]
    names = cremad_tree.stems(actors)
    clip = write_clip(root / "clip.flv", codec="flv", size=(360, 480), rate=NTSC, seconds=2.5, audio="libmp3lame")
    videos = copies(clip, [root / "VideoFlash" / f"{name}.flv" for name in names])
    rng = np.random.default_rng(0)
    sounds = [make_wav(root / "AudioWAV" / f"{n}.wav", 0.1 * rng.standard_normal(40000)) for n in names]
    return videos + sounds


def kinetics(root: Path, count: int) -> list[Path]:
    """MP4 of 340 x 256 at 30 frames per second with sound, 10 s."""
    classes = kinetics_tree.CLASSES
    clip = write_clip(root / "clip.mp4", codec="libx264", size=(256, 340), rate=30, seconds=10.0, audio="aac")
    counts = {"train": max(1, math.ceil(count / len(classes)) - 2), "val": 1, "test": 1}
    targets = []
    (root / "annotations").mkdir()
    for split in SPLITS:
        videos = [
            (label, kinetics_tree.clip_id(split, label, n))
            for label in range(len(classes))
            for n in range(counts[split])
        ]
        targets += [root / split / kinetics_tree.file_name(video) for _, video in videos]
        rows = [(classes[label], video, 58, 68, split, 0) for label, video in videos]
        (root / "annotations" / f"{split}.csv").write_text(kinetics_tree.annotation(rows), encoding="utf-8")
    return copies(clip, targets)


def ucf101(root: Path, count: int) -> list[Path]:
    """AVI of 320 x 240 at 25 frames per second, 7 s."""
    classes = ucf101_tree.CLASSES
    groups = sorted(group for part in ucf101_tree.GROUPS.values() for group in part)
    clips = max(1, math.ceil(count / len(classes) / len(groups)))
    ucf101_tree.make_lists(root / "ucfTrainTestlist", clips=clips)
    clip = write_clip(root / "clip.avi", codec="mpeg4", size=(240, 320), rate=25, seconds=7.0)
    names = [(name, ucf101_tree.video_name(name, g, c + 1)) for name in classes for g in groups for c in range(clips)]
    return copies(clip, [root / "UCF-101" / folder / f"{name}.avi" for folder, name in names])


CASES = {
    "cremad": Case("cremad", cremad, {}, 7442),
    "cremad, stft": Case("cremad", cremad, {"audio": "stft"}, 7442),
    "kinetics_sounds": Case("kinetics_sounds", kinetics, {"classes": kinetics_tree.CLASSES}, 19000),
    "ucf101, DIS": Case("ucf101", ucf101, {"val_groups": (24,), "flow": "dis"}, 13320),
    "ucf101, TV-L1": Case("ucf101", ucf101, {"val_groups": (24,), "flow": "tvl1"}, 13320),
}


def decode(path: Path) -> None:
    """Decode every stream of a file, in one thread, and keep nothing."""
    with av.open(str(path)) as container:
        for stream in container.streams:
            stream.codec_context.thread_count = 1
        for _ in container.decode():
            pass


def bare(paths: Sequence[Path], clips: int) -> float:
    """Clips per second of decoding alone."""
    started = time.process_time()
    for path in paths:
        decode(path)
    return clips / (time.process_time() - started)


def prepared(case: Case, source: Path, out: Path) -> tuple[float, float, DatasetInfo]:
    """Clips per second from the second clip on, peak of anonymous memory in MiB, and what was written."""
    moments: list[float] = []

    def progress(stage: str, _done: int, _total: int) -> None:
        if stage == "clips":
            moments.append(time.process_time())

    preparer = DATASETS.load(case.dataset)
    settings = preparer.Settings.model_validate(case.settings)
    shutil.rmtree(out, ignore_errors=True)
    with PeakMemory() as memory:
        info = preparer(settings).run(source=source, out=out, progress=progress)
    return (len(moments) - 2) / (moments[-1] - moments[1]), memory.peak, info


class PeakMemory:
    """Watches the process's anonymous memory, in MiB, from a thread."""

    def __enter__(self) -> PeakMemory:
        self.peak = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
            self.peak = max(self.peak, *(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")))


def measure(name: str, clips: int, repeats: int) -> dict[str, Any]:
    """All numbers of one case, in this process."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "source"), Path(folder, "out")
        source.mkdir()
        paths = case.tree(source, clips)
        runs, rates = [], []
        for _ in range(repeats):
            runs.append(prepared(case, source, out))
            rates.append(bare(paths, sum(runs[0][2].rows.values())))
        info = runs[0][2]
        count = sum(info.rows.values())
    bytes_a_clip = sum(math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in info.modalities.values())
    rate, decoding = max(run[0] for run in runs), max(rates)
    return {
        "case": name,
        "clips": count,
        "prepare_clips_per_s": rate,
        "decode_clips_per_s": decoding,
        "share": rate / decoding,
        "peak_mib": max(run[1] for run in runs),
        "bytes_per_clip": bytes_a_clip,
        "projected_clips": case.total,
        "projected_core_hours": case.total / rate / 3600,
        "projected_gb": case.total * bytes_a_clip / 1e9,
    }


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=int, default=24, help="clips of each dataset")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest of so many runs counts")
    parser.add_argument("--cases", default=",".join(CASES).replace(", ", "/"), help=argparse.SUPPRESS)
    parser.add_argument("--memory", type=int, nargs="+", default=[96, 192, 384], help="clips of which memory is taken")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    arguments = parser.parse_args()
    names = [name.replace("/", ", ") for name in arguments.cases.split(",")]
    results = []
    print(f"{'':17} clips  prepare/s  decode/s  share  whole set: clips  core hours     GB")
    for name in names:
        found = alone(measure, name, arguments.clips, arguments.repeats)
        results.append(found)
        print(
            f"{name:17} {found['clips']:5} {found['prepare_clips_per_s']:10.2f} {found['decode_clips_per_s']:9.2f} "
            f"{found['share']:6.0%} {found['projected_clips']:17} {found['projected_core_hours']:11.2f} "
            f"{found['projected_gb']:6.1f}"
        )
    memory = {count: alone(measure, "cremad", count, 1)["peak_mib"] for count in arguments.memory}
    print("memory, cremad: " + ", ".join(f"{peak:.0f} MiB with {count} clips" for count, peak in memory.items()))
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"cases": results, "peak_mib_by_clips": memory}, indent=2) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()

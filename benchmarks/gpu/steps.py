"""What is measured on a GPU, most informative first, how long each step may take, and how it is shortened.

A step is one of the benchmarks in a process of its own: what it measures, and how, is said there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WORKERS = 16
"""Worker processes of the conventional loop, where there are as many cores."""

WORKER_MEMORY = 200e6
"""Bytes of shared memory that a worker's batches take."""

CREMAD = ("--dataset", "cremad-size", "dataset.prepare.audio=stft")
"""The spectrogram of `cremad_size.py`, so that all steps share the arrays."""

LOOPS = ("conventional", "conventional bf16 channels_last", "drcli", "drcli precision=bf16")
SWITCHED = (
    "drcli channels_last=false",
    "drcli fused=off",
    "drcli deterministic=false",
    "drcli data=stream",
)
COMPILED = ("drcli", "drcli compile=reduce-overhead", "drcli compile=default")

SCRATCH = "{scratch}"
"""Stands for the folder of made-up arrays."""

NARROW = tuple(f"modalities.{m}.{field}" for m in ("audio", "visual") for field in ("width=4", "stem_stride=4"))
SMALL = (
    *(f"modalities.{m}.backbone=resnet_small" for m in ("audio", "visual")),
    *NARROW,
    "modalities.visual.size=16",
    "training.batch_size=8",
    "training.precision=fp32",
)
TINY_CLIPS = ("--clips", "12")
BF16, STREAM = "training.precision=bf16", "training.data=stream"


@dataclass(frozen=True)
class Length:
    """One of the lengths that a step can have.

    Attributes:
        seconds: what it is expected to take at most.
        options: for the benchmark.
        said: what was shortened, or the empty string.
    """

    seconds: float
    options: tuple[str, ...] = ()
    said: str = ""


@dataclass(frozen=True)
class Step:
    """A benchmark with its options.

    Attributes:
        name: of the step and its file.
        part: of three, the one that it belongs to.
        script: below benchmarks/.
        options: at every length.
        lengths: from the full one to the shortest.
        tiny: options in place of all others, for a run that only shows that the chain holds.
        arrays: whether it takes the folder of made-up arrays.
    """

    name: str
    part: int
    script: str
    options: tuple[str, ...]
    lengths: tuple[Length, ...]
    tiny: tuple[str, ...] = ()
    arrays: bool = False


def workers() -> int:
    """Return how many worker processes the conventional loop gets: each needs a core, and shared memory."""
    shared = Path("/dev/shm")
    free = os.statvfs(shared).f_bavail * os.statvfs(shared).f_frsize if shared.is_dir() else 0
    return max(1, min(WORKERS, os.cpu_count() or 1, int(free / WORKER_MEMORY)))


def joined(*names: Sequence[str]) -> str:
    """Return names of variants as --variants takes them."""
    return ",".join(name for several in names for name in several)


def turns(repeats: int, seconds: int) -> tuple[str, ...]:
    """Return the options of a benchmark whose variants take turns of several epochs.

    Files of the last one are waited for; in a run of many epochs they are written while the next one is trained.
    """
    return ("--repeats", str(repeats), "--seconds", str(seconds), "--epochs", "3")


def all_steps() -> tuple[Step, ...]:
    """Return the steps, in their order."""
    count = ("--workers", str(workers()))
    alone = ("--warmup", "0", "--repeats", "1")
    short = (*TINY_CLIPS, "--epochs", "1", *SMALL)
    return (
        Step("facts", 1, "gpu/facts.py", (), (Length(30),), ("--side", "64")),
        Step("tests", 1, "gpu/checks.py", (), (Length(130),), ("--workers", "1")),
        Step(
            "compute_only",
            1,
            "compute_only.py",
            CREMAD,
            (
                Length(190, ("--repeats", "3", "--seconds", "60")),
                Length(130, ("--repeats", "1"), "1 turn instead of 3"),
            ),
            (*CREMAD, *TINY_CLIPS, *alone, "--side", "64", *SMALL),
            arrays=True,
        ),
        Step(
            "throughput",
            1,
            "throughput.py",
            (*CREMAD, *count),
            (
                Length(520, (*turns(3, 480), "--variants", joined(LOOPS, SWITCHED))),
                Length(300, (*turns(1, 60), "--variants", joined(LOOPS, SWITCHED)), "1 turn instead of 3"),
                Length(210, (*turns(1, 30), "--variants", joined(LOOPS)), "1 turn instead of 3, no other switch"),
            ),
            (*CREMAD, *TINY_CLIPS, *alone, "--epochs", "1", "--workers", "0", "--variants", joined(LOOPS), *SMALL),
            arrays=True,
        ),
        _experiment("experiment", (), 330, 140, 60),
        _experiment("experiment_bf16", (BF16,), 300, 130, 60),
        Step(
            "kmeans",
            2,
            "kmeans.py",
            (),
            (
                Length(400, ("--repeats", "2", "--seeds", "3")),
                Length(110, ("--repeats", "1", "--seeds", "1"), "1 seed instead of 3"),
                Length(
                    60,
                    ("--repeats", "1", "--seeds", "1", "--cases", "kinetics_sounds"),
                    "1 seed instead of 3, K = 31 alone",
                ),
            ),
            ("--repeats", "1", "--seeds", "1", "--cases", "cremad", "--rows", "200"),
        ),
        Step(
            "diagnosis",
            2,
            "diagnosis.py",
            (f"dataset.root={SCRATCH}/digits",),
            (
                Length(60, ("--repeats", "1")),
                Length(35, ("--repeats", "1", "--epochs", "10"), "10 epochs, the whole is projected"),
            ),
            (
                "--epochs",
                "3",
                "--repeats",
                "1",
                f"dataset.root={SCRATCH}/tiny-digits",
                "dataset.prepare.draws=2",
                *NARROW,
            ),
        ),
        Step(
            "diagnosis_scale",
            2,
            "diagnosis_scale.py",
            (),
            (Length(90), Length(60, ("--seeds", "1"), "1 seed instead of 3")),
            ("--rows", "400", "--classes", "4", "--samples", "100", "--seeds", "1", "--batches", "2"),
        ),
        Step("graphs", 2, "gpu/checks.py", ("--graphs",), (Length(120),), ("--graphs", "--workers", "1")),
        Step(
            "compiled",
            3,
            "throughput.py",
            (*CREMAD, "--workers", "0"),
            (
                Length(250, (*turns(3, 100), "--variants", joined(COMPILED))),
                Length(
                    150, (*turns(1, 20), "--variants", joined(COMPILED[:2])), "CUDA graphs alone, 1 turn instead of 3"
                ),
            ),
            (*CREMAD, *TINY_CLIPS, *alone, "--epochs", "1", "--workers", "0", "--variants", "drcli", *SMALL),
            arrays=True,
        ),
        Step(
            "scaling",
            3,
            "scaling.py",
            ("--repeats", "1"),
            (
                Length(110, ("--axes", "clips,modalities")),
                Length(60, ("--axes", "clips", "--sizes", "1024,4096"), "two numbers of clips alone"),
            ),
            ("--axes", "modalities", "--sizes", "2", "--size", "8", "--epochs", "3", "--repeats", "1"),
        ),
        Step(
            "side_by_side",
            3,
            "side_by_side.py",
            (),
            (
                Length(120),
                Length(80, ("--at-once", "1,4", "--epochs", "10"), "10 epochs instead of 20, 1 and 4 at once alone"),
            ),
            ("--runs", "2", "--at-once", "2", "--epochs", "3", "--size", "8", "--clips", "32"),
        ),
        Step(
            "memory_stream",
            3,
            "cremad_size.py",
            ("--epochs", "1", STREAM),
            (Length(60),),
            (*short, STREAM),
            arrays=True,
        ),
    )


def _experiment(name: str, fields: tuple[str, ...], *seconds: float) -> Step:
    """Return the whole experiment with D&R; shortened, it is projected."""
    said = "epochs with 1 event instead of 90 with 3; the whole is projected"
    shorter = [("--epochs", epochs) for epochs in ("30", "6")]
    lengths = (
        Length(seconds[0]),
        *(Length(s, options, f"{options[1]} {said}") for s, options in zip(seconds[1:], shorter, strict=True)),
    )
    tiny = (*TINY_CLIPS, "--epochs", "3", *SMALL, *fields)
    return Step(name, 2, "cremad_size.py", fields, lengths, tiny, arrays=True)

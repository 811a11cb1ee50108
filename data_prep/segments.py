"""Segments with streams become a dataset of sequences: what CMU-MOSI, CMU-MOSEI, UR-FUNNY and MUStARD share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from data_prep.job import Job
from data_prep.sources.mosi_segments import MODALITIES, Contents, Floats, Segment, Skipped
from data_prep.writing.splits import Indices, check_classes, limit_splits, row_generator
from data_prep.writing.writer import DatasetWriter, SplitWriter
from drcli.data.format import SPLITS
from drcli.data.target import Regression
from drcli.errors import DataError
from drcli.task import TaskName

MOST_LINES = 20  # of warnings about single segments

Shapes = Mapping[str, tuple[int, ...]]
Labelled = tuple[Segment, int]
"""A segment and its class."""
Scored = tuple[Segment, float]
"""A segment and its score."""

SENTIMENT = Regression(-3.0, 3.0)
"""Range of the scores of CMU-MOSI and CMU-MOSEI."""


def task_of(target: str) -> TaskName:
    """What a target makes of the task: "score" is the real value, all others are classes."""
    return "regression" if target == "score" else "classification"


def range_of(target: str) -> Regression | None:
    """Range of a target's values; None of classes."""
    return SENTIMENT if task_of(target) == "regression" else None


def sequence_shapes(contents: Contents, max_length: int, max_frames: int | None) -> dict[str, tuple[int, int]]:
    """Shape (L, D) of each modality, over all segments: a limit does not change it.

    Args:
        contents: the segments.
        max_length: most steps that are words.
        max_frames: most steps that are not; None: all.
    """
    shapes = {}
    for m in MODALITIES:
        steps, widths = zip(*(stream.shape for stream in contents.streams(m)), strict=True)
        is_by_word = contents.is_aligned or m == "text"
        most = max_length if is_by_word else max_frames
        longest = max(1, *steps)
        shapes[m] = (longest if most is None else min(most, longest), widths[0])
    return shapes


def labelled(
    contents: Contents, class_of: Callable[[Segment], int | None], classes: tuple[str, ...], job: Job
) -> dict[str, list[Labelled]]:
    """The segments that have words and a class, with their class, after the limit.

    Args:
        contents: the segments.
        class_of: class index of a segment; None leaves it out.
        classes: class names in index order.
        job: its limit counts.

    Raises:
        DataError: a split would be empty, or a class absent from train.
    """
    kept, labels = _limited(contents, class_of, job)
    check_classes(kept, np.array([label for _, label in labels], dtype=np.int64), classes, job.warn)
    return {split: [labels[index] for index in indices] for split, indices in kept.items()}


def scored(contents: Contents, class_of: Callable[[Segment], int | None], job: Job) -> dict[str, list[Scored]]:
    """The segments that have words, with their score, after the limit.

    Args:
        contents: the segments.
        class_of: the class whose shares the limit keeps.
        job: its limit counts.

    Raises:
        DataError: a split would be empty.
    """
    kept, found = _limited(contents, class_of, job)
    check_classes(kept, np.zeros(len(found), dtype=np.int64), ("score",), job.warn)
    segments = {split: [found[index][0] for index in indices] for split, indices in kept.items()}
    return {split: [(segment, segment.sentiment) for segment in of_one] for split, of_one in segments.items()}


def _limited(
    contents: Contents, class_of: Callable[[Segment], int | None], job: Job
) -> tuple[dict[str, Indices], list[Labelled]]:
    """Places of the segments that are kept, by split, and the segments with their classes."""
    everything, members = list[Labelled](), {}
    for split in SPLITS:
        first = len(everything)
        for segment in contents.splits[split]:
            label = class_of(segment)
            if label is not None and segment.has_words:
                everything.append((segment, label))
        members[split] = np.arange(first, len(everything))
    labels = np.array([label for _, label in everything], dtype=np.int64)
    return limit_splits(members, labels, job.limit, row_generator(0, "limit")), everything


def write_chosen(
    job: Job,
    name: str,
    classes: tuple[str, ...],
    contents: Contents,
    class_of: Callable[[Segment], int | None],
    shapes: Shapes,
    regression: Regression | None = None,
) -> DatasetWriter:
    """Write the segments that have a class, with it, or all that have words, with their scores; see `write_segments`.

    Raises:
        DataError: as `labelled` or `scored`.
    """
    splits: Mapping[str, Sequence[Scored]] = (
        labelled(contents, class_of, classes, job) if regression is None else scored(contents, class_of, job)
    )
    return write_segments(job, name, classes, splits, shapes, regression)


def write_segments(
    job: Job,
    name: str,
    classes: tuple[str, ...],
    splits: Mapping[str, Sequence[Scored]],
    shapes: Shapes,
    regression: Regression | None = None,
) -> DatasetWriter:
    """Write the three splits.

    Args:
        job: where to.
        name: of the dataset.
        classes: class names in index order.
        splits: segments and their classes, or scores.
        shapes: of each modality: (L, D) a sequence, (D,) a vector.
        regression: range of scores; None for classes.
    """
    writer = DatasetWriter(job.out, name=name, classes=classes, regression=regression)
    for split, pairs in splits.items():
        segments = [segment for segment, _ in pairs]
        part = writer.split(split, labels=[label for _, label in pairs], ids=[segment.id for segment in segments])
        for m, shape in shapes.items():
            write = write_vectors if len(shape) == 1 else write_sequences
            write(part, m, shape, [segment.streams[m] for segment in segments])
        job.progress(f"{name}: {split}", len(segments), len(segments))
    return writer


def write_vectors(part: SplitWriter, modality: str, shape: tuple[int, ...], streams: Sequence[Floats]) -> None:
    """Write sequences of one step (1, D) as rows (D,)."""
    array = part.array(modality, shape, "float32", kind="vector")
    for row, stream in enumerate(streams):
        array[row] = stream[0]


def write_sequences(part: SplitWriter, modality: str, shape: tuple[int, ...], streams: Sequence[Floats]) -> None:
    """Write sequences (T, D) as rows (L, D), cut at L steps or padded with zeros at the end, and their lengths."""
    array = part.array(modality, shape, "float32", kind="sequence")
    kept = [stream[: shape[0]] for stream in streams]
    for row, stream in enumerate(kept):
        array[row, : len(stream)] = stream
        array[row, len(stream) :] = 0
    part.lengths(modality, [len(stream) for stream in kept])


def wordless(contents: Contents) -> list[Skipped]:
    """The segments whose text is all zero; every reader of these files leaves them out."""
    return [
        Skipped(segment.id, "no words", split)
        for split, segments in contents.splits.items()
        for segment in segments
        if not segment.has_words
    ]


def check_bad(contents: Contents, max_bad: float, where: str, *, exempt: Collection[str] = ()) -> None:
    """Refuse a source that cannot give more of its segments than `--max-bad` allows.

    Segments without words do not count.

    Args:
        contents: what was read.
        max_bad: share that may be skipped, in [0, 1].
        where: file or folder, for the message.
        exempt: ids of segments that are known to be missing.

    Raises:
        DataError: more are skipped.
    """
    bad = [segment for segment in contents.skipped if segment.id not in exempt]
    total = len(contents.skipped) + sum(len(segments) for segments in contents.splits.values())
    if len(bad) > max_bad * total:
        first = "; ".join(f"{segment.id}: {segment.reason} ({segment.detail})" for segment in bad[:5])
        raise DataError(
            f"{where}: {len(bad)} of {total} segments cannot be used, more than the {100 * max_bad:g} % of "
            f"--max-bad: {first}; download the files again, or repeat the command with a larger --max-bad"
        )


def size_note(contents: Contents, published: Mapping[str, int], name: str, where: str) -> list[str]:
    """A line where a source has other numbers of segments than the published one."""
    sizes = {split: len(segments) for split, segments in contents.splits.items()}
    if sizes == published:
        return []
    here, there = (", ".join(f"{n} {split}" for split, n in of.items()) for of in (sizes, published))
    return [f"{where}: {here} segments; {name} has {there}"]


def skipped_lines(skipped: Sequence[Skipped]) -> list[str]:
    """A line for each segment that is left out, up to `MOST_LINES`."""
    lines = [f"skipped {segment.id}: {segment.reason} ({segment.detail})" for segment in skipped[:MOST_LINES]]
    more = len(skipped) - len(lines)
    return [*lines, f"skipped {more} more segments; all are listed under `source` in dataset.json"] if more else lines

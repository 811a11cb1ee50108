from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.job import Job
from data_prep.writing.clips import Clip
from data_prep.writing.selection import Search, limit_clips, report_missing
from drcli.errors import DataError

CLASSES = ("bowling", "laughing")


def clips(train: int, val: int = 2, test: int = 2) -> list[Clip]:
    """So many of each class in each split."""
    sizes = {"train": train, "val": val, "test": test}
    return [
        Clip(f"{split}{label}{n}", label, split)
        for split, size in sizes.items()
        for label in (0, 1)
        for n in range(size)
    ]


def test_missing_clips_are_told_by_split_and_class() -> None:
    lines: list[str] = []
    listed = {"train": {"bowling": 5, "laughing": 4}, "val": {"bowling": 2, "laughing": 2}}
    missing = report_missing(listed, clips(4), CLASSES, lines.append)
    assert missing == {"train": {"bowling": 1}}
    assert lines == ["train: 1 of 9 listed clips are not in the source: bowling 1"]


def test_a_limit_keeps_shares_and_order() -> None:
    job = Job(source=None, out=Path("unused"), limit=14)
    kept = limit_clips(clips(10), CLASSES, job, seed=0)
    assert [sum(clip.split == split for clip in kept) for split in ("train", "val", "test")] == [10, 2, 2]
    assert sum(clip.label for clip in kept) == 7
    assert kept == sorted(kept, key=clips(10).index)
    assert kept == limit_clips(clips(10), CLASSES, job, seed=0)
    assert kept != limit_clips(clips(10), CLASSES, job, seed=1)


def test_without_a_limit_everything_stays() -> None:
    assert limit_clips(clips(3), CLASSES, Job(source=None, out=Path("unused")), seed=0) == clips(3)


@pytest.mark.parametrize(
    ("there", "message"),
    [([], "split train would be empty"), (clips(2)[:1] + clips(2)[4:], "class laughing would be absent from train")],
)
def test_an_absent_class_is_refused_before_anything_is_decoded(there: list[Clip], message: str) -> None:
    with pytest.raises(DataError, match=message):
        limit_clips(there, CLASSES, Job(source=None, out=Path("unused")), seed=0)


LISTED = {"train": ["v_b", "v_a"], "val": ["v_c"], "test": []}


@pytest.mark.parametrize(
    ("files", "there"),
    [
        ([], "the folder holds no .avi files"),
        (["sub/y.avi", "sub/x.avi"], "the folder holds 2 .avi files, such as sub/x.avi"),
    ],
)
def test_where_nothing_matches_both_sides_are_counted_with_an_example(files: list[str], there: str) -> None:
    source = Path("download")
    search = Search(source, LISTED, lambda: (source / name for name in files), ".avi files")
    with pytest.raises(DataError) as caught:
        search.check([])
    assert str(caught.value) == (
        "download: none of the 2 listed clips of train was found; looked for 'v_a', for example; "
        f"{there}; name the folder above the clips, whose files are named as in the lists"
    )


def test_a_search_that_found_a_clip_of_each_listed_split_is_fine() -> None:
    search = Search(Path("download"), LISTED, list, ".avi files")
    search.check([Clip("v_a", 0, "train"), Clip("v_c", 0, "val")])
    with pytest.raises(DataError, match="none of the 1 listed clips of val was found; looked for 'v_c'"):
        search.check([Clip("v_a", 0, "train")])

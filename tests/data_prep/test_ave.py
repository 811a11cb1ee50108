from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.ave_tree import AVE_CLASSES, add_line, line, make_ave
from support.command_line import tree
from support.genuine import existing
from support.kinetics_tree import clip_id
from support.media import frame_number
from support.preparing import prepared_with, rows_of

from data_prep.ave import Ave
from data_prep.media import read_audio
from data_prep.media.audio import fbank
from data_prep.sources.ave_lists import CLASSES, LISTS, list_paths, read_splits, without_empty
from data_prep.sources.shared_videos import report_shared, shared_videos, without_shared
from drcli.data.prepared import open_dataset
from drcli.errors import DataError

SMALL: dict[str, Any] = {"frame_size": (16, 22), "frames": 2, "classes": AVE_CLASSES}


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine, six and three videos of four seconds."""
    return make_ave(tmp_path_factory.mktemp("ave") / "download")


prepare = partial(prepared_with, Ave, SMALL)
rows = partial(rows_of, ("audio", "visual"))


def test_events_become_sound_and_pictures_of_their_seconds(download: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    info = prepare(download, tmp_path / "out", options={"warn": lines.append})
    assert lines == []
    assert info.classes == AVE_CLASSES
    assert info.samples == {"train": 9, "val": 6, "test": 3}
    assert {key: info.source[key] for key in ("missing", "empty_events", "shared_videos")} == {
        "missing": {},
        "empty_events": [],
        "shared_videos": {},
    }
    audio, visual, labels, ids = rows(tmp_path / "out", "train")
    assert labels == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    # Ten pictures a second. Of 0 to 4 s, 1 to 3 s and 2 to 4 s, the centres of two halves are these.
    assert [[frame_number(picture) for picture in clip] for clip in visual[:3]] == [[10, 30], [15, 25], [25, 35]]
    wave = read_audio(download / "AVE_Dataset" / "AVE" / f"{ids[1]}.mp4", rate=16000).samples[16000:48000]
    np.testing.assert_array_equal(audio[1], fbank(np.tile(wave, 5)).astype(np.float16))
    open_dataset(tmp_path / "out", name="ave")


@pytest.mark.slow
def test_a_second_preparation_is_equal_byte_for_byte(download: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        prepare(download, tmp_path / name)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


@pytest.mark.slow
def test_the_whole_clip_is_taken_where_asked(download: Path, tmp_path: Path) -> None:
    prepare(download, tmp_path / "out", window="clip", repeat_sound=False)
    audio, visual, _, ids = rows(tmp_path / "out", "val")
    assert [frame_number(picture) for picture in visual[1]] == [10, 30]
    wave = read_audio(download / "AVE_Dataset" / "AVE" / f"{ids[1]}.mp4", rate=16000).samples
    np.testing.assert_array_equal(audio[1], fbank(wave).astype(np.float16))


@pytest.mark.slow
def test_two_events_of_a_video_are_two_rows_and_an_empty_one_is_told(source: Path, tmp_path: Path) -> None:
    video = clip_id("val", 0, 0)
    add_line(source, "val", line(AVE_CLASSES[2], video, 1, 4))
    add_line(source, "val", line(AVE_CLASSES[1], clip_id("val", 1, 1), 0, 0))
    lines: list[str] = []
    info = prepare(source, tmp_path / "out", options={"warn": lines.append})
    labels, ids = rows(tmp_path / "out", "val")[2:]
    assert dict(zip(ids, labels, strict=True)).items() >= {f"{video}_1": 0, f"{video}_2": 2}.items()
    assert info.source["empty_events"] == [f"{clip_id('val', 1, 1)}_2"]
    assert lines == [f"{source}/AVE_Dataset/valSet.txt:8: the event of {clip_id('val', 1, 1)} lasts 0 s; left out"]


@pytest.mark.slow
def test_a_video_in_two_splits_is_told_and_left_out_of_train_where_asked(source: Path, tmp_path: Path) -> None:
    video = clip_id("val", 0, 0)
    add_line(source, "train", line(AVE_CLASSES[2], video, 1, 4))
    lines: list[str] = []
    info = prepare(source, tmp_path / "kept", options={"warn": lines.append})
    assert info.samples == {"train": 10, "val": 6, "test": 3}
    assert info.source["shared_videos"] == {"train, val": [video]}
    (told,) = lines
    assert told.startswith(f"train, val: 1 video in both ({video}); kept, as the literature does; ")
    assert told.endswith("dataset.prepare.drop_shared=true leaves out those of train")
    lines.clear()
    info = prepare(source, tmp_path / "dropped", options={"warn": lines.append}, drop_shared=True)
    assert info.samples == {"train": 9, "val": 6, "test": 3}
    assert lines == [f"train, val: 1 video in both ({video}); left out of train"]


@pytest.mark.slow
def test_videos_that_are_gone_or_end_before_their_event_are_counted(source: Path, tmp_path: Path) -> None:
    (source / "AVE_Dataset" / "AVE" / f"{clip_id('train', 0, 0)}.mp4").unlink()
    add_line(source, "train", line(AVE_CLASSES[2], clip_id("train", 0, 1), 6, 10))
    info = prepare(source, tmp_path / "out", options={"max_bad": 0.1})
    assert info.source["missing"] == {"train": {AVE_CLASSES[0]: 1}}
    assert [(clip["id"], clip["reason"]) for clip in info.source["skipped"]] == [
        (f"{clip_id('train', 0, 1)}_2", "too short")
    ]


ROW = "Bark&-abcdefghij&good&3&9"


def make_lists(folder: Path, train: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in zip(
        LISTS.values(), (train, "Bark&-abcdefghik&good&3&9", "Bark&-abcdefghil&good&3&9"), strict=True
    ):
        (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("Violin, fiddle&-tr_2__00-A&good&0", r"has 4 fields; expected category&id&quality&start&end"),
        ("Violin&-tr_2__00-A&good&0&10", r"category 'Violin' is not one of AVE's; .*Did you mean Violin, fiddle\?"),
        ("Bark&../../etc/pw&good&0&10", r"'../../etc/pw' is not a YouTube id of 11 characters"),
        ("Bark&-tr_2__00-A&good&5&4", r"lasts from '5' to '4'; expected whole seconds from 0 to 10"),
        ("Bark&-tr_2__00-A&good&0&10.5", r"lasts from '0' to '10.5'"),
        ("Bark&-tr_2__00-A&good&0&11", r"lasts from '0' to '11'"),
        ("Bark&-tr_2__00-A&good&0&١", "lasts from '0' to "),
        ("Bark&-abcdefghij&good&3&9", r"trainSet.txt:2: this event is listed before, at .*trainSet.txt:1;"),
        ("Bark&-tr_2__00-A\x00&good&0&10", r"trainSet.txt:2: holds the control character"),
    ],
)
def test_a_line_that_is_not_an_event_is_refused(tmp_path: Path, row: str, message: str) -> None:
    make_lists(tmp_path, f"{ROW}\n{row}\n")
    with pytest.raises(DataError, match=message):
        read_splits(list_paths(tmp_path, None), CLASSES)


def test_missing_lists_and_empty_ones_are_refused(tmp_path: Path) -> None:
    make_lists(tmp_path / "AVE_Dataset", "\n")
    with pytest.raises(DataError, match=r"trainSet.txt: lists no event of the categories that are wanted"):
        read_splits(list_paths(tmp_path, None), CLASSES)
    (tmp_path / "AVE_Dataset" / LISTS["test"]).unlink()
    with pytest.raises(DataError, match=r"AVE_Dataset: testSet.txt is missing; give the folder with AVE's lists"):
        list_paths(tmp_path, None)


def test_a_header_is_recognised_by_its_start_that_is_no_number(tmp_path: Path) -> None:
    make_lists(tmp_path, f"Category&VideoID&Quality&StartTime&EndTime\n{ROW}\n")
    found = read_splits(list_paths(tmp_path, None), CLASSES)
    assert [(event.id, event.start, event.end) for event in found["train"]] == [("-abcdefghij", 3, 9)]


def test_the_official_lists_have_their_counts_classes_and_leaks(shared: Path) -> None:
    folder = existing(shared / "data" / "ave")
    splits = read_splits(list_paths(folder, None), CLASSES)
    events = [event for part in splits.values() for event in part]
    assert {split: len(part) for split, part in splits.items()} == {"train": 3339, "val": 402, "test": 402}
    assert len({event.id for event in events}) == len(events) == 4143
    videos = Counter(event.video for event in events)
    assert (len(videos), sum(count > 1 for count in videos.values()), max(videos.values())) == (4097, 45, 3)
    assert set(CLASSES) == {event.label for event in splits["train"]} == {event.label for event in splits["test"]}
    assert tuple(sorted(CLASSES)) == CLASSES
    assert Counter(event.label for event in events)["Male speech, man speaking"] == 176
    assert sum(event.video.startswith("-") for event in events) == 1030
    assert {pair: len(ids) for pair, ids in shared_videos(splits).items()} == {"train, val": 10, "train, test": 8}
    left = without_shared(splits)
    assert {split: len(part) for split, part in left.items()} == {"train": 3320, "val": 402, "test": 402}
    assert not shared_videos(left)
    kept, empty = without_empty(splits)
    assert [(event.video, event.label) for event in empty] == [("VWi2ENBuTbw", "Church bell")]
    assert Counter(event.end - event.start for part in kept.values() for event in part)[10] == 2750


def test_all_shared_videos_are_counted_and_the_first_are_named() -> None:
    lines: list[str] = []
    report_shared({"train, test": [f"-abcdefgh{n:02d}" for n in range(7)]}, lines.append, is_dropping=True)
    assert lines[0].startswith("train, test: 7 videos in both (-abcdefgh00, ")
    assert lines[0].endswith("-abcdefgh04, ...); left out of train")

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from support.kinetics_tree import CLASSES, annotation, clip_id, file_name, make_clip, make_kinetics, make_lists
from support.media import cut, frame_number, lfs_pointer
from support.preparing import prepared_with, rows_of

from data_prep.kinetics_sounds import KineticsSounds
from data_prep.media import ClipError, read_audio
from data_prep.media.audio import fbank
from data_prep.sound_pictures import SoundClip, Work
from data_prep.sources.kinetics_lists import CLASSES as ALL_CLASSES
from drcli.data.prepared import open_dataset
from drcli.errors import DataError

SMALL: dict[str, Any] = {"frame_size": (32, 43), "frames": 4, "classes": CLASSES}
FIRST = file_name(clip_id("train", 0, 0))


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes; 9, 6 and 3 clips of four seconds in flat folders."""
    return make_kinetics(tmp_path_factory.mktemp("ks") / "download")


prepare = partial(prepared_with, KineticsSounds, SMALL)
rows = partial(rows_of, ("audio", "visual"))


def test_a_download_becomes_sound_and_pictures(download: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    info = prepare(download, tmp_path / "out", options={"warn": lines.append})
    assert lines == []
    assert info.classes == CLASSES
    assert info.samples == {"train": 9, "val": 6, "test": 3}
    assert info.modalities["audio"].shape == (1, 128, 1024)
    assert info.modalities["audio"].dtype == "float16"
    assert info.modalities["visual"].shape == (4, 3, 32, 43)
    assert info.modalities["visual"].kind == "frames"
    assert info.source["missing"] == {}
    assert "libavcodec" in info.source["decoders"]
    open_dataset(tmp_path / "out", name="kinetics_sounds")


def test_rows_are_what_the_clip_holds(download: Path, tmp_path: Path) -> None:
    prepare(download, tmp_path / "out")
    audio, visual, labels, ids = rows(tmp_path / "out", "val")
    expected = sorted((clip_id("val", label, n), label) for label in range(3) for n in range(2))
    assert list(zip(ids, labels, strict=True)) == expected
    row = ids.index(clip_id("val", 1, 0))
    wave = read_audio(download / "val" / file_name(ids[row]), rate=16000).samples
    np.testing.assert_array_equal(audio[row], fbank(wave, rate=16000).astype(np.float16))
    # Four seconds at 10 frames a second: the centres of four segments are frames 5, 15, 25 and 35.
    assert [frame_number(picture) for picture in visual[row]] == [5, 15, 25, 35]


@pytest.mark.slow
def test_class_folders_and_flat_folders_give_the_same(download: Path, tmp_path: Path) -> None:
    classes = make_kinetics(tmp_path / "classes", layout="classes")
    for name, source in (("flat", download), ("by_class", classes)):
        prepare(source, tmp_path / name)
    for path in (tmp_path / "flat").rglob("*.npy"):
        assert path.read_bytes() == (tmp_path / "by_class" / path.relative_to(tmp_path / "flat")).read_bytes()


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(download: Path, tmp_path: Path) -> None:
    infos = [prepare(download, tmp_path / str(n), options={"workers": n}) for n in (1, 2)]
    assert infos[0] == infos[1]
    for path in (tmp_path / "1").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "2" / path.relative_to(tmp_path / "1")).read_bytes()


def test_the_literature_s_lists_are_taken(download: Path, tmp_path: Path) -> None:
    indices = {name: ALL_CLASSES.index(name) for name in CLASSES}
    lists = make_lists(tmp_path / "lists", classes=indices, counts={"train": 2, "test": 1})
    info = prepare(download, tmp_path / "out", lists_dir=lists)
    assert info.samples == {"train": 6, "val": 6, "test": 3}
    assert sorted(rows(tmp_path / "out", "train")[2]) == [0, 0, 1, 1, 2, 2]


def test_missing_clips_are_counted_by_class(source: Path, tmp_path: Path) -> None:
    (source / "train" / FIRST).unlink()
    link = source / "train" / file_name(clip_id("train", 2, 1))
    link.unlink()
    link.symlink_to(tmp_path / "nowhere.mp4")
    lines: list[str] = []
    info = prepare(source, tmp_path / "out", options={"warn": lines.append})
    assert info.source["missing"] == {"train": {"bowling": 1, "tap dancing": 1}}
    assert lines == ["train: 2 of 9 listed clips are not in the source: bowling 1, tap dancing 1"]


def damage(path: Path, how: str) -> None:
    if how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("a text that somebody renamed")
    elif how == "cut":
        cut(path, 0.6)
    elif how == "pointer":
        lfs_pointer(path)
    elif how == "mute":
        make_clip(path, audio=None)
    else:
        make_clip(path, seconds=2.0)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("empty", "unreadable"),
        ("text", "unreadable"),
        ("cut", "unreadable"),  # without its moov atom, as 1,400 clips of the original download
        ("pointer", "lfs pointer"),
        ("mute", "no audio stream"),
        ("short", "too short"),
    ],
)
def test_a_clip_that_cannot_be_used_is_skipped_with_its_reason(
    source: Path, tmp_path: Path, how: str, reason: str
) -> None:
    damage(source / "train" / FIRST, how)
    info = prepare(source, tmp_path / "out", options={"max_bad": 0.1, "workers": 1})
    assert [(clip["id"], clip["reason"]) for clip in info.source["skipped"]] == [(clip_id("train", 0, 0), reason)]
    assert clip_id("train", 0, 0) not in rows(tmp_path / "out", "train")[3]
    assert info.samples["train"] == 8


def test_too_many_clips_without_sound_stop_the_preparation(source: Path, tmp_path: Path) -> None:
    damage(source / "train" / FIRST, "mute")
    with pytest.raises(DataError, match=r"1 of 18 clips cannot be used.*no audio stream.*--max-bad"):
        prepare(source, tmp_path / "out")


def test_a_replacement_is_preferred_to_the_corrupt_clip(source: Path, tmp_path: Path) -> None:
    damage(source / "train" / FIRST, "cut")
    make_clip(source / "replacement" / "replacement_for_corrupted_k400" / FIRST)
    assert prepare(source, tmp_path / "out").source["skipped"] == []


def test_other_seconds_of_a_listed_video_count_as_missing(source: Path, tmp_path: Path) -> None:
    (source / "train" / FIRST).rename(source / "train" / file_name(clip_id("train", 0, 0), 150))
    lines: list[str] = []
    info = prepare(source, tmp_path / "out", options={"warn": lines.append})
    assert info.samples["train"] == 8
    assert info.source["missing"] == {"train": {"bowling": 1}}
    assert info.source["other_times"] == [f"{clip_id('train', 0, 0)}: there, from 150 s; the list says 58 s"]
    assert any("1 listed clips count as missing" in line and "train.csv:3" in line for line in lines)


def test_a_clip_in_two_splits_is_refused(source: Path, tmp_path: Path) -> None:
    video = clip_id("train", 0, 0)
    with (source / "annotations" / "test.csv").open("a") as stream:
        stream.write(annotation([("bowling", video, 58, 68, "test", 0)]).splitlines()[1])
    with pytest.raises(DataError, match=rf"test.csv:6: clip {video} is listed before, at .*train.csv:3"):
        prepare(source, tmp_path / "out")


def test_noise_has_the_asked_power_on_the_asked_splits(download: Path) -> None:
    clip = SoundClip(clip_id("train", 0, 0), 0, "train", download / "train" / FIRST)
    clean, noisy, spared = (
        Work(KineticsSounds.Settings.model_validate({**SMALL, **settings}))(clip).arrays["audio"]
        for settings in (
            {},
            {"waveform_snr_db": 0.0},
            {"waveform_snr_db": 0.0, "waveform_noise_splits": ("val", "test")},
        )
    )
    np.testing.assert_array_equal(clean, spared)
    # A tone leaves most of the bands to the noise; the last 600 frames are padding in both.
    assert np.median(noisy[0, :, :390]) > np.median(clean[0, :, :390]) + 0.2
    np.testing.assert_array_equal(noisy[0, :, 420:], clean[0, :, 420:])


def test_a_clip_shorter_than_the_minimum_is_told(download: Path) -> None:
    clip = SoundClip(clip_id("train", 0, 0), 0, "train", download / "train" / FIRST)
    with pytest.raises(ClipError, match=r"4.00 s of video, min_seconds is 5"):
        Work(KineticsSounds.Settings.model_validate({**SMALL, "min_seconds": 5.0}))(clip)


def test_a_genuine_clip_gives_sound_and_pictures(shared: Path) -> None:
    path = shared / "data" / "media" / "decord_flipping_a_pancake.mkv"  # H.264 and Opus, no stream states a duration
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    outcome = Work(KineticsSounds.Settings(frame_size=(64, 85)))(SoundClip("flipping-it", 0, "train", path))
    audio, visual = outcome.arrays["audio"], outcome.arrays["visual"]
    assert audio.shape == (1, 128, 1024)
    assert np.isfinite(audio).all()
    assert audio[0, :, 1000].std() > 0.05  # 10.38 s fill all frames
    assert visual.shape == (10, 3, 64, 85)
    assert visual.std(axis=0).mean() > 5  # the pictures differ
    assert outcome.bad_packets == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ["bowling", "bowling"]}, "must name each class once"),
        ({"classes": ["bowling"]}, "at least 2 items"),
        ({"frames": 0}, "greater than or equal to 1"),
        ({"lists": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        KineticsSounds.Settings.model_validate(settings)


def test_an_empty_download_is_refused_with_what_was_looked_for(source: Path, tmp_path: Path) -> None:
    for path in source.rglob("*.mp4"):
        path.unlink()
    with pytest.raises(DataError) as caught:
        prepare(source, tmp_path / "out")
    first = min(clip_id("train", label, number) for label in range(3) for number in range(3))
    assert str(caught.value).startswith(
        f"{source}: none of the 9 listed clips of train was found; looked for {first!r}, for example; the folder holds "
        "no .mp4, .mkv or .webm files; name the folder above"
    )

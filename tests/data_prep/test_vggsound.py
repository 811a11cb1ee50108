from __future__ import annotations

import gzip
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from support.command_line import tree
from support.genuine import existing, in_order
from support.kinetics_tree import clip_id
from support.media import make_video
from support.preparing import prepared_with, rows_of
from support.vggsound_tree import VGG_CLASSES, add_row, file_name, make_vggsound

from data_prep.media import read_frames
from data_prep.sound_pictures import FEWER, SoundClip, Work
from data_prep.sources.vggsound_lists import list_paths, parse_clip, read_list, read_names, read_splits
from data_prep.vggsound import VggSound
from drcli.errors import DataError

SMALL: dict[str, Any] = {"frame_size": (16, 22), "frames": 2, "val_share": 0.4}


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty clips of fifteen videos to train on, six to test on."""
    return make_vggsound(tmp_path_factory.mktemp("vggsound") / "download")


prepare = partial(prepared_with, VggSound, SMALL)
rows = partial(rows_of, ("audio", "visual"))


@pytest.mark.slow
def test_clips_of_the_three_grammars_become_sound_and_pictures_twice_the_same(download: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    info = prepare(download, tmp_path / "one", options={"warn": lines.append})
    assert lines == ["the lists have 3 classes, VGGSound has 309"]
    assert info.classes == VGG_CLASSES
    assert info.samples == {"train": 18, "val": 12, "test": 6}  # 0.4 of 15 videos, with two clips each
    videos = [{name[:11] for name in rows(tmp_path / "one", split)[3]} for split in ("train", "val")]
    assert [len(found) for found in videos] == [9, 6]
    assert not videos[0] & videos[1]
    assert Counter(rows(tmp_path / "one", "val")[2]) == {0: 4, 1: 4, 2: 4}
    assert info.source["findings"] == {}
    prepare(download, tmp_path / "two")
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


@pytest.mark.slow
def test_what_is_missing_shared_or_excluded_is_told(source: Path, tmp_path: Path) -> None:
    (source / "video" / file_name(clip_id("test", 2, 0), 30, 2)).unlink()
    add_row(source, f'{clip_id("test", 0, 1)},77,"{VGG_CLASSES[1]}",train')
    broken = tmp_path / "filtered_broken.txt"
    broken.write_text(f"{clip_id('train', 2, 4)}_7000_17000.mp4\n")
    lines: list[str] = []
    info = prepare(source, tmp_path / "out", options={"warn": lines.append}, exclude=[broken], drop_shared=True)
    assert info.source["missing"] == {"test": {VGG_CLASSES[2]: 1}}
    assert info.source["excluded"] == [f"{clip_id('train', 2, 4)}_000007"]
    ((pair, videos),) = info.source["shared_videos"].items()
    assert pair in {"train, test", "val, test"}
    assert videos == [clip_id("test", 0, 1)]
    assert any(line.endswith(f"left out of {pair.split(',')[0]}") for line in lines)
    assert sum(info.samples.values()) == 34


@pytest.mark.parametrize(
    ("stem", "key"),
    [
        ("---g-f_I2yQ_000001", ("---g-f_I2yQ", 1)),
        ("---g-f_I2yQ_1", ("---g-f_I2yQ", 1)),
        ("v---g-f_I2yQ_1_11", ("---g-f_I2yQ", 1)),
        ("---g-f_I2yQ_1000_11000", ("---g-f_I2yQ", 1)),
        ("6ZrhRQItpiI_28000_38000", ("6ZrhRQItpiI", 28)),
        ("vbcdefghijk_28000_38000", ("vbcdefghijk", 28)),  # the id itself begins with v
        ("abcdefghij__0_10", ("abcdefghij_", 0)),
        ("vabcdefghij__5_15", ("abcdefghij_", 5)),
        ("-11sNcJejws_3000_13000", ("-11sNcJejws", 3)),
        ("---g-f_I2yQ", None),
        ("---g-f_I2yQ_-1", None),
        ("x---g-f_I2yQ_1_11", None),
    ],
)
def test_a_clip_is_known_by_id_and_start_in_every_grammar(stem: str, key: tuple[str, int] | None) -> None:
    assert parse_clip(stem) == key


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("-tr_0__00-A,7,bird chirping, tweeting,train", r"vggsound.csv:3: has 5 fields, expected 4; quote labels"),
        ("../etc/pass,7,siren,train", r"'../etc/pass' is not a YouTube id of 11 characters"),
        ("-tr_0__00-A,7.5,siren,train", r"'7.5' is not a whole number of seconds"),
        ("-tr_0__00-A,7,siren,val", r"split is 'val'; expected train or test"),
        ("-tr_0__00-A,7,,train", r"label is ''; correct or remove the line"),
        ("-abcdefghij,7,siren,test", r"vggsound.csv:3: clip -abcdefghij_000007 is listed before, at .*vggsound.csv:1;"),
        ('-tr_0__00-A,7,"siren,train', r"vggsound.csv:\d+: is not a line of CSV"),
        ("-tr_0__00-A\x01,7,siren,train", r"vggsound.csv:3: holds the control character"),
    ],
)
def test_a_line_that_is_not_a_clip_is_refused(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "vggsound.csv").write_text(f"-abcdefghij,7,siren,train\n-abcdefghik,7,siren,test\n{row}\n")
    with pytest.raises(DataError, match=message):
        read_splits(list_paths(tmp_path, None))


def test_the_two_official_lists_do_instead_of_one(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text('-abcdefghij_000007.mp4,"a, b"\n')
    with pytest.raises(DataError, match=r"holds neither vggsound.csv nor train.csv and test.csv"):
        list_paths(tmp_path, None)
    (tmp_path / "data" / "test.csv").write_text('video,label\nv-abcdefghij_130_140,"a, b"\n')
    found = read_splits(list_paths(tmp_path, None))
    assert {split: [(clip.id, clip.label) for clip in clips] for split, clips in found.items()} == {
        "train": [("-abcdefghij_000007", "a, b")],
        "test": [("-abcdefghij_000130", "a, b")],
    }
    (tmp_path / "data" / "test.csv").write_text("video,label\n")
    with pytest.raises(DataError, match=r"test.csv: lists no clip of test"):
        read_splits(list_paths(tmp_path, None))


def test_the_official_test_list_has_its_counts(shared: Path, tmp_path: Path) -> None:
    packed = existing(shared / "data" / "vggsound" / "test.csv.gz")
    (tmp_path / "test.csv").write_bytes(gzip.decompress(packed.read_bytes()))
    clips = read_list(tmp_path / "test.csv")
    counts = Counter(clip.label for clip in clips)
    assert (len(clips), len(counts), set(counts.values())) == (15446, 309, {49, 50})
    assert len({clip.key for clip in clips}) == 15446
    assert len({clip.video for clip in clips}) == 14851
    assert sum(clip.video.startswith("-") for clip in clips) == 299
    broken = read_names([packed.parent / name for name in ("filtered_broken.txt", "filtered_audio_has_0_std.txt")])
    assert len(broken) == 16 + 1010
    assert 0 < len(broken & {clip.key for clip in clips}) < 200


@pytest.mark.slow
def test_genuine_clips_decode_to_the_pictures_that_they_have(shared: Path) -> None:
    paths = sorted(existing(shared / "data" / "vggsound").glob("*.mp4"))
    assert [parse_clip(path.stem) for path in paths] == [
        ("0f0Rq7e5yX8", 160),
        ("M1pPtg6a_g8", 230),
        ("MnEZwnRuQR8", 30),
    ]
    settings = VggSound.Settings(frames=5, frame_size=(36, 48))
    for path, count in zip(paths, (302, 300, 300), strict=True):
        outcome = Work(settings, counts=True)(SoundClip(path.stem, 0, "train", path))
        decoded, _ = in_order(path, (36, 48))
        assert len(decoded) == read_frames(path, [0.0], size=(36, 48), to_end=True).decoded == count
        assert (outcome.bad_packets, dict(outcome.findings)) == (0, {})
        assert outcome.arrays["audio"][0, :, :990].std() > 0.05
        bounds = np.linspace(0, count, 6).round().astype(int)
        for picture, low, high in zip(outcome.arrays["visual"], bounds, bounds[1:], strict=False):
            assert any(np.array_equal(picture, other) for other in decoded[low:high])


def test_pictures_that_an_edit_list_leaves_out_are_counted(tmp_path: Path) -> None:
    """The header of such a file states all of its pictures, and an edit list begins after the first ones."""
    path = make_video(tmp_path / "a.mp4", seconds=4.0, rate=10, audio="aac", size=(32, 32), options={"g": "5"})
    hide_lead_in(path, tmp_path / "b.mp4", pictures=5)
    frames = read_frames(tmp_path / "b.mp4", [0.0, 1.0], size=(16, 16), to_end=True)
    assert (frames.stated, frames.decoded) == (40, 35)
    assert frames.duration == pytest.approx(3.5)
    work = Work(VggSound.Settings(frames=2, frame_size=(16, 16)), counts=True)
    assert work(SoundClip("b", 0, "train", tmp_path / "b.mp4")).findings == {FEWER: 5}


def hide_lead_in(source: Path, target: Path, *, pictures: int) -> None:
    """Copy an MP4 with an edit list that begins so many pictures after the first one."""
    with av.open(str(source)) as inside, av.open(str(target), "w", options={"use_editlist": "1"}) as outside:
        streams = {stream.index: outside.add_stream_from_template(stream) for stream in inside.streams}
        shift = pictures / float(inside.streams.video[0].average_rate or 1)
        for packet in inside.demux():
            if packet.dts is None or packet.pts is None:
                continue
            ticks = round(shift / float(packet.time_base))
            packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
            packet.stream = streams[packet.stream.index]
            outside.mux(packet)

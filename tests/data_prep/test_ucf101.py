from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from support.media import cut, lfs_pointer, make_wav, tone
from support.preparing import prepared_with, rows_of
from support.ucf101_tree import (
    CLASSES,
    MOTION,
    make_flow_archive,
    make_lists,
    make_ucf101,
    moving_texture,
    video_name,
    write_avi,
)

from data_prep.media.flow import dequantise
from data_prep.ucf101 import Ucf101
from drcli.data.prepared import open_dataset
from drcli.errors import DataError

SMALL: dict[str, Any] = {"frame_size": (32, 43), "positions": 4, "val_groups": (24,), "flow": "dis"}


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, groups 1 (test), 8 and 9 (train) and 24 (to validate on)."""
    return make_ucf101(tmp_path_factory.mktemp("ucf") / "download")


prepare = partial(prepared_with, Ucf101, SMALL)
rows = partial(rows_of, ("rgb", "flow"))


def test_a_download_becomes_pictures_and_flow(download: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    info = prepare(download, tmp_path / "out", options={"warn": lines.append})
    assert info.classes == CLASSES
    assert info.samples == {"train": 6, "val": 3, "test": 3}
    assert info.modalities["rgb"].shape == (4, 3, 32, 43)
    assert info.modalities["rgb"].kind == "frames"
    assert info.modalities["flow"].shape == (4, 2, 32, 43)
    assert info.modalities["flow"].kind == "flow"
    assert info.modalities["flow"].mean == (127.5, 127.5)
    assert info.source["missing"] == {}
    assert info.source["skipped"] == []
    assert {"av", "cv2"} <= set(info.source["decoders"])
    assert lines == [f"{download / 'ucfTrainTestlist'}: 3 classes, UCF-101 has 101"]
    open_dataset(tmp_path / "out", name="ucf101")


def test_a_dataset_of_an_earlier_decoding_is_returned_with_a_warning(download: Path, tmp_path: Path) -> None:
    info = prepare(download, tmp_path / "out")
    assert info.source["decoders"].pop("decoding") == "2"
    (tmp_path / "out" / "dataset.json").write_text(info.to_json())
    lines: list[str] = []
    assert prepare(download, tmp_path / "out", options={"warn": lines.append}) == info
    assert [line for line in lines if "took wrong pictures" in line and "--fresh`" in line] == lines


def test_splits_are_those_of_the_lists_and_labels_those_of_the_folders(download: Path, tmp_path: Path) -> None:
    prepare(download, tmp_path / "out")
    for split, groups in (("train", (8, 9)), ("val", (24,)), ("test", (1,))):
        _, _, labels, ids = rows(tmp_path / "out", split)
        expected = sorted((video_name(name, g), label) for label, name in enumerate(CLASSES) for g in groups)
        assert sorted(zip(ids, labels, strict=True)) == expected
    assert "v_HandStandPushups_g01_c01" in ids


def test_stored_flow_is_the_motion_in_stored_pixels(download: Path, tmp_path: Path) -> None:
    prepare(download, tmp_path / "out", frame_size=(48, 64))
    _, flow, labels, _ = rows(tmp_path / "out", "train")
    for stored, label in zip(flow, labels, strict=True):
        motion = MOTION[label] if label < 2 else (0, 0)  # the class with sound changes its brightness only
        median = np.median(dequantise(stored)[:, :, 8:-8, 8:-8], axis=(0, 2, 3))
        np.testing.assert_allclose(median, motion, atol=0.3)


def test_any_number_of_workers_gives_the_same_bytes(download: Path, tmp_path: Path) -> None:
    infos = [prepare(download, tmp_path / str(n), options={"workers": n}) for n in (1, 2)]
    assert infos[0] == infos[1]
    for path in (tmp_path / "1").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "2" / path.relative_to(tmp_path / "1")).read_bytes()


@pytest.mark.parametrize("joined", [False, True])
def test_flow_is_imported(download: Path, tmp_path: Path, joined: bool) -> None:
    archive = make_flow_archive(tmp_path / "flow", joined=joined)
    info = prepare(download, tmp_path / "out", flow="import", flow_dir=archive, frame_size=(48, 64))
    assert info.settings["flow_dir"] == str(archive)
    _, flow, labels, _ = rows(tmp_path / "out", "val")
    for stored, label in zip(flow, labels, strict=True):
        np.testing.assert_allclose(dequantise(stored).mean(axis=(0, 2, 3)), MOTION[label], atol=0.1)


def test_a_flattened_download_keeps_its_labels(source: Path, tmp_path: Path) -> None:
    for path in sorted((source / "UCF-101").rglob("*.avi")):
        path.rename(source / path.name)
    info = prepare(source, tmp_path / "out")
    assert info.samples == {"train": 6, "val": 3, "test": 3}


def test_names_in_other_scripts_are_fine(tmp_path: Path) -> None:
    source = make_ucf101(tmp_path / "Übung", classes=("Bogenschießen", "弓道"), count=6)
    info = prepare(source, tmp_path / "out")
    assert info.classes == ("Bogenschießen", "弓道")
    assert rows(tmp_path / "out", "test")[3] == ["v_Bogenschießen_g01_c01", "v_弓道_g01_c01"]


def test_missing_clips_are_counted_by_class(source: Path, tmp_path: Path) -> None:
    (source / "UCF-101" / "YoYo" / "v_YoYo_g08_c01.avi").unlink()
    lines: list[str] = []
    info = prepare(source, tmp_path / "out", options={"warn": lines.append})
    assert info.source["missing"] == {"train": {"YoYo": 1}}
    assert lines[1] == "train: 1 of 6 listed clips are not in the source: YoYo 1"


def test_a_clip_without_imported_flow_is_missing(download: Path, tmp_path: Path) -> None:
    archive = make_flow_archive(tmp_path / "flow")
    shutil.rmtree(archive / "v" / "v_Archery_g09_c01")
    info = prepare(download, tmp_path / "out", flow="import", flow_dir=archive)
    assert info.source["missing"] == {"train": {"Archery": 1}}


def test_clips_under_other_names_are_counted_beside_what_was_looked_for(source: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted((source / "UCF-101").rglob("*.avi"))):
        path.rename(path.with_name(f"clip{number:02d}.avi"))
    with pytest.raises(DataError) as caught:
        prepare(source, tmp_path / "out")
    assert str(caught.value) == (
        f"{source}: none of the 6 listed clips of train was found; looked for 'v_Archery_g08_c01', for example; the "
        "folder holds 12 .avi, .mp4 or .mkv files, such as UCF-101/Archery/clip00.avi; name the folder above the "
        "clips, whose files are named as in the lists"
    )


def damage(path: Path, how: str) -> None:
    if how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("a text that somebody renamed")
    elif how == "cut":
        cut(path, 0.8)
    elif how == "pointer":
        lfs_pointer(path)
    elif how == "one frame":
        write_avi(path, moving_texture(1, (0, 0)))
    else:
        make_wav(path.with_suffix(".wav"), tone(1.0, 16000)).rename(path)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("empty", "unreadable"),
        ("text", "unreadable"),
        ("cut", "corrupt"),
        ("pointer", "lfs pointer"),
        ("one frame", "too short"),
        ("sound", "no video stream"),
    ],
)
def test_a_clip_that_cannot_be_used_is_skipped_with_its_reason(
    source: Path, tmp_path: Path, how: str, reason: str
) -> None:
    damage(source / "UCF-101" / "Archery" / "v_Archery_g08_c01.avi", how)
    info = prepare(source, tmp_path / "out", options={"max_bad": 0.1})
    assert [(clip["id"], clip["reason"]) for clip in info.source["skipped"]] == [("v_Archery_g08_c01", reason)]
    assert info.samples["train"] == 5


def test_too_many_bad_clips_stop_the_preparation(source: Path, tmp_path: Path) -> None:
    damage(source / "UCF-101" / "Archery" / "v_Archery_g08_c01.avi", "empty")
    with pytest.raises(DataError, match=r"1 of 12 clips cannot be used.*v_Archery_g08_c01: unreadable.*--max-bad"):
        prepare(source, tmp_path / "out")


def test_an_interrupted_preparation_goes_on_and_ends_the_same(download: Path, tmp_path: Path) -> None:
    def interrupt(_stage: str, done: int, _total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        prepare(download, tmp_path / "out", options={"progress": interrupt})
    info = prepare(download, tmp_path / "out", options={"warn": lines.append})
    assert "resuming after 5 of 12 clips that an earlier run prepared" in lines
    assert info == prepare(download, tmp_path / "undisturbed")


def test_an_empty_class_is_refused(source: Path, tmp_path: Path) -> None:
    shutil.rmtree(source / "UCF-101" / "Archery")
    with pytest.raises(DataError, match="class Archery would be absent from train"):
        prepare(source, tmp_path / "out")


def test_a_limit_keeps_all_classes(download: Path, tmp_path: Path) -> None:
    info = prepare(download, tmp_path / "out", options={"limit": 6})
    assert info.source["limit"] == 6
    assert sorted(rows(tmp_path / "out", "train")[2]) == [0, 1, 2]


def test_other_lists_or_flow_make_another_dataset(source: Path, tmp_path: Path) -> None:
    archive = make_flow_archive(tmp_path / "flow")
    settings = {"flow": "import", "flow_dir": archive}
    preparer = Ucf101(Ucf101.Settings.model_validate({**SMALL, **settings}))
    first = preparer.fingerprint(source)
    (archive / "u" / "v_Archery_g08_c01" / "frame000001.jpg").unlink()
    second = preparer.fingerprint(source)
    make_lists(source / "ucfTrainTestlist", classes=CLASSES[:2])
    assert len({first, second, preparer.fingerprint(source)}) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flow": "import"}, "must name the folder of the pre-computed flow, since flow is import"),
        ({"flow": "dis", "flow_dir": "x"}, "must be left out, or flow must be import"),
        ({"fold": 4}, "1, 2 or 3"),
        ({"val_groups": []}, "at least 1 item"),
        ({"frame_size": [8, 340]}, "greater than or equal to 16"),
    ],
)
def test_settings_that_contradict_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Ucf101.Settings.model_validate(settings)

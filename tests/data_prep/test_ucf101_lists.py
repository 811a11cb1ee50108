from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.sources.ucf101_lists import find_lists, read_classes, read_list, read_splits
from drcli.errors import DataError

CLASSES = ("Hammering", "HammerThrow", "HandstandPushups")


def write_lists(folder: Path, *, train: str, test: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classInd.txt").write_bytes(b"1 Hammering\r\n2 HammerThrow\r\n3 HandstandPushups\r\n")
    (folder / "trainlist01.txt").write_text(train)
    (folder / "testlist01.txt").write_text(test)
    return folder


def line(label: int, group: int, clip: int = 1, *, labelled: bool = True) -> str:
    name = CLASSES[label]
    file = name.replace("Handstand", "HandStand")
    return f"{name}/v_{file}_g{group:02d}_c{clip:02d}.avi" + (f" {label + 1}\r\n" if labelled else "\r\n")


def test_classes_keep_the_official_order(tmp_path: Path) -> None:
    folder = write_lists(tmp_path, train="", test="")
    assert read_classes(folder / "classInd.txt") == CLASSES  # sorted() would put HammerThrow first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 A\n3 B\n", r"classInd.txt:2: '3 B'; expected `2 <class name>`"),
        ("1 A\nB\n", r"classInd.txt:2: 'B'; expected"),
        ("1 A/B\n", r"classInd.txt:1: '1 A/B'; expected"),
        ("1\n", r"classInd.txt:1: '1?' is not the relative path"),
        ("1 A\n2 A\n", r"classInd.txt:2: class 'A' is listed twice"),
        ("1 ../A\n", r"classInd.txt:1: '../A' is not the relative path"),
    ],
)
def test_a_wrong_class_index_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "classInd.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_classes(tmp_path / "classInd.txt")


@pytest.mark.parametrize("place", [".", "ucfTrainTestlist", "UCF101TrainTestSplits/ucfTrainTestlist"])
def test_the_lists_are_found(tmp_path: Path, place: str) -> None:
    folder = write_lists(tmp_path / place, train="", test="")
    assert find_lists(tmp_path) == folder


def test_missing_lists_are_named_with_the_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"classInd.txt is missing.*UCF101TrainTestSplits-RecognitionTask.zip"):
        find_lists(tmp_path)


def test_the_label_is_the_folder_s_not_the_file_s(tmp_path: Path) -> None:
    folder = write_lists(tmp_path, train=line(2, 8) + line(0, 8), test=line(2, 1, labelled=False))
    train = read_list(folder / "trainlist01.txt", CLASSES)
    assert [(video.name, video.label, video.group) for video in train] == [
        ("v_HandStandPushups_g08_c01", 2, 8),
        ("v_Hammering_g08_c01", 0, 8),
    ]
    assert [video.label for video in read_list(folder / "testlist01.txt", CLASSES)] == [2]


def test_validation_is_cut_from_train_by_group_and_test_is_untouched(tmp_path: Path) -> None:
    train = "".join(line(label, group, clip) for label in range(3) for group in (8, 9, 24) for clip in (1, 2))
    folder = write_lists(tmp_path, train=train, test=line(0, 1) + line(1, 1))
    splits = read_splits(folder, 1, (9,), CLASSES)
    assert {split: {video.group for video in videos} for split, videos in splits.items()} == {
        "train": {8, 24},
        "val": {9},
        "test": {1},
    }
    assert [len(videos) for videos in splits.values()] == [12, 6, 2]
    assert splits["val"] == sorted(splits["val"], key=lambda video: video.name)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("Hammering/v_Hammering_g08_c01.avi 1\n", r"testlist01.txt:1: clip v_hammering_g08_c01 is listed before, at"),
        ("Hammering/v_Hammering_g08_c02.avi\n", r"v_Hammering_g08_c02 is of the same group as v_Hammering_g08_c01 at"),
        (
            "Hammering/v_Hammering_g01_c01.avi 2\n",
            r"testlist01.txt:1: label '2', but classInd.txt gives 1 to Hammering",
        ),
        ("Nailing/v_Nailing_g01_c01.avi 1\n", r"testlist01.txt:1: class 'Nailing' is not in classInd.txt"),
        ("../v_Hammering_g01_c01.avi\n", r"testlist01.txt:1: '../v_Hammering_g01_c01.avi' is not the relative path"),
        ("/v_Hammering_g01_c01.avi\n", r"testlist01.txt:1: '/v_Hammering_g01_c01.avi' is not the relative path"),
        ("v_Hammering_g01_c01.avi\n", r"expected <class>/v_<class>_gXX_cYY.avi"),
        ("Hammering/Hammering.avi\n", r"testlist01.txt:1: 'Hammering/Hammering.avi'; expected <class>/v_"),
    ],
)
def test_a_wrong_line_is_refused(tmp_path: Path, wrong: str, message: str) -> None:
    folder = write_lists(tmp_path, train=line(0, 8) + line(0, 9), test=wrong)
    with pytest.raises(DataError, match=message):
        read_splits(folder, 1, (9,), CLASSES)


def test_a_validation_group_outside_train_is_refused(tmp_path: Path) -> None:
    folder = write_lists(tmp_path, train=line(0, 8) + line(0, 9), test=line(0, 1))
    with pytest.raises(DataError, match=r"trainlist01.txt: has no group 1 to validate on.*dataset.prepare.val_groups"):
        read_splits(folder, 1, (1, 9), CLASSES)


def test_a_missing_fold_is_named(tmp_path: Path) -> None:
    folder = write_lists(tmp_path, train=line(0, 8), test=line(0, 1))
    with pytest.raises(DataError, match=r"trainlist02.txt: cannot be read \(No such file"):
        read_splits(folder, 2, (8,), CLASSES)

"""The lists of the literature as they come: counts by split and class, against those that are known of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from support.genuine import existing

from data_prep.sources import cremad_splits, kinetics_lists, ucf101_lists
from data_prep.sources.kinetics_lists import CLASSES

# my_train and my_test of Kinetics-Sounds, in the order of the 31 classes.
TRAIN = [268, 690, 607, 512, 497, 445, 635, 478, 457, 605, 563, 486, 604, 592, 366, 339]
TRAIN += [333, 489, 653, 538, 654, 386, 281, 493, 395, 672, 197, 523, 433, 354, 254]
TEST = [81, 92, 87, 87, 87, 68, 90, 90, 86, 79, 91, 88, 73, 85, 86, 91]
TEST += [82, 84, 90, 90, 83, 91, 80, 92, 79, 66, 85, 84, 91, 76, 63]


@pytest.fixture
def lists(shared: Path) -> Path:
    return existing(shared / "data" / "lists")


@pytest.mark.parametrize(
    ("fold", "train", "test", "groups"),
    [
        (1, 9537, 3783, (1, 7)),
        pytest.param(2, 9586, 3734, (8, 14), marks=pytest.mark.slow),
        pytest.param(3, 9624, 3696, (15, 21), marks=pytest.mark.slow),
    ],
)
def test_the_official_lists_of_ucf101_have_their_counts(
    lists: Path, fold: int, train: int, test: int, groups: tuple[int, int]
) -> None:
    folder = ucf101_lists.find_lists(lists / "ucf101_official")
    classes = ucf101_lists.read_classes(folder / "classInd.txt")
    assert (len(classes), classes[35:37], classes[46:48]) == (
        101,
        ("HammerThrow", "HandstandPushups"),
        ("JumpingJack", "JumpRope"),
    )
    found = ucf101_lists.read_splits(folder, fold, (22, 23), classes)
    assert len(found["train"]) + len(found["val"]) == train
    assert len(found["test"]) == test
    assert {video.group for video in found["val"]} == {22, 23}
    assert {video.group for video in found["test"]} == set(range(groups[0], groups[1] + 1))
    spelt = [video for video in found["test"] if video.name.startswith("v_HandStandPushups_")]
    assert {classes[video.label] for video in spelt} == {"HandstandPushups"}


@pytest.mark.parametrize(("name", "counts"), [("my_train.txt", TRAIN), ("my_test.txt", TEST)])
def test_the_31_classes_of_kinetics_sounds_have_their_counts(lists: Path, name: str, counts: list[int]) -> None:
    found = kinetics_lists.read_list(lists / "OGM" / "KineticSound" / name, CLASSES)
    by_class = Counter(clip.label for clip in found)
    assert [by_class[label] for label in CLASSES] == counts
    assert len({clip.video for clip in found}) == len(found) == sum(counts)


def test_the_authors_lists_of_cremad_have_their_counts(lists: Path) -> None:
    found = cremad_splits.read_splits(lists / "DR" / "cremad", seed=0)
    emotions = {split: Counter(name[9:12] for name, _ in entries) for split, entries in found.items()}
    assert emotions["train"] == {"ANG": 1061, "DIS": 1013, "FEA": 1005, "HAP": 1025, "NEU": 859, "SAD": 991}
    assert (
        emotions["val"] == emotions["test"] == {"ANG": 105, "DIS": 129, "FEA": 133, "HAP": 123, "NEU": 114, "SAD": 140}
    )
    speakers = {split: {name[:4] for name, _ in entries} for split, entries in found.items()}
    assert {len(found) for found in speakers.values()} == {91}  # each is in every split
    assert len(set.union(*({name for name, _ in entries} for entries in found.values()))) == 7442


@pytest.mark.slow
def test_ogms_lists_of_cremad_are_those_of_the_authors(lists: Path) -> None:
    theirs = cremad_splits.read_splits(lists / "OGM" / "CREMAD", seed=0)
    ours = cremad_splits.read_splits(lists / "DR" / "cremad", seed=0)
    names = [{name for name, _ in found["test"]} for found in (theirs, ours)]
    assert names[0] == names[1]
    trained = [{name for split in ("train", "val") for name, _ in found[split]} for found in (theirs, ours)]
    assert trained[0] == trained[1]

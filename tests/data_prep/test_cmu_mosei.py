from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support import mosei_tree as tree
from support import mosi_tree
from support.command_line import tree as contents
from support.genuine import existing
from support.preparing import prepared_with

from data_prep.cmu_mosei import CLASSES, CmuMosei, class_of
from data_prep.mustard import Mustard
from data_prep.segment_pickles import SegmentPickles
from data_prep.sources.mosei_folds import SIZES, mosei_video, read_folds
from data_prep.sources.mosi_segments import Repairs
from data_prep.sources.restricted_pickle import load_pickle
from data_prep.ur_funny import UrFunny
from drcli.data.format import SPLITS
from drcli.data.target import Regression
from drcli.errors import DataError

prepare = partial(prepared_with, CmuMosei, {})


def ids(out: Path, split: str) -> list[str]:
    return (out / split / "ids.txt").read_text().splitlines()


def test_the_pickle_becomes_sequences_twice_the_same(tmp_path: Path) -> None:
    tree.mosei_download(tmp_path)
    lines: list[str] = []
    info = prepare(tmp_path, tmp_path / "one", options={"warn": lines.append})
    sizes = "24 train, 12 val, 12 test segments; CMU-MOSEI has 16327 train, 1871 val, 4662 test"
    assert lines == [f"{tmp_path}/mosei_senti_data.pkl: {sizes}"]
    assert info.rows == {"train": 24, "val": 12, "test": 12}
    assert info.source["files"] == {"pickle": "mosei_senti_data.pkl"}
    assert ids(tmp_path / "one", "train")[0] == "188343[0.5,1.25]"
    text = tree.mosei_table()["train"]["text"]
    stored = np.load(tmp_path / "one" / "train" / "text.npy")
    lengths = np.load(tmp_path / "one" / "train" / "text_lengths.npy")
    for row, length in enumerate(lengths):
        np.testing.assert_array_equal(stored[row, :length], text[row, len(text[row]) - length :].astype(np.float32))
    prepare(tmp_path, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_mmsas_file_and_other_versions_of_it_are_told_apart(tmp_path: Path) -> None:
    mosi_tree.write_pickle(tmp_path / "MOSEI" / "Processed" / "aligned_50.pkl", tree.mosei_mmsa_table())
    lines: list[str] = []
    prepare(tmp_path, tmp_path / "out", options={"warn": lines.append})
    assert ids(tmp_path / "out", "val")[:2] == ["0h-zjBukYpk$_$0", "0h-zjBukYpk$_$1"]
    assert lines[1].endswith("its SHA-256 is not the one that MMSA published; it is another version")


def test_segments_elsewhere_than_the_folds_have_them_are_told(tmp_path: Path) -> None:
    tree.mosei_download(tmp_path)
    swapped = {**tree.FOLDS, "valid": (*tree.FOLDS["valid"][1:], "188343"), "train": tree.FOLDS["train"][1:]}
    (tmp_path / "cmu_mosei_std_folds.py").write_text(tree.folds_text(swapped))
    lines: list[str] = []
    prepare(tmp_path, tmp_path / "out", options={"warn": lines.append})
    assert lines[1].startswith("6 segments, 188343[0.5,1.25] first, in another split than the standard")


def test_a_numeric_video_in_two_splits_is_refused(tmp_path: Path) -> None:
    table = tree.mosei_table()
    table["test"]["id"][0, 0] = "188343"
    table["test"]["id"][0, 1] = "9.5"
    mosi_tree.write_pickle(tmp_path / "mosei_senti_data.pkl", table)
    with pytest.raises(DataError, match=r"video 188343 is in both train and test; splits share no video"):
        prepare(tmp_path, tmp_path / "out")


def test_sentiments_outside_the_range_are_cut_and_told(tmp_path: Path) -> None:
    table = tree.mosei_table()
    table["train"]["labels"][0] = 3.5
    mosi_tree.write_pickle(tmp_path / "mosei_senti_data.pkl", table)
    lines: list[str] = []
    prepare(tmp_path, tmp_path / "out", target="seven_round", options={"warn": lines.append})
    assert lines[0].startswith("1 segment, 188343[0.5,1.25] first, with a sentiment outside [-3, 3]")
    assert np.load(tmp_path / "out" / "train" / "labels.npy")[0] == 6
    table["train"]["labels"][0] = np.inf
    mosi_tree.write_pickle(tmp_path / "mosei_senti_data.pkl", table)
    with pytest.raises(DataError, match=r"label of train segment 188343\[0.5,1.25\] is inf, expected -3 ... 3"):
        prepare(tmp_path, tmp_path / "again")


@pytest.mark.parametrize(
    ("sentiment", "bins", "rounded"),
    [
        (-3.0, 0, 0),
        (-2.3, 0, 1),
        (-2.0, 1, 1),
        (-1.0, 2, 2),
        (-1 / 3, 2, 3),
        (0.0, 3, 3),
        (1 / 3, 4, 3),
        (1.0, 4, 4),
        (2.0, 5, 5),
        (7 / 3, 6, 5),
        (3.0, 6, 6),
    ],
)
def test_the_two_rules_for_seven_classes(sentiment: float, bins: int, rounded: int) -> None:
    assert (class_of(sentiment, "seven_bins"), class_of(sentiment, "seven_round")) == (bins, rounded)
    assert (class_of(sentiment, "nonneg"), class_of(sentiment, "pos")) == (
        int(sentiment >= 0),
        None if sentiment == 0 else int(sentiment > 0),
    )
    assert {len(names) for target, names in CLASSES.items() if "seven" in target} == {7}


@pytest.mark.parametrize("name", ["mosei_senti_data.pkl", "aligned_50.pkl"])
def test_the_sentiment_itself_can_be_the_target(tmp_path: Path, name: str) -> None:
    table = tree.mosei_table() if name == "mosei_senti_data.pkl" else tree.mosei_mmsa_table()
    key = "labels" if name == "mosei_senti_data.pkl" else "regression_labels"
    table["train"][key].reshape(-1)[0] = 3.5
    mosi_tree.write_pickle(tmp_path / name, table)
    lines: list[str] = []
    info = prepare(tmp_path, tmp_path / "out", target="score", options={"warn": lines.append})
    assert (info.classes, info.regression, info.contents.task) == (("score",), Regression(-3, 3), "regression")
    for split, fold in {"train": "train", "val": "valid", "test": "test"}.items():
        expected = np.clip(np.array(table[fold][key], np.float32).reshape(-1), -3, 3)
        np.testing.assert_array_equal(np.load(tmp_path / "out" / split / "labels.npy"), expected)
    assert "with a sentiment outside [-3, 3]; set to the nearest end" in lines[0]
    assert CmuMosei.task(CmuMosei.Settings(target="score")) == "regression"


def test_a_limit_keeps_the_shares_of_the_rounded_scores(tmp_path: Path) -> None:
    tree.mosei_download(tmp_path)
    prepare(tmp_path, tmp_path / "out", target="score", options={"limit": 24})
    kept = np.load(tmp_path / "out" / "train" / "labels.npy")
    counts = np.bincount(np.round(kept).astype(int) + 3, minlength=7)
    whole = np.bincount(np.round(mosi_tree.sentiments(24)).astype(int) + 3, minlength=7)
    assert np.abs(counts - whole / 2).max() <= 1


@pytest.mark.slow
def test_the_sdks_files_are_read_with_the_folds_and_foldless_videos_left_out(tmp_path: Path) -> None:
    tree.mosei_csd_download(tmp_path)
    info = prepare(tmp_path, tmp_path / "out")
    assert info.rows == {"train": 24, "val": 12, "test": 12}
    assert info.source["files"]["visual"] == "CMU_MOSEI_VisualFacet42.csd"
    assert [(s["id"], s["reason"]) for s in info.source["skipped"]] == [
        (f"-none000000[{k}]", "in no fold") for k in range(3)
    ]
    (tmp_path / "cmu_mosei_std_folds.py").unlink()
    with pytest.raises(DataError, match=r"cmu_mosei_std_folds.py is missing; get it from the CMU SDK"):
        prepare(tmp_path, tmp_path / "again")


@pytest.mark.parametrize(
    ("name", "message"),
    [("csd", r"CMU-MOSEI is not here; expected CMU_MOSEI_\*.csd"), ("mosei_raw.pkl", "expected mosei_raw.pkl")],
)
def test_a_file_that_is_asked_for_and_not_there_is_named(tmp_path: Path, name: str, message: str) -> None:
    tree.mosei_download(tmp_path)
    with pytest.raises(DataError, match=message):
        prepare(tmp_path, tmp_path / "out", file=name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("standard_train_fold=['a']\nstandard_valid_fold=['b']\n", "does not assign standard_train_fold, "),
        (tree.folds_text({"train": ["a"], "valid": ["b", "a"], "test": ["c"]}), "video a is in train and in another"),
        ("standard_train_fold=[open('x')]\n", "does not assign"),
        ("import os\nos.abort(", "is not the CMU SDK's file of folds"),
        ("(" * 5000, "is not the CMU SDK's file of folds"),
        ("\x00", "holds the control character"),
    ],
)
def test_a_file_that_is_not_the_folds_is_refused_and_never_run(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "f.py").write_text(text)
    with pytest.raises(DataError, match=message):
        read_folds(tmp_path / "f.py")


@pytest.mark.parametrize(
    ("name", "video"),
    [
        ("188343[0.5,1.25]", "188343"),
        ("-571d8cVauQ[0]", "-571d8cVauQ"),
        ("_q7DM8WkzAQ$_$11", "_q7DM8WkzAQ"),
        ("Z3fcd1_dzr0_4", "Z3fcd1_dzr0"),
        ("a b[0]", None),
    ],
)
def test_the_video_of_a_segment(name: str, video: str | None) -> None:
    assert mosei_video(name) == video


def test_the_official_folds_labels_and_a_genuine_pickle_fit_together(shared: Path) -> None:
    folder = existing(shared / "data" / "mosei")
    folds = read_folds(folder / "cmu_mosei_std_folds.py")
    assert {split: len(videos) for split, videos in folds.items()} == SIZES == {"train": 2249, "val": 300, "test": 678}
    text = gzip.decompress((folder / "CMU_MOSEI_Labels.csv.gz").read_bytes()).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    homes = {"0": "train", "1": "val", "2": "test"}
    assert Counter(row["split"] for row in rows) == {"0": 16327, "1": 1871, "2": 4662, "3": 399}
    assert {homes[r["split"]]: CmuMosei.published_sizes[homes[r["split"]]] for r in rows if r["split"] != "3"} == {
        "train": 16327,
        "val": 1871,
        "test": 4662,
    }
    for row in rows:
        found = [split for split in SPLITS if row["file"] in folds[split]]
        assert found == ([homes[row["split"]]] if row["split"] in homes else [])
    pickled = load_pickle(folder / "d_valid.pkl")
    assert len(pickled) == 1871
    assert {mosei_video(name) for name, *_ in pickled.values()} == folds["val"]


@pytest.mark.parametrize(
    ("preparer", "make", "classes"),
    [
        (UrFunny, tree.humor_download, ("not funny", "funny")),
        (Mustard, tree.sarcasm_download, ("sincere", "sarcastic")),
    ],
)
def test_multibenchs_other_pickles_become_two_classes_twice_the_same(
    tmp_path: Path, preparer: type[SegmentPickles], make: partial[Path], classes: tuple[str, ...]
) -> None:
    make(tmp_path)
    infos = [prepared_with(preparer, {}, tmp_path, tmp_path / name) for name in ("one", "two")]
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert (infos[0].classes, infos[0].rows) == (classes, {"train": 24, "val": 12, "test": 12})
    signs = mosi_tree.sentiments(24) >= 0
    assert np.load(tmp_path / "one" / "train" / "labels.npy").tolist() == signs.tolist()


def test_labels_that_are_neither_yes_nor_no_and_absent_files_are_refused(tmp_path: Path) -> None:
    table = tree.yes_no_table(-1)
    table["test"]["labels"][3] = 0
    mosi_tree.write_pickle(tmp_path / "sarcasm.pkl", table)
    with pytest.raises(DataError, match=r"sarcasm.pkl: labels are -1, 0, 1; expected 0 and 1, or -1 and 1"):
        prepared_with(Mustard, {}, tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match=r"UR-FUNNY is not here; expected humor.pkl"):
        prepared_with(UrFunny, {}, tmp_path, tmp_path / "out")


def test_values_that_are_not_finite_are_counted_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.sources.mosi_segments._PIECE", 4)
    values = np.ones((5, 3))
    values[[0, 2, 4], [1, 2, 0]] = [-np.inf, np.nan, np.inf]
    repairs = Repairs()
    found = repairs.finite("audio", values)
    assert repairs.counts["audio"] == {"-inf": 1, "+inf": 1, "NaN": 1}
    assert found.sum() == 12

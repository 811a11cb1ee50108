"""CMU-MOSI with its real score: values from every source, the task in dataset.json, what cannot give a score."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import mosi_tree as tree

from data_prep.cmu_mosi import CmuMosi
from data_prep.sources.mosi_tables import opened
from drcli.data.format import SPLITS, DatasetInfo
from drcli.data.prepared import open_dataset
from drcli.data.target import Regression
from drcli.errors import DataError

DOWNLOADS: dict[str, Callable[[Path], Path]] = {
    "mosi_data": tree.mosi_download,
    "csd": tree.csd_download,
    "bc-LSTM": tree.utterance_download,
}


def prepare(source: Path, out: Path, **settings: Any) -> DatasetInfo:
    chosen = CmuMosi.Settings.model_validate({"val_videos": 2, "target": "score", **settings})
    return CmuMosi(chosen).run(source=source, out=out)


def values(out: Path) -> np.ndarray:
    found: np.ndarray = np.concatenate([np.load(out / split / "labels.npy") for split in SPLITS])
    return found


@pytest.mark.parametrize("source", DOWNLOADS)
def test_every_source_gives_its_scores(source: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    info = prepare(DOWNLOADS[source](tmp_path / "download"), out)
    assert (info.classes, info.regression, info.contents.task) == (("score",), Regression(-3.0, 3.0), "regression")
    assert values(out).dtype == np.float32
    assert set(values(out).round(4).tolist()) <= set(tree.sentiments(8).astype(np.float32).round(4).tolist())
    assert len(set(values(out).tolist())) == 8
    dataset = open_dataset(out)
    labels = dataset.split("train").labels
    assert labels.is_floating_point()
    assert labels.tolist() == np.load(out / "train/labels.npy").tolist()


def test_each_utterance_has_the_score_of_the_official_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(tree.utterance_download(tmp_path / "download"), out)
    videos = [*tree.TRAINED_ON, *tree.UNSEEN]
    for split in SPLITS:
        names = (out / split / "ids.txt").read_text(encoding="utf-8").split()
        expected = [tree.score_of(videos.index(name[:11]), int(name[12:])) for name in names]
        np.testing.assert_array_equal(np.load(out / split / "labels.npy"), np.array(expected, np.float32))


def test_dataset_json_says_the_task_and_an_old_drcli_refuses_it(tmp_path: Path) -> None:
    prepare(tree.mosi_download(tmp_path / "download"), tmp_path / "out")
    found = json.loads((tmp_path / "out/dataset.json").read_text(encoding="utf-8"))
    assert found["regression"] == {"low": -3.0, "high": 3.0}
    assert found["format_version"] == 5


def test_classes_are_written_as_before(tmp_path: Path) -> None:
    prepare(tree.mosi_download(tmp_path / "download"), tmp_path / "out", target="seven")
    found = json.loads((tmp_path / "out/dataset.json").read_text(encoding="utf-8"))
    assert "regression" not in found
    assert found["format_version"] == 2
    assert np.load(tmp_path / "out/train/labels.npy").dtype == np.int64


def test_utterances_without_the_official_file_have_no_score(tmp_path: Path) -> None:
    source = tree.utterance_download(tmp_path / "download", scores=False)
    with pytest.raises(DataError, match="target = score needs the scores; put the CMU SDK's"):
        prepare(source, tmp_path / "out")


def test_a_limit_keeps_the_shares_of_the_seven_classes(tmp_path: Path) -> None:
    settings = CmuMosi.Settings.model_validate({"target": "score"})
    CmuMosi(settings).run(source=tree.mosi_download(tmp_path / "download"), out=tmp_path / "out", limit=24)
    kept = np.load(tmp_path / "out/train/labels.npy")
    assert len(values(tmp_path / "out")) == 24
    counts = np.bincount(np.round(kept).astype(int) + 3, minlength=7)
    whole = np.bincount(np.round(tree.sentiments(24)).astype(int) + 3, minlength=7)
    assert np.abs(counts - whole / 2).max() <= 1


@pytest.mark.slow
def test_the_genuine_scores_are_those_of_the_official_file(shared: Path, tmp_path: Path) -> None:
    source = shared / "data/cmu_mosi"
    if not (source / "bc-LSTM").is_dir():
        pytest.skip("no cmu_mosi in the shared folder")
    info = prepare(source, tmp_path / "out", file="bc-LSTM", val_videos=11)
    assert dict(info.rows) == {"train": 1447, "val": 240, "test": 512}
    with opened({"labels": next(source.rglob("CMU_MOSI_Opinion_Labels.csd"))}) as tables:
        for split in SPLITS:
            names = (tmp_path / "out" / split / "ids.txt").read_text(encoding="utf-8").split()
            found = np.load(tmp_path / "out" / split / "labels.npy")
            videos = {video: tables["labels"].read(video).features for video in {name[:11] for name in names}}
            expected = [float(videos[name[:11]][int(name[12:]) - 1][0]) for name in names]
            np.testing.assert_allclose(found, expected, rtol=1e-6)

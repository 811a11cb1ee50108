from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_prep.writing import writer as module
from data_prep.writing.writer import DatasetWriter
from drcli.data.format import DatasetInfo, file_sha256, read_info
from drcli.errors import DataError


def write(root: Path, train: np.ndarray, dtype: str = "float16") -> DatasetInfo:
    writer = DatasetWriter(root, name="toy", classes=("a", "b"))
    for split in ("train", "val", "test"):
        part = writer.split(split, labels=[0, 1, 1], ids=["x", "y", "y"])
        part.array("audio", train.shape[1:], dtype)[:] = train
    return writer.finish(settings={"seed": 0}, source={"fingerprint": "f", "limit": None})


def test_statistics_are_those_of_train_in_float64(tmp_path: Path) -> None:
    train = np.array([[1000.0, 1001.0], [1002.0, 1003.0], [1004.0, 1005.0]])
    info = write(tmp_path, train)
    assert info.modalities["audio"].mean == pytest.approx((1002.5,))
    assert info.modalities["audio"].std == pytest.approx((np.sqrt(35 / 12),))
    assert info.modalities["audio"].shape == (2,)


def test_statistics_do_not_depend_on_the_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = np.random.default_rng(0).integers(0, 256, (3, 5, 7))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = write(tmp_path / "a", train, "uint8").modalities["audio"]
    monkeypatch.setattr(module, "_CHUNK_BYTES", 8)
    pieces = write(tmp_path / "b", train, "uint8").modalities["audio"]
    assert (*pieces.mean, *pieces.std) == pytest.approx((*whole.mean, *whole.std))
    assert (*whole.mean, *whole.std) == pytest.approx((train.mean(), train.std()))


def test_description_names_and_digests_every_file(tmp_path: Path) -> None:
    info = write(tmp_path, np.arange(6.0).reshape(3, 2))
    assert read_info(tmp_path) == info
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")} - {"dataset.json"}
    assert set(info.sha256) == files
    assert all(file_sha256(tmp_path / path) == digest for path, digest in info.sha256.items())
    assert (info.rows["val"], info.samples["val"]) == (3, 2)


@pytest.mark.parametrize(("value", "what"), [(3.0, "constant"), (np.nan, "not finite"), (np.inf, "not finite")])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_useless_modality_is_refused(tmp_path: Path, value: float, what: str) -> None:
    with pytest.raises(DataError, match=f"modality audio is {what} over the training split"):
        write(tmp_path, np.full((3, 2), value))
    assert not (tmp_path / "dataset.json").exists()

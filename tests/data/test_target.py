"""A prepared regression: what is refused of its range and its values, and of a recipe that asks for something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from data_prep.writing.writer import DatasetWriter
from drcli.data.format import INFO_FILE, Contents, DatasetInfo, ModalityInfo, file_sha256, parse_contents, read_info
from drcli.data.prepared import open_dataset
from drcli.data.target import Regression, parse_regression
from drcli.engine.assemble import assemble
from drcli.errors import DataError, RecipeError
from drcli.recipe.schema import Recipe

RANGE = Regression(-3.0, 3.0)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, DatasetInfo]:
    """A dataset of one modality with values from -3 to 3."""
    root = tmp_path / "made"
    root.mkdir()
    writer = DatasetWriter(root, name="toy", classes=("score",), regression=RANGE)
    for number, split in enumerate(("train", "val", "test")):
        targets = np.linspace(-3, 3, 6)
        part = writer.split(split, labels=targets.tolist(), ids=[f"{split}{i}" for i in range(6)])
        part.array("audio", (2,), "float32", kind="vector")[:] = targets[:, None] + [number, 1]
    return root, writer.finish(settings={}, source={"fingerprint": "f", "limit": None})


def with_labels(root: Path, info: DatasetInfo, labels: NDArray[Any]) -> None:
    """Put other labels into train, with the digest that they have."""
    np.save(root / "train/labels.npy", labels)
    digests = {**info.sha256, "train/labels.npy": file_sha256(root / "train/labels.npy")}
    (root / INFO_FILE).write_text(replace(info, sha256=digests).to_json(), encoding="utf-8")


def test_it_opens_with_its_values(made: tuple[Path, DatasetInfo]) -> None:
    dataset = open_dataset(made[0])
    assert dataset.info == made[1]
    assert (dataset.info.contents.task, dataset.num_classes, dataset.warnings) == ("regression", 1, ())
    assert dataset.split("val").labels.tolist() == np.linspace(-3, 3, 6, dtype=np.float32).tolist()
    assert dataset.split("val").labels.dtype == torch.float32


@pytest.mark.parametrize(
    ("labels", "wrong"),
    [
        (np.array([0, 1, np.nan, 0, 0, 0], np.float32), "the value of row 2 is not finite"),
        (np.array([0, np.inf, 0, 0, 0, 0], np.float32), "the value of row 1 is not finite"),
        (np.array([0, 1, 2, 3, 3.5, 0], np.float32), "the value of row 4 is 3.5, allowed are -3 to 3"),
        (np.arange(6), "int64"),
        (np.zeros(6), "float64"),
    ],
)
def test_other_values_are_refused(labels: NDArray[Any], wrong: str, made: tuple[Path, DatasetInfo]) -> None:
    with_labels(*made, labels)
    with pytest.raises(DataError, match=wrong) as caught:
        open_dataset(made[0])
    assert "labels.npy" in str(caught.value)


@pytest.mark.parametrize(
    ("block", "wrong"),
    [
        ([-3, 3], "regression is .* must be a mapping"),
        ({"low": -3}, "regression.high is missing"),
        ({"low": 3, "high": 3}, "regression.high is 3.0; it must be greater than regression.low, 3"),
        ({"low": float("nan"), "high": 3}, "regression.low is nan; it must be finite"),
        ({"low": "a", "high": 3}, "regression.low is 'a'"),
    ],
)
def test_a_range_that_is_none_is_refused(block: Any, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse_regression({"regression": block})


def test_a_regression_has_one_value(made: tuple[Path, DatasetInfo]) -> None:
    found = json.loads(json.dumps(made[1].contents.to_dict()))
    assert parse_contents(found) == made[1].contents
    with pytest.raises(ValueError, match="one name, that of the value of the regression"):
        parse_contents({**found, "classes": ["a", "b"]})


def test_contents_of_classes_are_as_before() -> None:
    found = Contents("toy", ("a", "b"), {"audio": ModalityInfo((2,), "float32", (0.0,), (1.0,), "vector")})
    assert list(found.to_dict()) == ["name", "classes", "modalities"]
    assert parse_contents(found.to_dict()) == found


def test_an_altered_range_is_noticed(made: tuple[Path, DatasetInfo]) -> None:
    path = made[0] / INFO_FILE
    path.write_text(path.read_text(encoding="utf-8").replace('"high": 3.0', '"high": 4.0'), encoding="utf-8")
    with pytest.raises(DataError, match="was altered since it was prepared"):
        read_info(made[0])


def test_a_recipe_of_classes_is_refused(made: tuple[Path, DatasetInfo], toy_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match=r"task = classification: dataset toy in .* was prepared for regression; set"):
        assemble(toy_recipe(), ("audio",), open_dataset(made[0]), torch.device("cpu"))

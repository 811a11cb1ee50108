"""FEATURES.npz files that cannot be diagnosed: one message, no traceback, nothing written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command_line import Refused, tree

Arrays = dict[str, Any]


def good() -> Arrays:
    """Two modalities, three classes, 30 and 12 rows."""
    generator = np.random.default_rng(0)
    labels = {"train": np.arange(30) % 3, "val": np.arange(12) % 3}
    arrays: Arrays = {f"labels_{split}": found for split, found in labels.items()}
    for m, width in (("audio", 4), ("visual", 6)):
        for split, found in labels.items():
            arrays[f"{m}_{split}"] = generator.normal(size=(len(found), width)).astype(np.float32)
    return arrays


class Payload:
    """Pickles into a call that creates a folder."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.victim),)


def with_nan() -> Any:
    features = good()["audio_train"]
    features[3, 2] = np.nan
    return features


CASES: list[tuple[Arrays, tuple[str, ...], str]] = [
    ({"audio_train": np.zeros((29, 4))}, (), "array 'audio_train' has 29 rows, but labels_train has 30"),
    ({"labels_val": np.arange(11) % 3}, (), "has 12 rows, but labels_val has 11; make them equally many"),
    ({"audio_train": with_nan()}, (), "array 'audio_train' has 1 values that are NaN, infinite or beyond"),
    ({"visual_val": np.full((12, 6), np.inf)}, (), "array 'visual_val' has 72 values that are NaN, infinite"),
    ({"visual_val": np.zeros((12, 5))}, (), "'visual_train' and 'visual_val' have 6 and 5 dimensions"),
    ({"audio_train": np.zeros((30, 4, 2))}, (), "array 'audio_train' has the shape (30, 4, 2)"),
    ({"audio_train": np.full((30, 4), "x")}, (), "array 'audio_train' has the type <U1"),
    ({"labels_train": np.zeros(30)}, (), "array 'labels_train' has the type float64"),
    ({}, ("labels_train",), "array 'labels_train' is missing; the file needs labels_train, labels_val and"),
    ({}, ("audio_val",), "array 'audio_val' is missing, but 'audio_train' is in the file; add it"),
    ({}, ("audio_train", "audio_val", "visual_train", "visual_val"), "holds no modality, only labels"),
    ({"labels_val": np.arange(12) % 4}, (), "labels_val has classes that labels_train lacks: 3"),
]


@pytest.mark.parametrize(("replaced", "left_out", "message"), CASES)
def test_arrays_that_do_not_fit_are_refused(
    replaced: Arrays, left_out: tuple[str, ...], message: str, refused: Refused, tmp_path: Path
) -> None:
    path = tmp_path / "FEATURES.npz"
    np.savez(path, **{k: v for k, v in {**good(), **replaced}.items() if k not in left_out})
    before = tree(tmp_path)
    said = refused("diagnose", path, "--figure", tmp_path / "figure.png", code=3)
    assert said.startswith(f"{path}: ")
    assert message in said
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["audio_train", "labels_val"])
def test_python_objects_are_refused_and_their_code_does_not_run(name: str, refused: Refused, tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "FEATURES.npz"
    np.savez(path, **{**good(), name: np.array([Payload(victim)], dtype=object)}, allow_pickle=True)
    said = refused("diagnose", path, code=3)
    assert f"array '{name}' holds Python objects, which are not loaded because they can carry code" in said
    assert not victim.exists()


@pytest.mark.parametrize("content", [b"", b"audio,visual\n1,2\n", b"PK\x03\x04 and no zip"])
def test_what_is_no_npz_is_refused(content: bytes, refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "FEATURES.npz"
    path.write_bytes(content)
    assert refused("diagnose", path, code=3).startswith(f"{path}: is not a .npz file")


def test_a_truncated_npz_is_refused(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "FEATURES.npz"
    np.savez(path, **good())
    path.write_bytes(path.read_bytes()[:-40])
    assert refused("diagnose", path, code=3).startswith(f"{path}: is not a .npz file")


def test_a_missing_npz_is_refused(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "none.npz"
    assert refused("diagnose", path, code=3) == f"{path}: no such file; save one with numpy.savez\n"


def test_the_root_of_a_dataset_is_of_no_use_to_features(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "FEATURES.npz"
    np.savez(path, **good())
    said = refused("diagnose", path, "dataset.root=data/x", code=2)
    assert said == f"dataset.root=data/x: {path} holds the features themselves; leave it out\n"

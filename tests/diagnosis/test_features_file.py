"""FEATURES.npz: what is read, and one clear message for every way in which it can be wrong."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from drcli.diagnosis.features_file import load_features
from drcli.errors import DataError

RNG = np.random.default_rng(0)
GOOD: dict[str, Any] = {
    "labels_train": np.array([3, 3, 7, 7]),
    "labels_val": np.array([7, 3, 3]),
    "audio_train": RNG.normal(size=(4, 5)),
    "audio_val": RNG.normal(size=(3, 5)),
    "lip_motion_train": RNG.normal(size=(4, 2)).astype(np.float16),
    "lip_motion_val": np.arange(6).reshape(3, 2),
}


def save(folder: Path, **changes: Any) -> Path:
    """Write GOOD with some arrays changed, or left out where the change is None."""
    path = folder / "features.npz"
    np.savez(path, **{name: array for name, array in {**GOOD, **changes}.items() if array is not None})
    return path


def test_labels_are_renumbered_and_features_become_single_precision(tmp_path: Path) -> None:
    found = load_features(save(tmp_path))
    assert found.class_names == ("3", "7")
    assert found.num_classes == 2
    assert found.labels_train.tolist() == [0, 0, 1, 1]
    assert found.labels_val.tolist() == [1, 0, 0]
    assert list(found.features_train) == list(found.features_val) == ["audio", "lip_motion"]
    assert {tensor.dtype for tensor in found.features_val.values()} == {torch.float32}
    assert found.features_val["lip_motion"].tolist() == [[0, 1], [2, 3], [4, 5]]
    np.testing.assert_allclose(found.features_train["audio"], GOOD["audio_train"], rtol=1e-6)


@pytest.mark.parametrize("kind", ["U", "S"])
def test_labels_may_be_strings(tmp_path: Path, kind: str) -> None:
    train, val = (
        np.array(["dog", "dog", "cat", "cat"], dtype=kind),
        np.array(["cat", "dog", "dog"], dtype=kind),
    )
    found = load_features(save(tmp_path, labels_train=train, labels_val=val))
    assert found.class_names == ("cat", "dog")
    assert found.labels_val.tolist() == [0, 1, 1]


def test_compressed_files_are_read_too(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "features.npz", **GOOD)
    assert load_features(tmp_path / "features.npz").num_classes == 2


def test_a_class_may_be_absent_from_validation(tmp_path: Path) -> None:
    found = load_features(save(tmp_path, labels_val=np.array([3, 3, 3])))
    assert found.num_classes == 2


BAD: list[tuple[dict[str, Any], str]] = [
    ({"labels_train": None}, "array 'labels_train' is missing; the file needs labels_train, labels_val and"),
    ({"labels_val": None}, "array 'labels_val' is missing"),
    ({"audio_val": None}, "array 'audio_val' is missing, but 'audio_train' is in the file; add it"),
    ({"audio_train": None}, "array 'audio_train' is missing, but 'audio_val' is in the file; add it"),
    ({"ids": np.arange(4)}, "array 'ids' does not belong here; leave it out"),
    ({"audio_test": np.zeros((4, 5))}, "array 'audio_test' does not belong here; leave it out"),
    ({"_train": np.zeros((4, 5))}, "array '_train' does not belong here; leave it out"),
    (
        {"audio_train": np.zeros((5, 5))},
        "array 'audio_train' has 5 rows, but labels_train has 4; make them equally many",
    ),
    (
        {"audio_val": np.zeros((3, 4))},
        "arrays 'audio_train' and 'audio_val' have 5 and 4 dimensions; take both from the same layer",
    ),
    (
        {"audio_val": np.zeros((3, 5, 2, 2))},
        "array 'audio_val' has the shape (3, 5, 2, 2); it must be (N, D), one row per sample: flatten",
    ),
    ({"audio_val": np.zeros(3)}, "array 'audio_val' has the shape (3,); it must be (N, D)"),
    ({"audio_val": np.zeros((3, 0))}, "array 'audio_val' has the shape (3, 0); it must be (N, D)"),
    (
        {"audio_val": np.array([[np.nan] * 5, [np.inf] + [0] * 4, [1e300] + [0] * 4])},
        "array 'audio_val' has 7 values that are NaN, infinite or beyond 1e+12; leave their rows out",
    ),
    ({"audio_val": np.full((3, 5), "x")}, "array 'audio_val' has the type <U1; features are real numbers"),
    (
        {"audio_val": np.full((3, 5), 1j)},
        "array 'audio_val' has the type complex128; features are real numbers",
    ),
    (
        {"audio_val": np.array([[{}] * 5] * 3)},
        "array 'audio_val' holds Python objects, which are not loaded because they can carry code",
    ),
    ({"labels_val": np.array([None] * 3)}, "array 'labels_val' holds Python objects"),
    (
        {"labels_val": np.array([3.0, 7.0, 3.0])},
        "array 'labels_val' has the type float64; labels are integers or",
    ),
    ({"labels_val": np.array([[3], [7], [3]])}, "array 'labels_val' has the shape (3, 1); it must be (N,)"),
    ({"labels_train": np.array([], dtype=int)}, "array 'labels_train' has the shape (0,); it must be (N,)"),
    ({"labels_val": np.array(["3", "7", "3"])}, "labels_train and labels_val differ in type"),
    (
        {"labels_val": np.array([3, 8, 9])},
        "labels_val has classes that labels_train lacks: 8, 9; leave their",
    ),
    ({"labels_train": np.full(4, 3), "labels_val": np.full(3, 3)}, "labels_train has one class only (3)"),
    (
        {"labels_val": np.array([3])},
        "labels_val has 1 samples for 2 classes; each split needs as many samples as there are classes",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_arrays_that_do_not_fit_are_named_with_the_remedy(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = save(tmp_path, **changes)
    with pytest.raises(DataError, match="^" + re.escape(f"{path}: {message}")) as caught:
        load_features(path)
    assert "\n" not in str(caught.value)


def test_a_file_without_modalities_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "features.npz"
    np.savez(path, labels_train=GOOD["labels_train"], labels_val=GOOD["labels_val"])
    with pytest.raises(DataError, match="holds no modality, only labels"):
        load_features(path)


def no_file(path: Path) -> None:
    del path


def folder(path: Path) -> None:
    path.mkdir()


def text(path: Path) -> None:
    path.write_text("labels_train 0 1 2\n")


def empty(path: Path) -> None:
    path.touch()


def truncated(path: Path) -> None:
    np.savez(path, **GOOD)
    path.write_bytes(path.read_bytes()[:-200])


def single_array(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, GOOD["audio_train"])


def a_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(GOOD))


def checkpoint(path: Path) -> None:
    torch.save({"model": torch.zeros(3)}, path)


def another_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("labels_train", "0 1 2")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_file, "no such file; save one with numpy.savez"),
        (folder, "cannot be read (Is a directory)"),
        (text, "is not a .npz file"),
        (empty, "is not a .npz file"),
        (truncated, "is not a .npz file"),
        (single_array, "holds a single array; save several with numpy.savez"),
        (a_pickle, "is not a .npz file"),
        (checkpoint, "is not an array; save the file with numpy.savez"),
        (another_zip, "'labels_train' is not an array; save the file with numpy.savez"),
    ],
)
def test_what_is_no_file_of_arrays_is_refused(tmp_path: Path, make: Any, message: str) -> None:
    path = tmp_path / "features.npz"
    make(path)
    with pytest.raises(DataError, match="^" + re.escape(f"{path}: ") + ".*" + re.escape(message)) as caught:
        load_features(path)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_flipped_bytes_give_data_errors_and_nothing_else(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "features.npz"
    (np.savez_compressed if compressed else np.savez)(path, **GOOD)
    good, rng, messages = path.read_bytes(), np.random.default_rng(1), []
    for _ in range(300):
        damaged = bytearray(good)
        damaged[rng.integers(len(good))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            load_features(path)  # a byte that nobody reads may change
        except DataError as error:
            messages.append(str(error))
    assert len(messages) > 150
    assert all(message.startswith(f"{path}: ") for message in messages)


def test_labels_that_no_text_can_hold_are_refused(tmp_path: Path) -> None:
    """numpy stores text as numbers of characters, of which 0x110000 and more are none."""
    labels = np.array(["a", "a", "b", "b"])
    labels.view(np.uint32)[0] = 0x7FFFFFFF
    with pytest.raises(DataError, match="array 'labels_train' holds damaged text"):
        load_features(save(tmp_path, labels_train=labels, labels_val=np.array(["a", "b", "b"])))


def test_control_characters_in_labels_are_refused(tmp_path: Path) -> None:
    labels = np.array(["a", "a", "\x1b[31m", "b"])
    with pytest.raises(DataError, match="array 'labels_train' has control characters in its labels"):
        load_features(save(tmp_path, labels_train=labels, labels_val=np.array(["a", "b", "b"])))

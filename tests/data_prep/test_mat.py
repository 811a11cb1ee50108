from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from support.wikipedia_tree import big_endian, bomb, mat_bytes

from data_prep.sources import mat
from data_prep.sources.mat import read_matrices
from drcli.errors import DataError

NUMBERS = np.array([[0.25, -3.0, 1e300], [2.0, 0.0, 5.5]])


def written(folder: Path, content: bytes) -> Path:
    path = folder / "a.mat"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_matrices_are_those_that_were_saved(tmp_path: Path, compressed: bool) -> None:
    variables = {
        "numbers": NUMBERS,
        "small": np.array([[1.0], [200.0]], np.float32),
        "text": "not wanted",
        "cells": np.array([[1, "a"]], dtype=object),
    }
    path = written(tmp_path, mat_bytes(variables, compressed=compressed))
    found = read_matrices(path, ["numbers", "small", "absent"])
    assert found.keys() == {"numbers", "small"}
    np.testing.assert_array_equal(found["numbers"], NUMBERS)
    np.testing.assert_array_equal(found["small"], [[1.0], [200.0]])


def test_the_genuine_features_are_those_that_scipy_reads(shared: Path) -> None:
    path = shared / "data" / "wiki" / "raw_features.mat"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    expected = scipy.io.loadmat(str(path), variable_names=["I_te", "T_te"])
    found = read_matrices(path, ["I_te", "T_te"])
    for name in ("I_te", "T_te"):
        np.testing.assert_array_equal(found[name], expected[name])


def test_numbers_in_one_byte_of_a_big_endian_machine_are_read_by_columns(tmp_path: Path) -> None:
    path = written(tmp_path, big_endian("ab", np.array([[1, 2, 3], [4, 5, 255]], np.uint8)))
    np.testing.assert_array_equal(read_matrices(path, ["ab"])["ab"], [[1, 2, 3], [4, 5, 255]])


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"a": "text"}, "a is not a matrix of real numbers"),
        ({"a": np.array([[1 + 2j]])}, "a is not a matrix of real numbers"),
        ({"a": np.zeros((2, 2, 2))}, "a is not a matrix of real numbers"),
        ({"a": np.zeros((0, 3))}, "a has 0 values, its dimensions say 0 x 3"),
    ],
)
def test_what_is_no_matrix_of_real_numbers_is_refused(
    tmp_path: Path, variables: dict[str, object], message: str
) -> None:
    path = written(tmp_path, mat_bytes(variables))
    with pytest.raises(DataError, match=rf"a\.mat: not a readable MAT-file of version 5 \({message}\); download"):
        read_matrices(path, ["a"])


def test_a_file_of_another_version_is_named(tmp_path: Path) -> None:
    content = bytearray(mat_bytes({"a": NUMBERS}))
    content[124:126] = b"\x00\x02"
    with pytest.raises(DataError, match=r"its version is 2\.0; save it in MATLAB with -v7"):
        read_matrices(written(tmp_path, bytes(content)), ["a"])
    with pytest.raises(DataError, match="its header does not end in IM or MI"):
        read_matrices(written(tmp_path, b"\x89HDF\r\n\x1a\n" + bytes(200)), ["a"])


def test_every_cut_and_every_changed_dimension_is_noticed(tmp_path: Path) -> None:
    content = mat_bytes({"a": NUMBERS}, compressed=False)
    for length in range(129, len(content)):
        with pytest.raises(DataError, match="not a readable MAT-file"):
            read_matrices(written(tmp_path, content[:length]), ["a"])
    changed = content.replace(np.array([2, 3], "<i4").tobytes(), np.array([2, 4], "<i4").tobytes())
    with pytest.raises(DataError, match="a has 6 values, its dimensions say 2 x 4"):
        read_matrices(written(tmp_path, changed), ["a"])


def test_a_changed_byte_of_compressed_values_is_noticed(tmp_path: Path) -> None:
    content = bytearray(mat_bytes({"a": np.random.default_rng(0).random((20, 20))}))
    content[len(content) // 2] ^= 1
    with pytest.raises(DataError, match="not a readable MAT-file"):
        read_matrices(written(tmp_path, bytes(content)), ["a"])


def test_a_variable_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mat, "LARGEST", 5 * 10**6)
    path = written(tmp_path, bomb("a", megabytes=6))
    assert path.stat().st_size < 20_000
    with pytest.raises(DataError, match="its variables take more than 5 MB"):
        read_matrices(path, ["a"])

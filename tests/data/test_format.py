from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drcli.data.format import (
    DatasetInfo,
    ModalityInfo,
    data_files,
    differences,
    prepare_command,
    read_info,
    verify_files,
)
from drcli.errors import DataError

MODALITIES = {"audio": ModalityInfo((2, 3), "float16", (0.5,), (2.0,))}
INFO = DatasetInfo(
    name="toy",
    classes=("a", "b"),
    modalities=MODALITIES,
    rows={"train": 4, "val": 4, "test": 4},
    samples={"train": 4, "val": 2, "test": 2},
    settings={"seed": 0},
    source={"fingerprint": "f", "limit": None},
    sha256=dict.fromkeys(data_files(MODALITIES), "0" * 64),
)


def test_description_survives_the_file(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(INFO.to_json())
    assert read_info(tmp_path) == INFO


def test_fingerprint_is_of_contents_alone() -> None:
    renamed = DatasetInfo(**{**vars(INFO), "source": {"fingerprint": "other"}})
    altered = DatasetInfo(**{**vars(INFO), "sha256": {**INFO.sha256, "train/ids.txt": "1" * 64}})
    assert renamed.fingerprint == INFO.fingerprint != altered.fingerprint


def test_a_missing_file_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no prepared dataset here \(dataset.json is missing\)"):
        read_info(tmp_path)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_refused(tmp_path: Path, version: Any) -> None:
    raw = {**json.loads(INFO.to_json()), "format_version": version}
    (tmp_path / "dataset.json").write_text(json.dumps(raw))
    with pytest.raises(DataError, match=rf"format_version is {version!r}, this drcli reads 1; prepare .* --fresh"):
        read_info(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_file_that_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(DataError, match=r"dataset.json(: damaged \(|, line 1: not UTF-8 text).*; prepare.*--fresh"):
        read_info(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("modalities", []),
        ("modalities", {"audio": {"shape": [2]}}),
        ("rows", {"train": 4}),
        ("samples", None),
        ("sha256", {}),
        ("classes", 3),
        ("settings", 3),
    ],
)
def test_a_damaged_description_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({**json.loads(INFO.to_json()), key: value}))
    with pytest.raises(DataError, match=r"dataset.json: damaged \(.*prepare.*--fresh"):
        read_info(tmp_path)


def test_every_missing_or_altered_file_is_named(tmp_path: Path) -> None:
    for path in INFO.sha256:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "val" / "ids.txt").unlink()
    (tmp_path / "val" / "labels.npy").unlink()
    (tmp_path / "val" / "labels.npy").mkdir()
    with pytest.raises(DataError) as caught:
        verify_files(tmp_path, INFO)
    message = str(caught.value)
    assert "train/audio.npy was truncated or altered since it was prepared" in message
    assert "val/ids.txt is missing" in message
    assert "val/labels.npy cannot be read (Is a directory)" in message
    assert message.endswith(f"`drcli prepare toy --source DIR --out {tmp_path} --fresh`")


def test_differences_name_each_setting_with_both_values() -> None:
    there, asked = {"same": [1, 2], "noise": 0.5, "old": None}, {"same": (1, 2), "noise": 0.3, "new": "x"}
    assert differences(there, asked) == [
        "noise: 0.5 there, 0.3 asked",
        "old: null there, unset asked",
        'new: unset there, "x" asked',
    ]


def test_only_an_embedded_dataset_is_prepared_without_a_source() -> None:
    assert prepare_command("digits", Path("d")) == "`drcli prepare digits --out d`"
    assert prepare_command("avmnist", Path("d")) == "`drcli prepare avmnist --source DIR --out d`"

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drcli.data import info_checks
from drcli.data.format import (
    DatasetInfo,
    ModalityInfo,
    data_files,
    prepare_command,
    read_info,
)
from drcli.data.verified import verify_files
from drcli.errors import DataError
from drcli.reading import differences

MODALITIES = {"audio": ModalityInfo((1, 2, 3), "float16", (0.5,), (2.0,))}
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


def test_fingerprint_does_not_depend_on_where_the_data_came_from() -> None:
    renamed = DatasetInfo(**{**vars(INFO), "source": {"fingerprint": "other"}})
    assert renamed.fingerprint == INFO.fingerprint


@pytest.mark.parametrize(
    "changed",
    [
        {"sha256": {**INFO.sha256, "train/ids.txt": "1" * 64}},
        {"classes": ("b", "a")},
        {"modalities": {"audio": replace(MODALITIES["audio"], mean=(3.5,))}},
        {"modalities": {"audio": replace(MODALITIES["audio"], std=(10.0,))}},
        {"modalities": {"audio": replace(MODALITIES["audio"], kind="frames")}},
        {"modalities": {"audio": replace(MODALITIES["audio"], dtype="uint8")}},
    ],
)
def test_fingerprint_covers_all_that_a_model_sees(changed: dict[str, Any]) -> None:
    assert replace(INFO, **changed).fingerprint != INFO.fingerprint


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("modalities.audio.mean", [3.5]),
        ("modalities.audio.std", [10.0]),
        ("classes", ["b", "a"]),
        ("settings", {"seed": 1}),
        ("source", {"fingerprint": "f", "limit": 3}),
        ("seal", "0" * 64),
        ("seal", None),
    ],
)
def test_an_altered_description_is_refused(tmp_path: Path, path: str, value: Any) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps(changed_at(json.loads(INFO.to_json()), path, value)))
    with pytest.raises(DataError, match=r"dataset.json: was altered since it was prepared; prepare .* --fresh"):
        read_info(tmp_path)


def changed_at(raw: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Plain data with another value at a dotted path."""
    key, _, rest = path.partition(".")
    return {**raw, key: changed_at(raw[key], rest, value) if rest else value}


def test_a_seal_holds_whatever_the_keys_of_settings_were(tmp_path: Path) -> None:
    info = replace(INFO, settings={"by_number": {10: "a", 9: "b"}}, source={"fingerprint": "\udcff", "share": 1e-7})
    (tmp_path / "dataset.json").write_text(info.to_json())
    assert read_info(tmp_path).source["fingerprint"] == r"\udcff"  # spelled out
    assert read_info(tmp_path).settings == {"by_number": {"10": "a", "9": "b"}}


def test_a_dataset_of_version_1_has_no_seal_and_is_read(tmp_path: Path) -> None:
    raw = {**json.loads(INFO.to_json()), "format_version": 1}
    del raw["seal"]
    (tmp_path / "dataset.json").write_text(json.dumps(raw))
    found = read_info(tmp_path)
    assert found == replace(INFO, format_version=1)
    assert found.fingerprint == INFO.fingerprint
    assert json.loads(found.to_json()) == raw


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("modalities.audio.std", [0.0], r"modalities.audio.std is 0.0; it must be finite and positive"),
        ("modalities.audio.std", [-2.0], r"modalities.audio.std is -2.0; it must be finite and positive"),
        ("modalities.audio.std", [float("nan")], "modalities.audio.std is nan"),
        ("modalities.audio.std", [1e-300], "modalities.audio.std is 1e-300"),
        ("modalities.audio.std", [1e300], "modalities.audio.std is 1e[+]300"),
        ("modalities.audio.std", ["2"], "modalities.audio.std is '2'"),
        ("modalities.audio.mean", [float("inf")], "modalities.audio.mean is inf; it must be finite"),
        ("modalities.audio.mean", [10**400], "a whole number beyond 64 bits"),
        ("modalities.audio.mean", [True], "modalities.audio.mean is True"),
        ("modalities.audio.mean", [1.0, 2.0], "modalities.audio.mean has 2 numbers; it must have 1"),
        ("modalities.audio.mean", [], "modalities.audio.mean has 0 numbers"),
        ("modalities.audio.kind", "frames", r"shape is \[1, 2, 3\]; it must be 4 axes for the kind frames"),
        ("modalities.audio.kind", "sequence", "it must be 2 axes for the kind sequence"),
        ("modalities.audio.kind", "vector", "it must be 1 axis for the kind vector"),
        (
            "modalities.audio.kind",
            "smell",
            "kind is 'smell'; it must be one of array, .*, vector, tokens",
        ),
        ("modalities.audio.kind", ["array"], "kind is"),
        ("modalities.audio.shape", [1, 2, 0], "shape is 0; it must be a whole number from 1"),
        ("modalities.audio.shape", [1, 2, 2.5], "shape is 2.5"),
        ("modalities.audio.shape", [1, 2, True], "shape is True"),
        ("modalities.audio.shape", 3, "shape is 3; it must be a list"),
        ("modalities.audio.dtype", "object", "dtype is 'object'"),
        ("modalities", {}, "modalities is {}; it must be one modality at least"),
        ("modalities", {"../../audio": {}}, "it must be a name without a slash"),
        ("classes", ["a", "a"], "classes names 'a' twice; each class must have a name of its own"),
        ("classes", [], r"classes is \[\]"),
        ("classes", [1, 2], "classes is 1; it must be a string"),
        ("classes", ["a", "\ud800"], "control characters in"),
        ("rows", {"train": 4.7, "val": 4, "test": 4}, "rows.train is 4.7; it must be a whole number"),
        ("rows", {"train": 4}, "rows.val is missing"),
        ("samples", {"train": -4, "val": 4, "test": 4}, "samples.train is -4"),
        ("samples", {"train": 4, "val": 5, "test": 4}, "samples.val is 5; it must be 4 at most, the number of rows"),
        ("sha256", dict.fromkeys(INFO.sha256, "x"), "it must be a SHA-256"),
        ("name", 3, "name is 3; it must be a string"),
    ],
)
def test_a_wrong_value_is_refused_by_its_field(tmp_path: Path, path: str, value: Any, message: str) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps(changed_at(json.loads(INFO.to_json()), path, value)))
    with pytest.raises(DataError, match=rf"dataset.json: damaged \(.*{message}.*prepare .* --fresh"):
        read_info(tmp_path)


def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "dataset.json")
    with pytest.raises(DataError, match=r"dataset.json: cannot be read \(not a regular file\)"):
        read_info(tmp_path)
    for path in INFO.sha256:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "val" / "ids.txt").unlink()
    os.mkfifo(tmp_path / "val" / "ids.txt")
    with pytest.raises(DataError, match=r"val/ids.txt is not a regular file"):
        verify_files(tmp_path, INFO, "")


def test_a_flow_has_two_channels_and_a_sequence_one_number_per_dimension() -> None:
    assert info_checks.shape("s", [3, 2, 8, 8], "flow") == (3, 2, 8, 8)
    with pytest.raises(ValueError, match="4 axes, the second of 2, for the kind flow"):
        info_checks.shape("s", [3, 3, 8, 8], "flow")
    assert info_checks.statistics("m", [1, 2, 3.5], "sequence", (9, 3)) == (1.0, 2.0, 3.5)
    with pytest.raises(ValueError, match="m has 9 numbers; it must have 1 or 3"):
        info_checks.statistics("m", [0] * 9, "sequence", (9, 3))


def test_a_missing_file_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no prepared dataset here \(dataset.json is missing\)"):
        read_info(tmp_path)


@pytest.mark.parametrize("version", [0, 7, "1", True, 1.0, None])
def test_another_version_is_refused(tmp_path: Path, version: Any) -> None:
    raw = {**json.loads(INFO.to_json()), "format_version": version}
    (tmp_path / "dataset.json").write_text(json.dumps(raw))
    with pytest.raises(
        DataError, match=rf"format_version is {version!r}, this drcli reads 1, 2, 3, 4, 5 and 6; prepare .* --fresh"
    ):
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


def test_a_name_that_no_terminal_shows_is_spelled_out(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({**json.loads(INFO.to_json()), "modalities": {"a\xad": 3}}))
    with pytest.raises(DataError, match=r"damaged \(modalities\.a\\xad is 3; it must be a mapping\)"):
        read_info(tmp_path)


def test_every_missing_or_altered_file_is_named(tmp_path: Path) -> None:
    for path in INFO.sha256:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "val" / "ids.txt").unlink()
    (tmp_path / "val" / "labels.npy").unlink()
    (tmp_path / "val" / "labels.npy").mkdir()
    with pytest.raises(DataError) as caught:
        verify_files(tmp_path, INFO, "`drcli prepare`")
    message = str(caught.value)
    assert "train/audio.npy was truncated or altered since it was prepared" in message
    assert "val/ids.txt is missing" in message
    assert "val/labels.npy is not a regular file" in message
    assert message.endswith("; prepare the dataset again: `drcli prepare`")


def test_differences_name_each_setting_with_both_values() -> None:
    there, requested = {"same": [1, 2], "noise": 0.5, "old": None}, {"same": (1, 2), "noise": 0.3, "new": "x"}
    assert differences(there, requested) == [
        "noise: 0.5 in the folder, 0.3 requested",
        "old: null in the folder, unset requested",
        'new: unset in the folder, "x" requested',
    ]


@pytest.mark.parametrize(("needs_source", "option"), [(True, " --source DIR"), (False, ""), (None, " [--source DIR]")])
def test_the_command_names_a_source_where_one_is_needed(needs_source: bool | None, option: str) -> None:
    command = prepare_command("toy", Path("d"), needs_source=needs_source, fresh=True)
    assert command == f"`drcli prepare toy{option} --out d --fresh`"

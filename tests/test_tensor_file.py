"""Files of torch.save: the same values as torch reads, and nothing but tensors and plain containers."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from drcli.reading import ContentsError
from drcli.tensor_file import MoreThanTensorsError, read_tensors


def read(path: Path) -> Any:
    with path.open("rb") as stream:
        return read_tensors(stream)


def refused(path: Path, kind: type[Exception] = ContentsError) -> str:
    with pytest.raises(kind) as caught:
        read(path)
    return str(caught.value)


def saved(tmp_path: Path, value: Any, **options: Any) -> Path:
    torch.save(value, tmp_path / "w.pt", **options)
    return tmp_path / "w.pt"


def repacked(path: Path, **members: bytes) -> Path:
    """The archive with the contents of some members replaced, checksums right."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, members.get(name.partition("/")[2].replace(".", "_"), content))
    return path


NETWORK: Any = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
NETWORK.to(memory_format=torch.channels_last)  # which the declaration of Module.to lacks
SHARED = torch.arange(12.0)
VALUES: dict[str, Any] = {
    **{
        str(dtype): torch.tensor([[0, 1], [1, 0]]).to(dtype)
        for dtype in (
            *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool),
            *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
        )
    },
    "scalar": torch.tensor(2.5),
    "empty": torch.empty(0, 3),
    "transposed": torch.arange(6).reshape(2, 3).t(),
    "views": [SHARED[3:6], SHARED.reshape(3, 4)[:, 1]],
    "parameter": nn.Parameter(torch.ones(2)),
    "network": NETWORK.state_dict(),
    "plain": [1, -1, 2**40, 1.5, "é", None, True, False, (), (1, (2, 3, 4, 5)), {}, {0: {"a": []}}],
}


def equal(one: Any, other: Any) -> bool:
    if isinstance(other, Tensor):
        return (
            isinstance(one, Tensor) and one.dtype == other.dtype and one.stride() == other.stride() and one.equal(other)
        )
    if isinstance(other, dict):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in other)
    if isinstance(other, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other) and type(one) is type(other)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_values_types_and_strides_are_those_that_torch_reads(zipped: bool, tmp_path: Path) -> None:
    path = saved(tmp_path, VALUES, _use_new_zipfile_serialization=zipped)
    found = read(path)
    assert equal(found, VALUES)
    assert equal(found, torch.load(path, weights_only=True))
    assert type(found["parameter"]) is Tensor
    assert found["views"][0].untyped_storage().data_ptr() == found["views"][1].untyped_storage().data_ptr()
    assert type(found["network"]) is dict


class Payload:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_code_is_refused_and_does_not_run(zipped: bool, tmp_path: Path) -> None:
    path = saved(tmp_path, {"a": Payload(tmp_path / "victim")}, _use_new_zipfile_serialization=zipped)
    assert "'posix mkdir' is refused" in refused(path, MoreThanTensorsError)
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize(
    "value", [{1}, frozenset(), Path("x"), torch.device("cpu"), torch.float32, {(1, 2): 3}, {None: 1}, b"x", 1j,
              torch.ones(2).to_sparse(), nn.Linear(1, 1), torch.ones(1, dtype=torch.complex64), OrderedDict]
)  # fmt: skip
def test_values_of_other_types_are_refused(value: Any, tmp_path: Path) -> None:
    refused(saved(tmp_path, {"a": value}), MoreThanTensorsError)


def pickled(tmp_path: Path, change: Any) -> Path:
    """A file whose pickle was changed."""
    path = saved(tmp_path, {"a": torch.arange(4.0)})
    with zipfile.ZipFile(path) as archive:
        content = archive.read("w/data.pkl")
    changed = change(content)
    assert changed != content
    return repacked(path, data_pkl=changed)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"K\x04t", b"J\xff\xff\xff\x7ft", "the values of storage '0' are missing, or not as many as it says"),
        (b"K\x04\x85", b"J\xff\xff\xff\x7f\x85", "a tensor of shape (2147483647,) reaches beyond its 4 values"),
        (b"K\x04\x85", b"K\x04\x85"[:2] + b"\x86", "a tensor is not described as torch.save does it"),
        (b"K\x01\x85", b"K\x02\x85", "a tensor of shape (4,) reaches beyond its 4 values"),
        (b"K\x01\x85", b"J\xff\xff\xff\xff\x85", "a tensor is not described as torch.save does it"),
    ],
)
def test_tensors_that_claim_more_than_the_file_holds_are_refused(
    old: bytes, new: bytes, message: str, tmp_path: Path
) -> None:
    said = refused(pickled(tmp_path, lambda content: content.replace(old, new, 1)))
    assert said == message or message.startswith("a tensor is not")


def test_a_tensor_of_stride_zero_does_not_grow_beyond_its_storage(tmp_path: Path) -> None:
    assert "reaches beyond its 1 values" in refused(saved(tmp_path, {"a": torch.zeros(1).expand(10**12)}))


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "nested more than 32 levels deep"),
        (b"\x80\x02)" + b"\x85" * 200_000 + b".", "nested more than 32 levels deep"),
        (b"\x80\x02]q\x00h\x00a.", "nested more than 32 levels deep"),
        (
            b"\x80\x02]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(25)) + b".",
            "more than 1000000 values",
        ),
        (b"\x80\x02r\xff\xff\xff\x7f.", ""),
        (b"\x80\x02h\x09.", ""),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", ""),
        (b"\x80\x02a.", ""),
        (b"\x80\x02e.", ""),
        (b"\x80\x02", ""),
        (b"", ""),
        (b"\x80\x02\x8a\x0c" + b"\x7f" * 12 + b".", "a whole number beyond 64 bits"),
    ],
    ids=range(12),
)
def test_pickles_that_go_round_or_too_far_are_refused(program: bytes, why: str, tmp_path: Path) -> None:
    assert why in refused(repacked(saved(tmp_path, {}), data_pkl=program))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_every_flipped_byte_ends_in_one_message_or_in_other_values(zipped: bool, tmp_path: Path) -> None:
    """The format before 1.6 has no checksums: there a flipped byte may go unnoticed, but raises nothing else."""
    path = saved(tmp_path, {"a": torch.arange(3.0)}, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    unnoticed = 0
    for position in range(0, len(data), 4):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x55]) + data[position + 1 :])
        try:
            found = read(path)
        except ContentsError:
            continue
        unnoticed += not equal(found, {"a": torch.arange(3.0)})
    assert unnoticed == 0 or not zipped


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    for zipped in (True, False):
        path = saved(tmp_path, {"a": torch.arange(3.0)}, _use_new_zipfile_serialization=zipped)
        data = path.read_bytes()
        for size in range(0, len(data), 3):
            path.write_bytes(data[:size])
            refused(path)


def test_another_pickle_and_another_zip_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(pickle.dumps({"a": 1}))
    refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/b", "c")
    assert refused(path) == "the archive holds no data.pkl of torch.save"


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(100_000)}, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert "is compressed or too large" in refused(tmp_path / "w.pt")

"""Checkpoints: what is saved comes back, and whatever was touched since is refused."""

from __future__ import annotations

import hashlib
import io
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from drcli import checkpoint
from drcli.errors import CheckpointError, DataError, RunError

STATE: dict[str, Any] = {
    "model": {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)},
    "epoch": 4,
    "names": ["a", None],
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint of STATE."""
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, STATE)
    return path


def test_a_saved_state_is_loaded_unchanged(saved: Path) -> None:
    state = checkpoint.load(saved)
    assert state["model"]["w"].equal(STATE["model"]["w"])
    assert state["model"]["w"].dtype == torch.float32
    assert {k: state[k] for k in ("epoch", "names")} == {"epoch": 4, "names": ["a", None]}


def test_torch_reads_a_checkpoint(saved: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.load(saved, weights_only=True)["epoch"] == 4


def test_the_seal_is_the_digest_of_all_that_stands_before_it(saved: Path) -> None:
    data = saved.read_bytes()
    assert data[-77:-64] == b"drcli-sha256:"
    assert hashlib.sha256(data[:-77]).hexdigest().encode() == data[-64:]


def test_equal_states_give_equal_bytes(saved: Path, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "again.pt", STATE)
    assert (tmp_path / "again.pt").read_bytes() == saved.read_bytes()


def test_every_flipped_byte_is_found(saved: Path) -> None:
    data = saved.read_bytes()
    for position in range(0, len(data), 7):
        saved.write_bytes(data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :])
        with pytest.raises(CheckpointError):
            checkpoint.load(saved)


def test_every_truncation_is_found(saved: Path) -> None:
    data = saved.read_bytes()
    for size in [*range(0, len(data), 11), len(data) - 1]:
        saved.write_bytes(data[:size])
        with pytest.raises(CheckpointError):
            checkpoint.load(saved)


def test_bytes_behind_the_end_are_found(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes() + b"\0")
    with pytest.raises(CheckpointError, match="its checksum is missing"):
        checkpoint.load(saved)


@pytest.mark.parametrize("value", [frozenset({1}), Path("x"), Exception], ids=["frozenset", "path", "class"])
def test_more_than_tensors_and_plain_values_is_refused_on_loading(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    with path.open("wb") as stream:
        checkpoint.write_sealed(stream, {"checkpoint_version": 1, "x": value})
    with pytest.raises(CheckpointError, match="refused, it holds more than tensors and plain values"):
        checkpoint.load(path)


def test_a_checkpoint_that_cannot_be_written_keeps_the_old_one(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(RunError, match="no space left on the device"):
            checkpoint.save(saved, {"epoch": 5})
    assert checkpoint.load(saved)["epoch"] == 4
    assert list(saved.parent.iterdir()) == [saved]


def test_a_write_that_fails_in_the_middle_keeps_the_old_one(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails inside of torch's writer, which is C++: the message is that of the file, not one of torch's."""

    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            if self.tell() > 100:
                raise OSError(28, "No space left on device")
            return super().write(data)

    with monkeypatch.context() as patch:
        patch.setattr("drcli.files._opened_anew", lambda path: Full())
        with pytest.raises(RunError, match="no space left on the device"):
            checkpoint.save(saved, {"epoch": 5, "w": torch.zeros(1000)})
    assert checkpoint.load(saved)["epoch"] == 4
    assert list(saved.parent.iterdir()) == [saved]


def test_ctrl_c_in_the_middle_of_a_write_stops_it(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(io.BytesIO):
        def write(self, data: Any) -> int:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("drcli.files._opened_anew", lambda path: Stopped())
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(saved, {"epoch": 5})
    assert checkpoint.load(saved)["epoch"] == 4


@pytest.mark.parametrize("sizes", [(5, 1, 1, 2), (1, 1, 1, 30), (2,), (4, 0, 2), (3, 1)], ids=str)
def test_the_seal_does_not_depend_on_the_pieces_that_are_written(sizes: tuple[int, ...]) -> None:
    data, stream = bytes(range(sum(sizes) - 2)) + b"\0\0", io.BytesIO()
    sealing, start = checkpoint.Sealing(stream), 0
    for size in sizes:
        assert sealing.write(memoryview(data)[start : start + size]) == size
        start += size
    sealing.seal()
    body, comment = stream.getvalue()[:-77], stream.getvalue()[-77:]
    assert body == data[:-2] + b"\x4d\x00"
    assert comment == b"drcli-sha256:" + hashlib.sha256(body).hexdigest().encode()


def test_a_bad_checkpoint_is_unreadable_data() -> None:
    assert issubclass(CheckpointError, DataError)
    assert CheckpointError.exit_code == 3


def test_a_saver_writes_what_was_true_when_it_was_asked(tmp_path: Path) -> None:
    """The state goes on changing while it is written."""
    saver, weight = checkpoint.Saver(), torch.zeros(3)
    for epoch in range(5):
        weight += 1
        saver.save(tmp_path / f"{epoch}.pt", {"epoch": epoch, "nested": [{"weight": weight}]})
    weight += 100
    saver.flush()
    for epoch in range(5):
        state = checkpoint.load(tmp_path / f"{epoch}.pt")
        assert state["nested"][0]["weight"].tolist() == [epoch + 1.0] * 3


def test_after_a_save_that_failed_nothing_more_is_written(tmp_path: Path) -> None:
    """Else `last.pt` could speak of an epoch that `checkpoint.pt` does not hold."""
    saver = checkpoint.Saver()
    saver.save(tmp_path / "one.pt", {"epoch": 0})
    saver.save(tmp_path / "missing" / "two.pt", {"epoch": 1})
    with suppress(RunError):  # it may be known already, or not yet
        saver.save(tmp_path / "one.pt", {"epoch": 2})
    for later in (saver.flush, lambda: saver.save(tmp_path / "one.pt", {"epoch": 3}), saver.flush):
        with pytest.raises(RunError, match=r"missing/two.pt: cannot be written"):
            later()
    assert checkpoint.load(tmp_path / "one.pt")["epoch"] == 0

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
    path, buffer = tmp_path / "checkpoint.pt", io.BytesIO()
    torch.save({"checkpoint_version": 1, "x": value}, buffer)
    path.write_bytes(b"".join(checkpoint._sealed(buffer.getbuffer())))
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


@pytest.mark.parametrize("failure", [None, RunError("the disk is full")], ids=["written", "failed"])
def test_no_view_of_the_buffer_outlives_a_save(
    failure: RunError | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view in the traceback of a failed save could not be collected together with its buffer."""
    kept: list[memoryview] = []

    def write(path: Path, archive: memoryview, seal: bytes, follow: bool) -> None:
        kept.append(archive)
        assert len(archive) > len(seal)
        if failure is not None:
            raise failure

    monkeypatch.setattr(checkpoint, "write_atomic", write)
    with suppress(RunError):
        checkpoint.save(tmp_path / "last.pt", STATE)
    with pytest.raises(ValueError, match="released memoryview"):
        kept[0].tobytes()


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

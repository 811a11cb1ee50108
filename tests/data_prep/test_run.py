"""`Preparer.run`: whole or nothing, idempotent, and what it refuses."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from data_prep.digits import Digits
from drcli.data.format import DatasetInfo, read_info
from drcli.errors import DataError, DrcliError, RunError, UsageError
from drcli.names import DATASETS


def prepare(out: Path, settings: Digits.Settings | None = None, **options: Any) -> DatasetInfo:
    return Digits(settings or Digits.Settings()).run(source=None, out=out, limit=40, **options)


def fail_with(error: BaseException) -> Any:
    def fail(*_: object) -> None:
        raise error

    return fail


def test_a_finished_dataset_is_returned_untouched(tmp_path: Path) -> None:
    out = tmp_path / "digits"
    first = prepare(out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert prepare(out) == first
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_an_empty_folder_and_missing_parents_are_fine(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    prepare(tmp_path / "empty")
    prepare(tmp_path / "a" / "b" / "digits")
    assert read_info(tmp_path / "empty") == read_info(tmp_path / "a" / "b" / "digits")


def test_another_dataset_is_refused_with_each_difference(tmp_path: Path) -> None:
    out = tmp_path / "digits"
    prepare(out)
    with pytest.raises(DataError) as caught:
        Digits(Digits.Settings(image_noise=0.3, seed=4)).run(source=None, out=out)
    assert str(caught.value) == (
        f"{out}: holds another prepared dataset (image_noise: 0.5 in the folder, 0.3 requested; "
        "seed: 0 in the folder, 4 requested; --limit: 40 in the folder, null requested); "
        "choose another --out (and dataset.root), or replace it with --fresh"
    )


def test_fresh_replaces_another_dataset(tmp_path: Path) -> None:
    out = tmp_path / "digits"
    prepare(out)
    info = prepare(out, Digits.Settings(image_noise=0.3), fresh=True)
    assert read_info(out) == info
    assert info.settings["image_noise"] == 0.3
    assert list(tmp_path.iterdir()) == [out]


def test_a_damaged_dataset_is_reported_not_returned(tmp_path: Path) -> None:
    out = tmp_path / "digits"
    prepare(out)
    os.truncate(out / "val" / "audio.npy", 1000)
    with pytest.raises(DataError, match=r"val/audio.npy was truncated or altered.*--fresh"):
        prepare(out)
    prepare(out, fresh=True)
    prepare(out)


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("names", [["thesis.tex"], ["dataset.json", "thesis.tex"], ["train", "val"]])
def test_a_folder_of_something_else_is_never_overwritten(tmp_path: Path, fresh: bool, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"holds '(thesis.tex|train)', which is not part of a prepared dataset"):
        prepare(tmp_path, fresh=fresh)
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_a_file_in_the_place_of_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="file: is a file; --out must name a folder"):
        prepare(tmp_path / "file")
    with pytest.raises(UsageError, match="cannot be written"):
        prepare(tmp_path / "file" / "below")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("boom")])
def test_an_interruption_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        prepare(tmp_path / "digits", progress=fail_with(error))
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_keeps_the_dataset_that_was_there(tmp_path: Path) -> None:
    out = tmp_path / "digits"
    before = prepare(out)
    with pytest.raises(KeyboardInterrupt):
        prepare(out, Digits.Settings(seed=1), fresh=True, progress=fail_with(KeyboardInterrupt()))
    assert prepare(out) == before


def test_a_killed_preparation_can_be_repeated(tmp_path: Path) -> None:
    out = tmp_path / "digits"
    program = (
        "import time; from pathlib import Path; \n"
        "from data_prep.digits import Digits\n"
        f"Digits(Digits.Settings()).run(source=None, out=Path({str(out)!r}), limit=40,\n"
        "         progress=lambda *_: time.sleep(60))"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    partial = tmp_path / f"digits.partial-{process.pid}"
    while not (partial / "train" / "visual.npy").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert partial.exists()
    assert not out.exists()
    prepare(out)
    assert list(tmp_path.iterdir()) == [out]


def test_the_partial_folder_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    partial = tmp_path / "digits.partial-1"
    partial.mkdir()
    (tmp_path / "digits.partial-notes").mkdir()
    descriptor = os.open(partial, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    prepare(tmp_path / "digits")
    assert partial.exists()
    os.close(descriptor)
    prepare(tmp_path / "digits", fresh=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits", "digits.partial-notes"]


def test_a_faster_process_wins_and_its_dataset_is_used(tmp_path: Path) -> None:
    out = tmp_path / "digits"

    def race(*_: object) -> None:
        if not out.exists():
            prepare(tmp_path / "elsewhere")
            (tmp_path / "elsewhere").rename(out)

    info = prepare(out, progress=race)
    assert read_info(out) == info
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (errno.ENOSPC, RunError, "the disk is full; free some space or choose another --out"),
        (errno.EDQUOT, RunError, "the disk is full"),
        (errno.EACCES, UsageError, r"cannot be written \(Permission denied\); choose another --out"),
        (errno.EROFS, UsageError, "cannot be written"),
        (errno.EIO, RunError, "could not be prepared"),
    ],
)
def test_what_the_disk_refuses_becomes_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[DrcliError], message: str
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", fail_with(OSError(number, os.strerror(number))))
    with pytest.raises(kind, match=f"digits: {message}"):
        prepare(tmp_path / "digits")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_parent_without_write_permission_is_a_usage_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match=r"cannot be written \(Permission denied\)"):
        prepare(tmp_path / "digits")


def test_a_limit_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--limit is 0; it must be at least 1"):
        Digits(Digits.Settings()).run(source=None, out=tmp_path / "d", limit=0)


def test_only_digits_is_made_without_a_download_and_every_preparer_knows_its_name() -> None:
    found = {name: DATASETS.load(name) for name in DATASETS.names()}
    assert {name for name, preparer in found.items() if not preparer.needs_source} == {"digits"}
    assert {name for name, preparer in found.items() if preparer.name != name} == set()

"""Files that are whole or not there, logs that survive a kill, and locks."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drcli.checkpoint import Saver
from drcli.errors import RunError, UsageError
from drcli.files import (
    append_json_line,
    locked,
    make_folder,
    reason,
    write_atomic,
    write_json,
)
from drcli.reading import read_json_lines


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_write_atomic_replaces_the_contents_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_contents(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os if call == "fsync" else Path, call, no_space)
        with pytest.raises(RunError) as caught:
            write_atomic(path, b"new")
    assert str(caught.value) == (
        f"{path}: cannot be written (no space left on the device: free some and repeat the command, "
        "which resumes); what was there before is untouched"
    )
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"


def test_ctrl_c_while_writing_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["missing/file", "in the way/file"])
def test_a_folder_that_is_none_is_an_error_of_one_message(place: str, tmp_path: Path) -> None:
    (tmp_path / "in the way").write_text("a file")
    with pytest.raises(RunError, match="cannot be written"):
        write_atomic(tmp_path / place, b"new")


def test_what_a_link_leads_to_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    target, link = tmp_path / "there" / "file", tmp_path / "link"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomic(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_bytes)
        write_atomic(pipe, b"some ", b"text")
        assert read.result(timeout=10) == b"some text"
    assert pipe.is_fifo()


def test_a_name_that_is_too_long_is_an_error_of_one_message(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be written \\(File name too long\\)"):
        write_atomic(tmp_path / ("x" * 300), b"")


def test_a_quota_reads_like_a_full_disk() -> None:
    assert reason(OSError(errno.EDQUOT, "Disk quota exceeded")) == reason(OSError(errno.ENOSPC, "full"))
    assert reason(OSError(errno.EACCES, "Permission denied")) == "Permission denied"
    assert reason(OSError("odd")) == "odd"


def test_json_keeps_the_order_of_its_keys(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"z": 1, "a": [2]})
    assert list(json.loads((tmp_path / "a.json").read_text())) == ["z", "a"]


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert read_json_lines(path, remedy="start over with --fresh", error=RunError) == []
    append_json_line(path, {"epoch": 0})
    append_json_line(path, {"epoch": 1})
    assert read_json_lines(path, remedy="start over with --fresh", error=RunError) == [{"epoch": 0}, {"epoch": 1}]
    path.write_bytes(path.read_bytes()[:-3])
    assert read_json_lines(path, remedy="start over with --fresh", error=RunError) == [{"epoch": 0}]


@pytest.mark.parametrize("content", [b'{"epoch": 0}\nnonsense\n', b"\xff\xfe\n"])
def test_a_damaged_log_is_an_error_of_one_message(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"log.jsonl: damaged .*start over with --fresh"):
        read_json_lines(path, remedy="start over with --fresh", error=RunError)


def test_a_log_that_cannot_be_written_is_an_error_of_one_message(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"missing/log.jsonl: cannot be written \(No such file"):
        append_json_line(tmp_path / "missing" / "log.jsonl", {})


def test_a_file_of_a_run_is_never_written_through_a_link(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "run" / "summary.json"
    link.parent.mkdir()
    victim.write_bytes(b"precious")
    link.symlink_to(victim)
    write_json(link, {"a": 1}, follow=False)
    assert victim.read_bytes() == b"precious"
    assert not link.is_symlink()
    assert json.loads(link.read_text()) == {"a": 1}


def test_a_pipe_among_the_files_of_a_run_is_replaced_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file")
    write_atomic(tmp_path / "file", b"new", follow=False)
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("follow", [True, False])
def test_a_link_under_the_temporary_name_is_not_written_through(follow: bool, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / f".file.{os.getpid()}.tmp").symlink_to(victim)
    write_atomic(tmp_path / "file", b"new", follow=follow)
    assert victim.read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "victim"]
    assert not (tmp_path / "file").is_symlink()


def test_a_log_that_is_a_link_or_a_pipe_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    victim, link, pipe = tmp_path / "victim", tmp_path / "metrics.jsonl", tmp_path / "pipe"
    victim.write_bytes(b"precious")
    link.symlink_to(victim)
    os.mkfifo(pipe)
    with pytest.raises(RunError, match=r"metrics.jsonl: cannot be written \(it is a link: remove it"):
        append_json_line(link, {})
    with pytest.raises(RunError, match="pipe: cannot be written"):
        append_json_line(pipe, {})
    assert victim.read_bytes() == b"precious"


def test_make_folder_makes_it_and_leaves_it_empty(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b", remedy="-")
    make_folder(tmp_path / "a" / "b", remedy="-")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_that_cannot_be_made_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"not writable \(.*\); choose another"):
        make_folder(tmp_path / "file" / "below", remedy="choose another")


HOLD = """
import sys, time
from pathlib import Path
from drcli.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_holds_against_other_processes_until_theirs_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match="another process is training here; wait for it"), locked(tmp_path):
            pass
        other.kill()
        other.wait()
    with locked(tmp_path), pytest.raises(RunError, match="another process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def refuses_to_lock(folder: Path, why: str) -> None:
    with pytest.raises(RunError, match=why), locked(folder):
        pass


def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_is_kept(tmp_path: Path) -> None:
    victim, lock = tmp_path / "victim", tmp_path / ".lock"
    victim.write_bytes(b"precious")
    lock.symlink_to(victim)
    refuses_to_lock(tmp_path, r"\.lock: cannot be opened \(it is a link: remove it, nothing is written through links\)")
    lock.unlink()
    lock.symlink_to(tmp_path / "nothing")
    refuses_to_lock(tmp_path, "it is a link")
    lock.unlink()
    os.mkfifo(lock)
    refuses_to_lock(tmp_path, r"\.lock: cannot be opened \(not a regular file\)")
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "nothing").exists()


def test_a_hard_link_under_the_name_of_the_lock_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    os.link(tmp_path / "victim", tmp_path / ".lock")
    with locked(tmp_path):
        pass
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_folder_that_is_gone_cannot_be_locked(tmp_path: Path) -> None:
    refuses_to_lock(tmp_path / "none", r"\.lock: cannot be opened \(No such file or directory\)")


def test_a_lock_knows_when_its_folder_was_begun_again(tmp_path: Path) -> None:
    """Two processes: the folder of the first, which is stopped, is deleted and locked by the second."""
    folder = tmp_path / "run"
    folder.mkdir()
    with locked(folder) as first:
        first.check()
        shutil.rmtree(folder)
        assert not first.is_held()
        folder.mkdir()
        with locked(folder) as second:
            second.check()
            with pytest.raises(RunError, match=f"^{folder}: deleted, or begun again by another process, while this"):
                first.check()
        with pytest.raises(RunError, match="begun again"):
            first.check()


def test_a_saver_writes_nothing_once_the_folder_is_another_process_s(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with locked(folder) as lock:
        saver = Saver(lock.check)
        saver.save(folder / "a.pt", {"epoch": 0})
        saver.flush()
        shutil.rmtree(folder)
        folder.mkdir()
        saver.save(folder / "b.pt", {"epoch": 1})
        with pytest.raises(RunError, match="begun again by another process"):
            saver.flush()
    assert list(folder.iterdir()) == []

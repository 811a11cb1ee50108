from __future__ import annotations

import importlib
import itertools
import json
import random
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.command_line import start, tree
from support.many import Source, make_source

from data_prep.writing.journal import Entry, Journal
from drcli.data.format import DatasetInfo
from drcli.data.prepared import open_dataset
from drcli.errors import DataError, RunError, UsageError
from drcli.names import DATASETS

PROGRAM = """
import sys
from pathlib import Path
from drcli.names import DATASETS
from support.many import Source

if __name__ == "__main__":
    with DATASETS.registered("many", "support.many:Many"):
        Source(Path(sys.argv[1])).prepare(Path(sys.argv[2]), max_bad=0.5, workers=int(sys.argv[3]))
"""


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with DATASETS.registered("many", "support.many:Many"):
        yield


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return make_source(tmp_path / "source")


def rows(out: Path, split: str) -> dict[str, float]:
    names = (out / split / "ids.txt").read_text().split()
    return dict(zip(names, np.load(out / split / "audio.npy")[:, 0, 0, 0].tolist(), strict=True))


def test_every_clip_has_its_own_row(source: Source, tmp_path: Path) -> None:
    info = source.prepare(tmp_path / "out")
    assert info.rows == {"train": 12, "val": 4, "test": 4}
    assert rows(tmp_path / "out", "val") == {"c03": 3.0, "c08": 8.125, "c13": 13.0, "c18": 18.125}
    assert info.source["clips"] == 20
    assert info.source["bad_packets"] == {"c07": 1}
    open_dataset(tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"source", "out"}


def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", broken="c00 c13")
    source.prepare(tmp_path / "one", max_bad=0.1)
    source.prepare(tmp_path / "two", max_bad=0.1, workers=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


@pytest.mark.parametrize("broken", ["c00", "c17", "c00 c01 c02", "c00 c10 c15 c17", "c15 c16 c17"])
def test_the_last_rows_take_the_places_of_skipped_clips(tmp_path: Path, broken: str) -> None:
    source = make_source(tmp_path / "source", broken=broken)
    lines: list[str] = []
    info = source.prepare(tmp_path / "out", max_bad=0.2, warn=lines.append)
    stored = rows(tmp_path / "out", "train")
    left = {f"c{i:02d}" for i in range(20) if i % 5 < 3} - set(broken.split())
    assert stored == {name: int(name[1:]) + int(name[1:]) // 5 % 2 / 8 for name in stored}
    assert set(stored) == left
    assert info.rows["train"] == len(left) == len(np.load(tmp_path / "out" / "train" / "labels.npy"))
    assert [clip["id"] for clip in info.source["skipped"]] == broken.split()
    assert lines[0] == f"skipped {broken[:3]}: corrupt (torn)"
    open_dataset(tmp_path / "out")


def test_arrays_of_a_dataset_with_skipped_clips_are_those_of_one_without_them(tmp_path: Path) -> None:
    make_source(tmp_path / "source", count=20, broken="c15 c16 c17 c18 c19").prepare(tmp_path / "skipped", max_bad=0.5)
    make_source(tmp_path / "source", count=15).prepare(tmp_path / "fewer")
    first, second = tree(tmp_path / "skipped"), tree(tmp_path / "fewer")
    first.pop("dataset.json"), second.pop("dataset.json")
    assert first == second


def test_more_bad_clips_than_allowed_stop_the_work(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", broken="c04 c05 c06")
    with pytest.raises(DataError, match=r"2 of 20 clips .*5 % of --max-bad.*c0\d: corrupt \(torn\).*larger --max-bad"):
        source.prepare(tmp_path / "out", max_bad=0.05)
    assert not (tmp_path / "out").exists()


def test_a_larger_limit_goes_on_where_the_smaller_one_stopped(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", broken="c04 c09")
    with pytest.raises(DataError, match="--max-bad"):
        source.prepare(tmp_path / "out")
    before = source.calls()
    info = source.prepare(tmp_path / "out", max_bad=0.1)
    again = source.calls()
    assert set(before) & set(again) <= {"c04", "c09"}
    assert len(set(before) | set(again)) == 20
    assert info.source["clips"] == 18


def test_clips_known_to_be_broken_do_not_count(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", broken="c03")
    info = source.prepare(tmp_path / "out", max_bad=0.0)
    assert [clip["id"] for clip in info.source["skipped"]] == ["c03"]


def test_at_most_twenty_skipped_clips_are_warned_of_each(tmp_path: Path) -> None:
    broken = " ".join(f"c{i:02d}" for i in range(20, 45))
    lines: list[str] = []
    make_source(tmp_path / "source", count=45, broken=broken).prepare(tmp_path / "out", max_bad=1.0, warn=lines.append)
    skipped = [line for line in lines if line.startswith("skipped")]
    assert len(skipped) == 21
    assert skipped[-1].startswith("skipped 5 more clips")


def test_a_class_lost_to_skipped_clips_is_an_error(tmp_path: Path) -> None:
    broken = "c05 c06 c07 c15 c16 c17"
    source = make_source(tmp_path / "source", broken=broken)
    with pytest.raises(DataError, match="class b would be absent from train"):
        source.prepare(tmp_path / "out", max_bad=1.0)


def test_an_error_leaves_what_was_done_and_the_next_run_goes_on(tmp_path: Path) -> None:
    make_source(tmp_path / "source", count=20).prepare(tmp_path / "undisturbed")
    source = make_source(tmp_path / "source", deadly="c12")
    source.calls()
    with pytest.raises(RunError, match="disk gone"):
        source.prepare(tmp_path / "out")
    done = source.calls()
    lines: list[str] = []
    make_source(tmp_path / "source").prepare(tmp_path / "out", warn=lines.append)
    assert not set(done) - {"c12"} & set(source.calls())
    assert lines[0] == f"resuming after {len(done) - 1} of 20 clips that an earlier run prepared"
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_clip_only(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", deadly="c07 c18")
    lines: list[str] = []
    info = source.prepare(tmp_path / "out", workers=2, max_bad=0.1, warn=lines.append)
    detail = "its process was ended by signal 9 (Killed): out of memory, or a decoder that crashed"
    left = {"id": "c07", "reason": "worker died", "detail": detail}
    assert info.source["skipped"] == [left, {**left, "id": "c18"}]
    assert info.source["clips"] == 18
    assert lines[0] == f"skipped c07: worker died ({detail})"
    make_source(tmp_path / "source", broken="c07 c18").prepare(tmp_path / "torn", max_bad=0.1)
    same, torn = tree(tmp_path / "out"), tree(tmp_path / "torn")
    same.pop("dataset.json"), torn.pop("dataset.json")
    assert same == torn


@pytest.mark.slow
def test_workers_that_die_too_often_stop_the_work(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", count=10, deadly="c07")
    with pytest.raises(DataError, match=r"1 of 10 clips cannot be used.*c07: worker died .*--max-bad"):
        source.prepare(tmp_path / "out", workers=2)
    assert (tmp_path / "out.partial").is_dir()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_unexpected_error_costs_its_clip_and_is_reported_with_its_place(tmp_path: Path, workers: int) -> None:
    source = make_source(tmp_path / "source", faulty="c04")
    info = source.prepare(tmp_path / "out", workers=workers, max_bad=0.05)
    (skipped,) = info.source["skipped"]
    assert (skipped["id"], skipped["reason"]) == ("c04", "unexpected error")
    assert re.fullmatch(r"IndexError: list index out of range, in many\.py, line \d+", skipped["detail"])
    with pytest.raises(DataError, match="c04: unexpected error"):
        source.prepare(tmp_path / "none", workers=workers)


@pytest.mark.parametrize("workers", [1, 2])
def test_findings_of_stored_clips_are_listed_and_warned_of(tmp_path: Path, workers: int) -> None:
    source = make_source(tmp_path / "source")
    lines: list[str] = []
    info = source.prepare(tmp_path / "out", workers=workers, warn=lines.append)
    assert info.source["findings"] == {"odd": {"c01": 2, "c08": 2}}
    assert lines[-1] == "odd: 2 of 20 stored clips (c01, c08); listed under `source` in dataset.json"


def test_other_settings_begin_anew(source: Source, tmp_path: Path) -> None:
    make_source(source.folder, deadly="c12")
    with pytest.raises(RunError):
        source.prepare(tmp_path / "out")
    make_source(source.folder)
    source.calls()
    lines: list[str] = []
    info = source.prepare(tmp_path / "out", seed=1, warn=lines.append)
    assert len(source.calls()) == 20
    assert "starts from the beginning" in lines[0]
    assert info.settings == {"seed": 1}


def test_two_at_a_time_are_refused(source: Source, tmp_path: Path) -> None:
    make_source(source.folder, seconds=0.3)
    other = start(source.folder, tmp_path / "out", 1, program=PROGRAM)
    try:
        wait_for(source.folder / "calls", other)
        with pytest.raises(UsageError, match="another drcli is preparing it"):
            source.prepare(tmp_path / "out")
    finally:
        other.kill()
        other.communicate()


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while process.poll() is None and not path.exists():
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_preparation_killed_at_random_and_repeated_gives_the_same_bytes(tmp_path: Path, workers: int) -> None:
    source = make_source(tmp_path / "source", broken="c02 c09", seconds=0.0)
    source.prepare(tmp_path / "undisturbed", max_bad=0.5)
    make_source(tmp_path / "source", broken="c02 c09", seconds=0.15)
    delays = random.Random(workers)
    for _ in range(2):
        (source.folder / "calls").unlink(missing_ok=True)
        process = start(source.folder, tmp_path / "out", workers, program=PROGRAM)
        wait_for(source.folder / "calls", process)
        time.sleep(delays.uniform(0, 1.2))
        process.kill()
        process.communicate()
    make_source(tmp_path / "source", broken="c02 c09", seconds=0.0)
    source.prepare(tmp_path / "out", max_bad=0.5)
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")
    assert not (tmp_path / "out.partial").exists()


STEPS = [
    "data_prep.writing.rows.allocate_rows",
    "data_prep.writing.journal.Journal.append",
    "data_prep.writing.rows._shorten",
    "data_prep.writing.clips.adopt",
    "data_prep.writing.writer.DatasetWriter.finish",
    "data_prep.base.publish",
]


# Skipped clips are tried once more, until rows have begun to move.
WORK_LEFT = {(STEPS[0], "before"): 20, (STEPS[0], "after"): 20, (STEPS[1], "before"): 20, (STEPS[1], "after"): 2}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_stopped_around_any_step_the_next_run_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, when: str
) -> None:
    source = make_source(tmp_path / "source", broken="c02 c09")
    source.prepare(tmp_path / "undisturbed", max_bad=0.5)
    with monkeypatch.context() as patched:
        stop_at(patched, step, when, nth=2 if step.endswith(("adopt", "_shorten")) else 1)
        with pytest.raises(KeyboardInterrupt):
            source.prepare(tmp_path / "out", max_bad=0.5)
    source.calls()
    info = source.prepare(tmp_path / "out", max_bad=0.5)
    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")
    assert info.source["clips"] == 18
    assert len(source.calls()) == WORK_LEFT.get((step, when), 0)
    assert not (tmp_path / "out.partial").exists()


def stop_at(patched: pytest.MonkeyPatch, step: str, when: str, *, nth: int) -> None:
    """Let the nth call of a function raise KeyboardInterrupt before or after it did its work."""
    place, name = step.rsplit(".", 1)
    try:
        owner = importlib.import_module(place)
    except ModuleNotFoundError:
        module, cls = place.rsplit(".", 1)
        owner = getattr(importlib.import_module(module), cls)
    if step == "data_prep.writing.rows.allocate_rows":
        owner = importlib.import_module("data_prep.writing.clips")
    original, calls = getattr(owner, name), itertools.count(1)

    def stopping(*args: object, **kwargs: object) -> object:
        number = next(calls)
        if number == nth and when == "before":
            raise KeyboardInterrupt
        result = original(*args, **kwargs)
        if number == nth:
            raise KeyboardInterrupt
        return result

    patched.setattr(owner, name, stopping)


def test_a_journal_line_that_a_kill_cut_off_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, "x")
    journal.start()
    journal.append([Entry("a"), Entry("b", reason="corrupt", detail="torn")])
    with path.open("a") as stream:
        stream.write('{"id": "c", "bad_pa')
    again = Journal(path, "x")
    assert list(again.entries) == ["a", "b"]
    again.append([Entry("d", bad_packets=2)])
    assert [json.loads(line).get("id") for line in path.read_text().splitlines()] == [None, "a", "b", "d"]
    assert Journal(path, "x").entries["d"].bad_packets == 2
    assert Journal(path, "y").entries == {}
    path.write_text(path.read_text().replace('"a"', "a"))
    assert Journal(path, "x").entries == {}


def test_rows_that_were_removed_are_made_again(source: Source, tmp_path: Path) -> None:
    info: DatasetInfo = source.prepare(tmp_path / "undisturbed")
    make_source(source.folder, deadly="c12")
    with pytest.raises(RunError):
        source.prepare(tmp_path / "out")
    shutil.rmtree(tmp_path / "out.partial" / "rows" / "val")
    make_source(source.folder)
    assert source.prepare(tmp_path / "out").sha256 == info.sha256

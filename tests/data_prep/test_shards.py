from __future__ import annotations

import random
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.command_line import start, tree
from support.many import make_source

from data_prep.writing import allocation
from data_prep.writing.shards import Shard, find_shards
from drcli.errors import DataError, UsageError
from drcli.names import DATASETS

PROGRAM = """
import os
import sys
from pathlib import Path
from data_prep.writing import allocation
from drcli.names import DATASETS
from support.many import Source

allocation.LARGEST_FILE = int(os.environ.get("LARGEST_FILE", allocation.LARGEST_FILE))

if __name__ == "__main__":
    with DATASETS.registered("many", "support.many:Many"):
        source, out = Source(Path(sys.argv[1])), Path(sys.argv[2])
        if sys.argv[3] == "merge":
            source.merge(out, max_bad=0.5)
        else:
            source.shard(out, sys.argv[3], max_bad=0.5)
"""


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with DATASETS.registered("many", "support.many:Many"):
        yield


@pytest.fixture(params=[4 * 10**9, 100], ids=["one file", "files of 4 rows"])
def _files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How large a file of an array may be, here and in `PROGRAM`."""
    monkeypatch.setattr(allocation, "LARGEST_FILE", request.param)
    monkeypatch.setenv("LARGEST_FILE", str(request.param))


@pytest.mark.parametrize("count", [1, 3, 4])
def test_any_number_of_shards_in_any_order_gives_the_bytes_of_one_process(tmp_path: Path, count: int) -> None:
    source = make_source(tmp_path / "source", broken="c00 c13 c19")
    source.prepare(tmp_path / "whole", max_bad=0.5)
    source.calls()
    for index in range(count, 0, -1):
        report = source.shard(tmp_path / "out", f"{index}/{count}", max_bad=0.5)
        assert report.done + len(report.skipped) == len(source.calls())
    source.merge(tmp_path / "out", max_bad=0.5)
    assert source.calls() == ["c00", "c13", "c19"]  # the skipped ones are tried once more
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_shard_has_every_nth_clip_of_each_split_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source")
    source.shard(tmp_path / "out", "2/4")
    # 12 clips of train, at places 0, 1 and 2 of each five; 4 of val and of test.
    assert sorted(source.calls()) == ["c01", "c07", "c08", "c09", "c15"]
    source.shard(tmp_path / "out", "2/4")
    assert source.calls() == []


def test_a_missing_an_unfinished_and_another_shard_are_named(tmp_path: Path) -> None:
    source, out = make_source(tmp_path / "source"), tmp_path / "out"
    with pytest.raises(UsageError, match=r"out.shards: has no shards; prepare all of one number with --shard 1/N to"):
        source.merge(out)
    source.shard(out, "1/2")
    with pytest.raises(DataError, match=r"2-of-2: shard 2/2 is missing; run the command with --shard 2/2 first"):
        source.merge(out)
    source.shard(out, "2/2", seed=1)
    with pytest.raises(DataError, match=r"shard 2/2 was prepared with other settings, --limit or source; repeat the"):
        source.merge(out)
    source.shard(out, "2/2")
    journal = Shard(2, 2).folder(out) / "clips.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-3]))
    with pytest.raises(DataError, match=r"shard 2/2 lacks 3 of its 10 clips; repeat the command with --shard 2/2"):
        source.merge(out)
    source.shard(out, "1/3")
    with pytest.raises(UsageError, match=r"has shards of 2 and of 3; prepare all of one .* delete those of the other"):
        find_shards(out)


@pytest.mark.parametrize(
    "damage", [lambda path: path.write_bytes(path.read_bytes()[:-8]), Path.unlink], ids=["cut", "gone"]
)
def test_rows_of_a_shard_that_are_cut_off_or_gone_are_told_with_what_mends_them(
    damage: Callable[[Path], object], tmp_path: Path
) -> None:
    """The journal has the clips as done: to repeat the shard's command alone would change nothing."""
    source, out = make_source(tmp_path / "source"), tmp_path / "out"
    folder = source.halves(out)
    damage(folder / "rows" / "train" / "audio.npy")
    with pytest.raises(
        DataError, match=r"train/audio.npy: cannot be read .*; delete .*2-of-2 and repeat .* 2/2"
    ) as told:
        source.merge(out)
    assert "\n" not in str(told.value)
    shutil.rmtree(folder)
    source.shard(out, "2/2")
    source.merge(out)
    source.prepare(tmp_path / "whole")
    assert tree(out) == tree(tmp_path / "whole")


def test_more_shards_than_a_split_has_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--shard 1/5: split val has 4 clips; make 4 shards at most"):
        make_source(tmp_path / "source").shard(tmp_path / "out", "1/5")


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "1/99999", "a/b", "١/٢"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--shard is .*; write I/N, the part and their number"):
        Shard.parse(text)


@pytest.mark.slow
def test_two_processes_on_one_shard_are_refused(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", seconds=0.2)
    process = start(source.folder, tmp_path / "out", "1/2", program=PROGRAM)
    try:
        wait_for(source.folder / "calls")
        with pytest.raises(UsageError, match="another drcli is preparing it"):
            source.shard(tmp_path / "out", "1/2")
    finally:
        process.kill()
        process.communicate()


def wait_for(path: Path) -> None:
    limit = time.monotonic() + 60
    while not path.exists() and time.monotonic() < limit:
        time.sleep(0.01)
    assert path.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("_files")
def test_shards_and_their_merging_killed_at_random_and_repeated_give_the_same_bytes(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", broken="c00 c13", seconds=0.02)
    source.prepare(tmp_path / "whole", max_bad=0.5)
    out, generator = tmp_path / "out", random.Random(0)
    for part in ("1/3", "2/3", "3/3", "merge"):
        for _ in range(4):
            process = start(source.folder, out, part, program=PROGRAM)
            try:
                process.communicate(timeout=generator.uniform(0.5, 3.0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        process = start(source.folder, out, part, program=PROGRAM)
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert tree(out) == tree(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("largest", [4 * 10**9, 50_000])
def test_twenty_thousand_clips_are_prepared_in_flat_memory(
    tmp_path: Path, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allocation, "LARGEST_FILE", largest)  # 12,000 rows of 24 bytes in one file, or in 6
    source = make_source(tmp_path / "source", count=20_000)
    source.prepare(tmp_path / "whole")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for part in ("1/4", "2/4", "3/4", "4/4"):
        source.shard(tmp_path / "out", part)
    source.merge(tmp_path / "out")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KB on Linux
    assert grown < 100_000
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_source_whose_parts_are_joined_has_every_row_once(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", count=25)
    for part in ("1/2", "2/2"):
        source.shard(tmp_path / "out", part)
    source.merge(tmp_path / "out")
    audio = np.load(tmp_path / "out" / "train" / "audio.npy")[:, 0, 0, 0]
    assert audio.astype(int).tolist() == [n for n in range(25) if n % 5 < 3]

"""A preparation in several processes, on one machine or on several with one file system: parts, and how they join.

There, beside the folder `out` of the dataset::

    <out>.shards/2-of-8/identity.json   what is being prepared, as for a whole preparation
    <out>.shards/2-of-8/clips.jsonl     its journal
    <out>.shards/2-of-8/rows/           memory maps of its own clips, so that no two processes write to one file

Of each split, clip k belongs to shard k modulo n, so that the shards take equally long. Joined, the rows and the
journal are those of one process that has done all clips.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.writing.clips import JOURNAL, ROWS, plan_of, work_digest
from data_prep.writing.journal import Entry, Journal
from data_prep.writing.rows import ArraySpec, allocate_rows, load_rows, open_map, sync_rows
from data_prep.writing.workers import Clip
from drcli.data.parts import Stored, rows_of_files
from drcli.errors import DataError, UsageError

MOST_SHARDS = 10_000
_BLOCK = 2**26  # bytes that are copied together


@dataclass(frozen=True)
class Shard:
    """Part `index`, from 1, of `count` parts."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "2/8".

        Raises:
            UsageError: it is not such a text.
        """
        match = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text.strip(), re.ASCII)
        if match is None or not 1 <= int(match[1]) <= int(match[2]) <= MOST_SHARDS:
            raise UsageError(f"--shard is {text!r}; write I/N, the part and their number, from 1/N to N/N")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def folder(self, out: Path) -> Path:
        """Where it works."""
        return shards_folder(out) / f"{self.index}-of-{self.count}"

    def of(self, clips: Sequence[Clip]) -> list[Clip]:
        """Its clips, in their order.

        Raises:
            UsageError: a split has fewer clips than there are shards.
        """
        members = plan_of(clips, {}).members
        for split, indices in members.items():
            if len(indices) < self.count:
                raise UsageError(
                    f"--shard {self}: split {split} has {len(indices)} clips; make {len(indices)} shards at most"
                )
        chosen = {i for indices in members.values() for i in indices[self.index - 1 :: self.count]}
        return [clip for i, clip in enumerate(clips) if i in chosen]


def shards_folder(out: Path) -> Path:
    """The folder of all shards of a dataset."""
    return out.with_name(f"{out.name}.shards")


def counts_begun(out: Path) -> set[int]:
    """The numbers of shards of which some were begun."""
    folder = shards_folder(out)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return {int(match[1]) for name in names if (match := re.fullmatch(r"\d+-of-(\d+)", name, re.ASCII))}


def find_shards(out: Path) -> list[Shard]:
    """All shards of the number that was begun.

    Raises:
        UsageError: none was begun, or some of one number and some of another.
    """
    folder, counts = shards_folder(out), counts_begun(out)
    if len(counts) != 1:
        what = f"has shards of {' and of '.join(map(str, sorted(counts)))}" if counts else "has no shards"
        left = "; delete those of the other" if counts else ""
        raise UsageError(f"{folder}: {what}; prepare all of one number with --shard 1/N to N/N, then --merge{left}")
    (count,) = counts
    return [Shard(index, count) for index in range(1, count + 1)]


def join_shards(out: Path, clips: Sequence[Clip], specs: Mapping[str, ArraySpec], folder: Path, identity: str) -> None:
    """Make the rows and the journal of a whole preparation from those of its shards; what is there already stays.

    Args:
        out: folder of the dataset.
        clips: all of them.
        specs: what is stored, by modality.
        folder: scratch folder of the whole preparation.
        identity: text of the file identity.json that each shard must have.

    Raises:
        UsageError: there are no shards.
        DataError: one is missing, of other settings, or not finished.
    """
    journal = Journal(folder / JOURNAL, work_digest(clips, specs))
    if journal.entries.keys() >= {clip.id for clip in clips}:
        return  # joined by a command that was killed later
    shards = find_shards(out)
    entries = [entry for shard in shards for entry in _entries(shard, out, clips, specs, identity)]
    plan = plan_of(clips, specs)
    journal.start()
    allocate_rows(folder / ROWS, plan)
    for shard in shards:
        own = plan_of(shard.of(clips), specs)
        for split, modality in plan.maps():
            sizes = rows_of_files(len(own.members[split]), specs[modality].file_rows)
            paths = own.paths(shard.folder(out) / ROWS, split, modality)
            _copy_rows(shard, dict(zip(paths, sizes, strict=True)), open_map(folder / ROWS, plan, split, modality))
    sync_rows(folder / ROWS, plan)
    journal.append(entries)


def _entries(
    shard: Shard, out: Path, clips: Sequence[Clip], specs: Mapping[str, ArraySpec], identity: str
) -> list[Entry]:
    """The outcome of each clip of a shard."""
    folder, own = shard.folder(out), shard.of(clips)
    if not (folder / "identity.json").is_file():
        raise DataError(f"{folder}: shard {shard} is missing; run the command with --shard {shard} first")
    if (folder / "identity.json").read_text(encoding="utf-8", errors="replace") != identity:
        raise DataError(
            f"{folder}: shard {shard} was prepared with other settings, --limit or source; repeat the command with "
            f"--shard {shard}"
        )
    found = Journal(folder / JOURNAL, work_digest(own, specs)).entries
    lacking = sum(clip.id not in found for clip in own)
    if lacking:
        raise DataError(
            f"{folder}: shard {shard} lacks {lacking} of its {len(own)} clips; repeat the command with --shard {shard}"
        )
    return [found[clip.id] for clip in own]


def _copy_rows(shard: Shard, files: Mapping[Path, int], target: Stored) -> None:
    """Copy the rows of a shard to their places, some at a time.

    Args:
        shard: whose rows.
        files: in order the files of an array, and how many rows each has.
        target: the array of all shards.
    """
    places, done = range(shard.index - 1, len(target), shard.count), 0
    for path, size in files.items():
        # The journal has its clips as done, so that the folder must go before the shard is prepared anew.
        rows = load_rows(path, target.shape[1:], target.dtype, size, repeated=f" with --shard {shard}")
        step = max(1, _BLOCK // max(1, rows[:1].nbytes))
        for start in range(0, size, step):
            own = places[done + start : done + min(start + step, size)]
            target[own.start : own.stop : own.step] = rows[start : start + step]
        done += size

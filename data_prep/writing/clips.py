"""Many clips to arrays: worker processes, a journal to resume from, a report of what was skipped.

Every clip has a row of its own in memory maps that are allocated first, so that neither the number of
workers nor the order in which they finish shows in the result. At the end the rows of skipped clips
are filled with the last rows of their split, which takes no second copy of the arrays.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.job import Job, ignore
from data_prep.media.container import extra
from data_prep.writing.journal import Entry, Journal
from data_prep.writing.rows import (
    ArraySpec,
    Plan,
    adopt,
    allocate_rows,
    compact,
    is_sealed,
    return_rows,
    rows_are_there,
    seal,
    sync_rows,
)
from data_prep.writing.splits import check_classes
from data_prep.writing.workers import Clip, Outcome, Task, Work, in_processes, in_this_process
from data_prep.writing.writer import DatasetWriter
from drcli.amounts import counted, in_bytes
from drcli.data.format import DECODING, SPLITS
from drcli.errors import DataError

__all__ = ["ArraySpec", "Clip", "Outcome", "Report", "Skipped", "Work", "work_clips", "write_clips"]

JOURNAL = "clips.jsonl"
ROWS = "rows"
SHOWN = 20  # skipped clips that get a warning each
_BATCH = 64  # clips, or
_SECONDS = 2.0  # seconds, from one entry in the journal to the next


@dataclass(frozen=True)
class Skipped:
    """A clip that is not in the dataset, and why."""

    id: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Report:
    """The outcome of all clips.

    Attributes:
        done: clips that are stored.
        skipped: the others, in the order of the clips.
        bad_packets: bad packets of stored clips that have some, by id.
        findings: how often each finding was made in a stored clip, by finding and id.
    """

    done: int
    skipped: tuple[Skipped, ...] = ()
    bad_packets: Mapping[str, int] = field(default_factory=dict)
    findings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def source(self) -> dict[str, Any]:
        """The part of `source` in dataset.json that is about clips."""
        return {
            "clips": self.done,
            "skipped": [asdict(clip) for clip in self.skipped],
            "bad_packets": dict(self.bad_packets),
            "findings": {name: dict(clips) for name, clips in self.findings.items()},
        }


def write_clips(
    job: Job,
    clips: Sequence[Clip],
    work: Work,
    specs: Mapping[str, ArraySpec],
    *,
    name: str,
    classes: tuple[str, ...],
    exempt: Collection[str] = (),
) -> tuple[DatasetWriter, Report]:
    """Work on all clips and lay their rows out as a dataset that lacks only its `dataset.json`.

    Args:
        job: where to, with how many workers, and how many clips may fail.
        clips: in the order of the rows.
        work: makes the rows of a clip.
        specs: what is stored, by modality.
        name: of the dataset.
        classes: class names in index order.
        exempt: ids of clips that are known to be broken: they do not count against `job.max_bad`.

    Returns:
        The writer, to be finished, and the report; the skipped clips have been warned of.

    Raises:
        DataError: more clips than `job.max_bad` were skipped, or a class is left without any.
    """
    assert job.scratch is not None, "the preparer must be resumable"
    rows = job.scratch / ROWS
    plan = plan_of(clips, specs)
    labels = np.array([clip.label for clip in clips], np.int64)
    check_classes({split: np.array(members) for split, members in plan.members.items()}, labels, classes, ignore)
    size = len(clips) * sum(spec.nbytes for spec in specs.values())
    job.note(f"{name}: {counted(len(clips), 'clip')}, {in_bytes(size)} of arrays")
    return_rows(rows, job.out, plan)
    report = work_clips(clips, work, specs, folder=job.scratch, job=job, exempt=exempt)
    _warn_skipped(report, job.warn)
    skipped = {clip.id for clip in report.skipped}
    kept = {split: [i for i in members if clips[i].id not in skipped] for split, members in plan.members.items()}
    check_classes({split: np.array(members, np.int64) for split, members in kept.items()}, labels, classes, job.warn)
    seal(rows)
    writer = DatasetWriter(job.out, name=name, classes=classes)
    for split, members in plan.members.items():
        order = compact(rows, plan, split, [clips[i].id not in skipped for i in members])
        stored = [clips[members[row]] for row in order]
        part = writer.split(split, labels=[clip.label for clip in stored], ids=[clip.id for clip in stored])
        adopt(rows, plan, part)
    return writer, report


def work_clips(
    clips: Sequence[Clip],
    work: Work,
    specs: Mapping[str, ArraySpec],
    *,
    folder: Path,
    job: Job,
    exempt: Collection[str] = (),
) -> Report:
    """Fill `folder`/rows with the rows of all clips; those that the journal there has as stored are left.

    Clips that an earlier run skipped are tried again.

    Raises:
        DataError: more clips than `job.max_bad` were skipped.
    """
    assert len({clip.id for clip in clips}) == len(clips)
    plan = plan_of(clips, specs)
    journal = Journal(folder / JOURNAL, work_digest(clips, specs))
    if not (journal.entries and rows_are_there(folder / ROWS, plan)):
        journal.start()
        allocate_rows(folder / ROWS, plan)
    sealed = is_sealed(folder / ROWS)
    finished = {name for name, entry in journal.entries.items() if sealed or not entry.reason}
    if finished and len(finished) == len(clips):
        job.warn(f"all {counted(len(clips), 'clip')} are prepared; the dataset is put together")
    elif finished:
        job.warn(f"resuming after {len(finished)} of {len(clips)} clips that an earlier run prepared")
    tasks = [
        Task(clips[index], folder / ROWS / split, row)
        for split, members in plan.members.items()
        for row, index in enumerate(members)
        if clips[index].id not in finished
    ]
    _Run(journal, plan, folder / ROWS, job, len(clips), frozenset(exempt)).run(tasks, work)
    return _report(clips, journal)


class _Run:
    """Runs the tasks, writes the journal, and stops when too many clips are bad."""

    def __init__(self, journal: Journal, plan: Plan, rows: Path, job: Job, total: int, exempt: frozenset[str]) -> None:
        self._journal = journal
        self._plan = plan
        self._rows = rows
        self._job = job
        self._total = total
        self._exempt = exempt
        self._pending: list[Entry] = []
        self._written = time.monotonic()
        self._bad: list[Entry] = []

    def run(self, tasks: Sequence[Task], work: Work) -> None:
        """Finish all tasks; the journal has what was done, also after an error."""
        done = self._total - len(tasks)
        self._job.progress("clips", done, self._total)
        results = (
            in_this_process(tasks, work) if self._job.workers == 1 else in_processes(tasks, work, self._job.workers)
        )
        try:
            for entry in results:
                done += 1
                self._take(entry)
                self._job.progress("clips", done, self._total)
        finally:
            results.close()
            self._write()

    def _take(self, entry: Entry) -> None:
        self._pending.append(entry)
        if len(self._pending) >= _BATCH or time.monotonic() - self._written > _SECONDS:
            self._write()
        if entry.reason and entry.id not in self._exempt:
            self._bad.append(entry)
            if len(self._bad) > self._job.max_bad * self._total:
                raise DataError(_too_many(self._bad, self._job.max_bad, self._total))

    def _write(self) -> None:
        """Write rows first, then the entries that count them as done."""
        if self._pending:
            sync_rows(self._rows, self._plan)
            self._journal.append(self._pending)
        self._pending = []
        self._written = time.monotonic()


def plan_of(clips: Sequence[Clip], specs: Mapping[str, ArraySpec]) -> Plan:
    """Which rows of which maps the clips get."""
    members = {split: [i for i, clip in enumerate(clips) if clip.split == split] for split in SPLITS}
    return Plan(members, specs)


def work_digest(clips: Sequence[Clip], specs: Mapping[str, ArraySpec]) -> str:
    """Digest of all that must be equal to resume; `data_prep.base` compares the settings."""
    held = {
        "clips": [[clip.id, clip.label, clip.split] for clip in clips],
        "specs": {m: [list(spec.shape), spec.dtype] for m, spec in specs.items()},
        "av": extra("av").__version__,
        "decoding": DECODING,
    }
    if parts := plan_of(clips, specs).parts:
        held["parts"] = parts
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()


def _report(clips: Sequence[Clip], journal: Journal) -> Report:
    entries = [journal.entries[clip.id] for clip in clips]
    skipped = tuple(Skipped(entry.id, entry.reason, entry.detail) for entry in entries if entry.reason)
    stored = [entry for entry in entries if not entry.reason]
    bad_packets = {entry.id: entry.bad_packets for entry in stored if entry.bad_packets}
    names = sorted({name for entry in stored for name in entry.findings})
    findings = {n: {entry.id: entry.findings[n] for entry in stored if n in entry.findings} for n in names}
    return Report(len(stored), skipped, bad_packets, findings)


def _warn_skipped(report: Report, warn: Callable[[str], None]) -> None:
    for clip in report.skipped[:SHOWN]:
        warn(f"skipped {clip.id}: {clip.reason} ({clip.detail})")
    if len(report.skipped) > SHOWN:
        warn(f"skipped {len(report.skipped) - SHOWN} more clips; all are listed under `source` in dataset.json")
    if report.bad_packets:
        total = sum(report.bad_packets.values())
        worst = max(report.bad_packets, key=lambda name: report.bad_packets[name])
        warn(f"{total} bad packets in {len(report.bad_packets)} stored clips, most of them in {worst}")
    for name, clips in report.findings.items():
        some = ", ".join(list(clips)[:5]) + (", ..." if len(clips) > 5 else "")
        warn(f"{name}: {len(clips)} of {report.done} stored clips ({some}); listed under `source` in dataset.json")


def _too_many(bad: Sequence[Entry], max_bad: float, total: int) -> str:
    first = "; ".join(f"{entry.id}: {entry.reason} ({entry.detail})" for entry in bad[:5])
    return (
        f"{len(bad)} of {total} clips cannot be used, more than the {100 * max_bad:g} % of --max-bad: {first}; "
        "repair the download, or repeat the command with a larger --max-bad to leave such clips out"
    )

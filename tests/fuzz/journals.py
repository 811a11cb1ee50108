"""The journal of a preparation: whatever happens to it, no entry says what none said before."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from fuzz.mutation import SilentAcceptanceError, mutated, replaced
from hypothesis import strategies as st

from data_prep.writing.journal import Entry, Journal

ENTRIES = (
    Entry("1001_IEO_ANG_XX"),
    Entry("1001_IEO_DIS_XX", bad_packets=2, findings={"silent sound": 1}),
    Entry("1001_IEO_FEA_XX", reason="corrupt", detail="3 of 40 packets"),
    Entry("1001_IEO_HAP_XX", findings={"constant flow": 3, "silent sound": 1}),
)
WORK = "d" * 64


@cache
def valid() -> bytes:
    """A journal of four clips."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal", WORK)
        journal.start()
        journal.append(ENTRIES)
        return (Path(folder) / "journal").read_bytes()


@st.composite
def _shuffled(draw: st.DrawFn) -> bytes:
    """Lines left out, doubled or in another order."""
    lines = draw(replaced(valid().splitlines(keepends=True)))
    return b"".join(line for line in lines if isinstance(line, bytes))


def inputs() -> st.SearchStrategy[bytes]:
    """A damaged journal."""
    return st.one_of(mutated([valid()]), _shuffled())


def check(data: bytes, folder: Path) -> str:
    """Read it, begin anew where it counts as empty, and go on; both must be there when it is read again."""
    path = folder / "journal"
    path.write_bytes(data)
    journal = Journal(path, WORK)
    wrong = [entry for entry in journal.entries.values() if entry not in ENTRIES]
    if wrong:
        raise SilentAcceptanceError(f"{wrong[0]}")
    verdict = "accepted" if journal.entries else "refused"
    if not journal.entries:
        journal.start()
    journal.append([Entry("last")])
    assert Journal(path, WORK).entries == {**journal.entries, "last": Entry("last")}
    return verdict

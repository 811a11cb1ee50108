"""What `drcli eval` is asked for beside the scores: --subsets, --missing and --noise, of one run or of many."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from drcli.engine.conditions import StandIn, Wanted
from drcli.errors import UsageError
from drcli.registry import known
from drcli.runs.collect import RunRecord, collect, finished
from drcli.runs.directory import RunDirectory

ALL = "all"
MOST_DB = 60


@dataclass(frozen=True)
class Asked:
    """The options as they were typed.

    Attributes:
        subsets: "all", or names such as "audio,audio+visual"; None for no subset.
        missing: such as "audio=0.3".
        noise: such as "audio=20,10,0".
        absent: zero or mean.
        draws: number of draws.
    """

    subsets: str | None = None
    missing: Sequence[str] = ()
    noise: Sequence[str] = ()
    absent: str = "zero"
    draws: int = 3

    def wanted(self) -> Wanted:
        """Return the conditions.

        Raises:
            UsageError: one is not a condition; the message names the option and the value.
        """
        stand_in = next((one for one in get_args(StandIn) if one == self.absent), None)
        if stand_in is None:
            raise UsageError(f"--absent {self.absent}: must be one of {', '.join(get_args(StandIn))}")
        if stand_in != Asked.absent and self.subsets is None and not self.missing:
            raise UsageError(f"--absent {stand_in}: nothing is absent; add --subsets or --missing, or leave it out")
        if self.draws != Asked.draws and not (self.missing or self.noise):
            raise UsageError(f"--draws {self.draws}: nothing is drawn; add --missing or --noise, or leave it out")
        return Wanted(
            () if self.subsets is None else _subsets(self.subsets),
            dict(_series("--missing", self.missing, _share)),
            dict(_series("--noise", self.noise, _decibels)),
            stand_in,
            self.draws,
        )


def _subsets(text: str) -> list[tuple[str, ...]] | None:
    if text == ALL:
        return None
    found = [tuple(name.strip() for name in subset.split("+")) for subset in text.split(",")]
    for subset in found:
        if "" in subset or len(set(subset)) < len(subset):
            raise UsageError(f"--subsets {text}: must be {ALL}, or modalities joined by +, such as audio,audio+visual")
    return found


def _series(
    option: str, texts: Iterable[str], number: Callable[[str], float | None]
) -> Iterable[tuple[str, list[float]]]:
    """Yield modality and numbers of each "audio=20,10"; a later one of the same modality adds to it."""
    found: dict[str, list[float]] = {}
    for text in texts:
        modality, equals, numbers = text.partition("=")
        values = [number(part) for part in numbers.split(",")]
        if not (modality and equals) or None in values:
            raise UsageError(f"{option} {text}: {_FORMS[option]}")
        found.setdefault(modality, []).extend(value for value in values if value is not None)
    return ((m, list(dict.fromkeys(values))) for m, values in found.items())


_FORMS = {
    "--missing": "must be MODALITY=SHARE[,SHARE], shares above 0 and at most 1, such as audio=0.3",
    "--noise": f"must be MODALITY=DB[,DB], from -{MOST_DB} to {MOST_DB} dB, such as audio=20,10,0",
}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _share(text: str) -> float | None:
    value = _number(text)
    return value if 0 < value <= 1 else None


def _decibels(text: str) -> float | None:
    value = _number(text)
    return value if -MOST_DB <= value <= MOST_DB else None


def check_names(wanted: Wanted, modalities: Sequence[str]) -> None:
    """Refuse modalities that no model has, and a share that lacks the only one.

    Args:
        wanted: the conditions.
        modalities: those of the models.

    Raises:
        UsageError: there is such a name.
    """
    for m in wanted.names:
        if m not in modalities:
            raise UsageError(f"--subsets, --missing and --noise: no modality {m!a} here; {known(m, modalities)}")
    if wanted.missing and len(modalities) == 1:
        raise UsageError(f"--missing: {modalities[0]} is the only modality, so that no sample can lack it")


def runs_below(folder: Path, wanted: Wanted) -> list[RunRecord]:
    """Return the finished runs below a folder that can be in one of the conditions.

    Raises:
        UsageError: no run is finished, none has a modality that is named, or none can be in a condition.
        DataError: a file of a run is damaged.
    """
    runs = finished(collect([folder]))
    if not runs:
        raise UsageError(f"{folder}: no run is finished yet; train to the end")
    check_names(wanted, list(dict.fromkeys(m for run in runs for m in run.modalities)))
    possible = [run for run in runs if not wanted.of(run.modalities).is_empty]
    if not possible:
        raise UsageError(
            f"{folder}: none of its {len(runs)} finished runs can be in these conditions: no run has all modalities of "
            "a subset, or has one that is missing and another; name others"
        )
    return possible


def is_grid(folder: Path) -> bool:
    """Whether a folder holds runs and is none itself."""
    return folder.is_dir() and not RunDirectory(folder).exists

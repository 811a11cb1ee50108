"""The learning state of each modality over epochs: purities, their gap, and what re-learning did to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from drcli.report.drawing import Curve, Key, curve, draw_curve
from drcli.report.theme import BACKGROUND, EVENT, MUTED, RELEARNING, SPLITS, Theme
from drcli.report.wording import Methods
from drcli.runs.records import Event, LearningState, names_of

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

Events = Sequence[Sequence[Event]]
"""Lines of events.jsonl, by seed."""

MOST_TICKS = 10
MOST_LINES = 12  # re-learning events that are marked by a vertical line


@dataclass(frozen=True)
class Relearned:
    """The gap of a modality before and after one re-learning, means over the seeds that have it.

    Attributes:
        epoch: it was at the end of this epoch.
        before: gap that was found.
        after: gap that it left; None where no seed measured it.
    """

    epoch: int
    before: float
    after: float | None


@dataclass(frozen=True)
class ModalityState:
    """What diagnoses found in one modality, by method.

    Attributes:
        modality: its name.
        purities: curves of train and of validation, by split and method.
        gaps: their difference.
        strengths: of re-learning, at its events alone.
        relearned: what each event did.
        floor: gap of the same clusters under permuted labels, mean over all diagnoses; None where it was not measured.
        epochs: those with a diagnosis.
    """

    modality: str
    purities: Mapping[str, Mapping[str, Curve]]
    gaps: Mapping[str, Curve]
    strengths: Mapping[str, Curve]
    relearned: Mapping[str, Sequence[Relearned]]
    floor: float | None
    epochs: Sequence[int]


def read_events(methods: Methods) -> dict[str, Events]:
    """Return the diagnoses by method, of those that had one."""
    found = {name: [run.events() for run in runs] for name, runs in methods.items()}
    return {name: seeds for name, seeds in found.items() if any(seeds)}


def data(events: Mapping[str, Events]) -> list[ModalityState]:
    """Return the states of all modalities that were diagnosed; see `read_events`."""
    modalities = names_of([event for seeds in events.values() for seed in seeds for event in seed])
    return [_state(m, events) for m in modalities]


def _state(modality: str, events: Mapping[str, Events]) -> ModalityState:
    found = {name: seeds for name, seeds in events.items() if any(_states(seed, modality) for seed in seeds)}
    relearnings = {name: [of_kind(seed) for seed in seeds] for name, seeds in found.items()}
    pulled = {name: seeds for name, seeds in relearnings.items() if any(_states(seed, modality) for seed in seeds)}
    floor = [value for seeds in found.values() for value in _values(seeds, modality, "gap_permuted")]
    return ModalityState(
        modality,
        {split: _curves(found, modality, f"purity_{split}", pulled) for split in ("train", "val")},
        _curves(found, modality, "gap", pulled),
        _curves(pulled, modality, "strength", pulled),
        {name: _relearned(seeds, modality) for name, seeds in pulled.items()},
        fmean(floor) if floor else None,
        sorted({epoch for seeds in found.values() for seed in seeds for epoch in _states(seed, modality)}),
    )


def of_kind(events: Sequence[Event], kind: str = "relearn") -> list[Event]:
    """Return the events of a kind."""
    return [event for event in events if event.kind == kind]


def _states(events: Sequence[Event], modality: str) -> dict[int, LearningState]:
    return {event.epoch: event.modalities[modality] for event in events if modality in event.modalities}


def measured(events: Sequence[Event], modality: str, key: str) -> dict[int, float]:
    """Return {epoch: value} of a field of the learning state; "after.gap" is the gap that a re-learning left."""
    of, _, inner = key.rpartition(".")
    found: dict[int, float] = {}
    for epoch, state in _states(events, modality).items():
        value = getattr(state.after if of else state, inner, None)
        if value is not None:
            found[epoch] = value
    return found


def _values(seeds: Events, modality: str, key: str) -> list[float]:
    return [value for seed in seeds for value in measured(seed, modality, key).values()]


def _curves(
    events: Mapping[str, Events], modality: str, key: str, relearnings: Mapping[str, Events]
) -> dict[str, Curve]:
    found: dict[str, Curve] = {}
    for name, seeds in events.items():
        keep = epochs_of(relearnings.get(name, ()))
        drawn = curve((measured(seed, modality, key) for seed in seeds), keep=keep)
        found |= {name: drawn} if drawn is not None else {}
    return found


def epochs_of(events: Events) -> list[int]:
    """Return the epochs of all seeds' events, rising."""
    return sorted({event.epoch for seed in events for event in seed})


def _relearned(seeds: Events, modality: str) -> list[Relearned]:
    before, after = ([measured(seed, modality, key) for seed in seeds] for key in ("gap", "after.gap"))
    return [
        Relearned(epoch, fmean(values), fmean(left) if (left := _at(after, epoch)) else None)
        for epoch in epochs_of(seeds)
        if (values := _at(before, epoch))
    ]


def _at(seeds: Sequence[Mapping[int, float]], epoch: int) -> list[float]:
    return [seed[epoch] for seed in seeds if epoch in seed]


def draw_purity(axes: Axes, found: ModalityState, theme: Theme, names: Sequence[str] | None = None) -> list[Key]:
    """Draw the purities of train, solid, and validation, dashed; vertical lines are re-learning events.

    Args:
        axes: where to.
        found: the modality's state.
        theme: look of the methods.
        names: methods to draw; None for all.

    Returns:
        The lines of a legend.
    """
    keys: list[Key] = []
    for split, curves in found.purities.items():
        for name, drawn in curves.items():
            if names is None or name in names:
                line = draw_curve(axes, drawn, theme.look(name), SPLITS[split], theme)
                keys += [(line, name)] if split == "train" else []
    keys += mark_events(axes, {n: [e.epoch for e in seen] for n, seen in found.relearned.items()}, theme, names)
    axes.set(xlabel="epoch", ylabel="purity")
    _tick_epochs(axes, found)
    return [*keys, *split_keys(found.purities)]


def draw_gap(axes: Axes, found: ModalityState, theme: Theme) -> list[Key]:
    """Draw the gap of every method; at a re-learning it falls from a filled triangle to a hollow one.

    Returns:
        The lines of a legend.
    """
    keys: list[Key] = [
        (draw_curve(axes, drawn, theme.look(name), "-", theme), name) for name, drawn in found.gaps.items()
    ]
    for name, events in found.relearned.items():
        _draw_falls(axes, events, theme.look(name).colour, theme)
    events = [event for seen in found.relearned.values() for event in seen]
    keys += [(_triangle(MUTED, theme), "before re-learning")] if events else []
    keys += [(_triangle(BACKGROUND, theme), "after it")] if any(event.after is not None for event in events) else []
    if found.floor is not None:
        keys.append((axes.axhline(found.floor, color=MUTED, linestyle=(0, (2, 2)), linewidth=1.2), "permuted labels"))
    axes.set(xlabel="epoch", ylabel="purity gap")
    _tick_epochs(axes, found)
    _from_zero(axes)
    return keys


def _from_zero(axes: Axes) -> None:
    """Let the vertical axis begin at zero, unless a signed gap is below in one of the panels that share it."""
    together = axes.get_shared_y_axes().get_siblings(axes)
    if all(other.dataLim.y0 >= 0 for other in together):
        axes.set_ylim(bottom=0)
        return
    for other in together:  # each of them remembers the limit that was set
        other.autoscale(axis="y")


def _draw_falls(axes: Axes, events: Sequence[Relearned], colour: str, theme: Theme) -> None:
    size = theme.marker_size + 2
    axes.plot([event.epoch for event in events], [event.before for event in events], EVENT, color=colour, ms=size)
    left = [(event.epoch, event.before, event.after) for event in events if event.after is not None]
    if left:
        epochs, before, after = zip(*left, strict=True)
        axes.vlines(epochs, after, before, colors=colour, linestyles=RELEARNING, linewidth=1.2)
        axes.plot(epochs, after, EVENT, color=colour, mfc=BACKGROUND, ms=size)


def _triangle(fill: str, theme: Theme) -> Artist:
    from matplotlib.lines import Line2D

    size = theme.marker_size + 2
    return Line2D([], [], linestyle="", marker=EVENT, color=MUTED, markerfacecolor=fill, markersize=size)


def draw_strength(axes: Axes, found: ModalityState, theme: Theme) -> list[Key]:
    """Draw the strength of each method's re-learning events, and return the lines of a legend."""
    keys = [(draw_curve(axes, drawn, theme.look(name), "-", theme), name) for name, drawn in found.strengths.items()]
    axes.set(xlabel="epoch", ylabel="strength", ylim=(0, 1.02))
    _tick_epochs(axes, found)
    axes.margins(x=0.08)
    return keys


def mark_events(
    axes: Axes, epochs: Mapping[str, Sequence[int]], theme: Theme, names: Sequence[str] | None = None
) -> list[Key]:
    """Mark each method's re-learning events by vertical lines in its colour, where they are few."""
    from matplotlib.lines import Line2D

    shown = {name: seen for name, seen in epochs.items() if names is None or name in names}
    drawn = {name: seen for name, seen in shown.items() if 0 < len(seen) <= MOST_LINES}
    for name, seen in drawn.items():
        for epoch in seen:
            axes.axvline(epoch, color=theme.look(name).colour, linestyle=RELEARNING, linewidth=1)
    return [(Line2D([], [], color=MUTED, linestyle=RELEARNING), "re-learning")] if drawn else []


def split_keys(splits: Mapping[str, object]) -> list[Key]:
    """Return the lines of a legend that say which line style is the purity of which split."""
    from matplotlib.lines import Line2D

    words = {"train": "train purity", "val": "validation purity"}
    return [(Line2D([], [], color=MUTED, linestyle=SPLITS[split]), words[split]) for split in splits]


def _tick_epochs(axes: Axes, found: ModalityState) -> None:
    """Name the epochs that were diagnosed, if they are few."""
    if len(found.epochs) <= MOST_TICKS:
        axes.set_xticks(list(found.epochs))

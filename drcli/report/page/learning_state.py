"""The learning state of each modality: purities and gap over epochs, re-learning events, strengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from drcli.report.page.drawing import MUTED, SERIES, Drawing, add_legend, line_look, panel, style
from drcli.report.page.section import Methods, Section
from drcli.report.page.series import curve, draw_curve
from drcli.report.page.table import folded, over_seeds
from drcli.report.render import TableText
from drcli.runs.records import Event, measure, names_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Events = Sequence[Sequence[Event]]
"""Lines of events.jsonl, by seed."""

MOST_METHODS = 4
MOST_TICKS = 10
TRIANGLE = "v"
MEASURES = ("purity_train", "purity_val", "gap", "gap_permuted", "strength")
COLUMNS = (
    "method",
    "epoch",
    "modality",
    "train purity",
    "validation purity",
    "gap",
    "gap, labels permuted",
    "strength",
)


def learning_state(methods: Methods, shown: Sequence[str]) -> Section | None:
    """Return the section, or None where no run was diagnosed.

    Args:
        methods: finished runs of one recipe.
        shown: methods whose purities are drawn, if they were diagnosed.
    """
    found = {name: [run.events() for run in runs] for name, runs in methods.items()}
    events = {name: seeds for name, seeds in found.items() if any(seeds)}
    if not events:
        return None
    recipe = next(iter(methods.values()))[0].recipe_name
    places = {name: place for place, name in enumerate(methods)}
    relearned = {name: kept for name, seeds in events.items() if any(kept := [_relearnings(seed) for seed in seeds])}
    drawings = [
        _purities(recipe, name, m, events[name]) for name in shown if name in events for m in _modalities(events[name])
    ]
    modalities = dict.fromkeys(m for seeds in events.values() for m in _modalities(seeds))
    drawings += [_gaps(recipe, m, events, places) for m in modalities]
    drawings += [_strengths(recipe, name, seeds) for name, seeds in list(relearned.items())[:MOST_METHODS]]
    intro = (
        "Purity of clusters of each modality's representations, on training and on validation; their difference is "
        "the gap, from which re-learning takes its strength. Mean over seeds; bands are one standard deviation."
    )
    return Section("Purity, gap and re-learning", intro, [*drawings, *map(folded, _tables(events, relearned))])


def _relearnings(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.kind == "relearn"]


def _modalities(events: Events) -> list[str]:
    return names_of([event for seed in events for event in seed])


def _measure(events: Events, modality: str, key: str) -> list[dict[int, float]]:
    return [measure(seed, modality, key) for seed in events]


def _purities(recipe: str, name: str, modality: str, events: Events) -> Drawing:
    with style():
        figure, axes = panel()
        lines, names = [], []
        for place, split in enumerate(("train", "val")):
            drawn = curve(_measure(events, modality, f"purity_{split}"))
            assert drawn is not None
            lines.append(draw_curve(axes, drawn, **line_look(place)))
            names.append({"train": "training", "val": "validation"}[split])
        for number, epoch in enumerate(_relearning_epochs(events)):
            mark = axes.axvline(epoch, color=MUTED, linestyle=(0, (2, 2)), linewidth=1.2)
            if number == 0:
                lines.append(mark)
                names.append("re-learning")
        axes.set(xlabel="epoch", ylabel="purity", ylim=(0, 1.02))
        _tick_epochs(axes, events)
        add_legend(figure, axes, lines, names)
    return Drawing(f"{recipe}-{name}-{modality}-purity", figure, f"{name}: purity of {modality}.")


def _relearning_epochs(events: Events) -> list[int]:
    return sorted({event.epoch for seed in events for event in _relearnings(seed)})


def _tick_epochs(axes: Axes, events: Events) -> None:
    """Name the epochs that were diagnosed, if they are few."""
    epochs = sorted({event.epoch for seed in events for event in seed})
    if len(epochs) <= MOST_TICKS:
        axes.set_xticks(epochs)


def _gaps(recipe: str, modality: str, events: Mapping[str, Events], places: Mapping[str, int]) -> Drawing:
    """Draw every method's gap of a modality; a triangle is a re-learning event."""
    from matplotlib.lines import Line2D

    with style():
        figure, axes = panel()
        lines, names = [], []
        for name, seeds in events.items():
            drawn = curve(_measure(seeds, modality, "gap"), keep=_relearning_epochs(seeds))
            if drawn is not None:
                lines.append(draw_curve(axes, drawn, **line_look(places[name])))
                names.append(name)
                _mark_relearnings(axes, drawn.epochs, drawn.mean, seeds, SERIES[places[name] % len(SERIES)])
        relearned = any(map(_relearning_epochs, events.values()))
        if relearned:
            lines.append(Line2D([], [], linestyle="", marker=TRIANGLE, color=MUTED, markersize=7))
            names.append("re-learning")
        floor = [
            x for seeds in events.values() for seed in _measure(seeds, modality, "gap_permuted") for x in seed.values()
        ]
        if floor:
            lines.append(axes.axhline(fmean(floor), color=MUTED, linestyle=(0, (2, 2)), linewidth=1.2))
            names.append("labels permuted")
        axes.set(xlabel="epoch", ylabel="purity gap")
        _tick_epochs(axes, [seed for seeds in events.values() for seed in seeds])
        axes.set_ylim(bottom=0)
        add_legend(figure, axes, lines, names)
    event = "A triangle is a re-learning event; permuted" if relearned else "Permuted"
    caption = f"Purity gap of {modality}. {event} labels give the noise floor."
    return Drawing(f"{recipe}-{modality}-gap", figure, caption)


def _mark_relearnings(axes: Axes, epochs: Sequence[int], mean: Sequence[float], events: Events, colour: str) -> None:
    value = dict(zip(epochs, mean, strict=True))
    marked = [epoch for epoch in _relearning_epochs(events) if epoch in value]
    axes.plot(marked, [value[epoch] for epoch in marked], TRIANGLE, color=colour, markersize=7)


def _strengths(recipe: str, name: str, events: Events) -> Drawing:
    with style():
        figure, axes = panel()
        lines, names = [], _modalities(events)
        for place, m in enumerate(names):
            drawn = curve(_measure(events, m, "strength"))
            assert drawn is not None
            lines.append(draw_curve(axes, drawn, **line_look(place)))
        axes.set(xlabel="epoch", ylabel="strength", ylim=(0, 1.02))
        _tick_epochs(axes, events)
        axes.margins(x=0.08)
        add_legend(figure, axes, lines, names)
    caption = f"{name}: strength of re-learning by event; 0 keeps an encoder, 1 restores its initial weights."
    return Drawing(f"{recipe}-{name}-strength", figure, caption)


def _tables(events: Mapping[str, Events], relearned: Mapping[str, Events]) -> list[TableText]:
    """Put all re-learning events into numbers, and each method's last diagnosis where that is none of them."""
    of_events = {name: _relearning_epochs(seeds) for name, seeds in relearned.items()}
    last = {name: max(event.epoch for seed in seeds for event in seed) for name, seeds in events.items()}
    of_others = {name: [epoch] for name, epoch in last.items() if epoch not in of_events.get(name, ())}
    tables = [_table("Re-learning events", relearned, of_events), _table("Last diagnosis", events, of_others)]
    return [table for table in tables if table.rows]


def _table(title: str, events: Mapping[str, Events], epochs: Mapping[str, Sequence[int]]) -> TableText:
    """Put the diagnoses of each method's epochs into numbers, mean over the seeds that had one."""
    rows = [
        [name, str(epoch), m, *(_at_epoch(events[name], epoch, m, key) for key in MEASURES)]
        for name, chosen in epochs.items()
        for epoch in chosen
        for m in _modalities(events[name])
    ]
    return TableText(title, COLUMNS, rows, ["Fractions; mean and standard deviation over seeds."])


def _at_epoch(events: Events, epoch: int, modality: str, key: str) -> str:
    values = [seed[epoch] for seed in _measure(events, modality, key) if epoch in seed]
    return over_seeds(values, 3)

"""Published accuracies, shown beside ours in columns of their own.

`published.csv` holds each with its source, in per cent; here they are fractions, as everywhere in drcli.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import ascii_lowercase

from drcli.runs.collect import RunRecord, by_name, finished
from drcli.runs.wording import ABSENT, mean_and_spread

Setting = tuple[str, str, str]
"""Source, backbone and selection."""

_FILE = Path(__file__).with_name("published.csv")
FROM_SCRATCH = "from scratch"
WITH_WEIGHTS = ("pre-trained", "ImageNet weights")
SECOND_HAND = ("second-hand", "unpublished", "quoted by", "copied from")
"""How the note of a figure begins that was not read where its authors published it."""
NAMES = {("ucf101", "visual"): "rgb"}
"""What drcli calls a modality of a dataset that sources call otherwise."""

OWN_FOLDS = "bc-LSTM"
"""`dataset.prepare.file` of CMU-MOSI whose features and split are others than the literature's."""


@dataclass(frozen=True)
class Published:
    """One published figure.

    Attributes:
        method: name of the method, see `name_in_print`.
        dataset: name of the dataset.
        modalities: which modalities were used.
        backbone: encoder, in the words of the source.
        value: accuracy, a fraction.
        std: standard deviation as a fraction, if it was given.
        selection: the split that the epoch was selected on, "" where the source does not say.
        source: paper and table.
        note: what to know before comparing, or "".
    """

    method: str
    dataset: str
    modalities: frozenset[str]
    backbone: str
    value: float
    std: float | None
    selection: str
    source: str
    note: str

    @property
    def setting(self) -> Setting:
        """What figures of one column share: source, backbone and selection."""
        return self.source, self.backbone, self.selection

    @property
    def is_second_hand(self) -> bool:
        """Whether the figure was not read where its authors published it."""
        return self.note.lower().startswith(SECOND_HAND)


def beside(runs: Iterable[RunRecord], *, second_hand: bool = False) -> list[Published]:
    """Return the published figures that can be compared with one recipe's runs, in the file's order.

    There are none of a regression, none of vectors that were learned on videos of the standard test split, and none
    where data has noise on it or features are joined otherwise than by concatenation: the sources have none of these.

    Args:
        runs: of one recipe.
        second_hand: whether to return the second-hand figures as well.
    """
    multimodal = [run for run in finished(runs) if run.modality is None]
    if not multimodal or not all(map(_as_published, multimodal)):
        return []
    modalities = multimodal[0].recipe.modalities
    return lookup(
        multimodal[0].dataset,
        modalities=modalities,
        backbones={str(block.get("backbone")) for block in modalities.values()},
        pretrained=any(block.get("weights") is not None for block in modalities.values()),
        second_hand=second_hand,
    )


def _as_published(run: RunRecord) -> bool:
    prepare = run.recipe.dataset.prepare
    if run.recipe.task != "classification" or prepare.get("file") == OWN_FOLDS:
        return False
    noisy = any(key.endswith("snr_db") and value is not None for key, value in prepare.items())
    return not noisy and not run.recipe.corrupt and run.recipe.fusion is not None and run.recipe.fusion.name == "concat"


def name_in_print(run: RunRecord) -> str:
    """Return the name of a run's method in `published.csv`, whatever its label."""
    encoders = run.recipe.settings.get("encoders")
    return f"{run.method}_{encoders}" if run.method == "uni_pretrained" else run.method


def lookup(
    dataset: str,
    *,
    modalities: Iterable[str],
    backbones: Set[str],
    pretrained: bool = False,
    second_hand: bool = False,
) -> list[Published]:
    """Return the published accuracies for a dataset with these modalities and encoders, in the file's order.

    The modalities must be the same: MCR's UCF-101 is RGB and sound, and never beside RGB and flow. A source may say
    more than the name of the backbone ("resnet18 from scratch"); its first word counts.

    Args:
        dataset: name of the dataset.
        modalities: all of them, in any order.
        backbones: names of the backbones in use; sources have one for all modalities.
        pretrained: whether an encoder starts from weights: figures of encoders from scratch are left out, otherwise
            those of encoders that are said to start from weights.
        second_hand: whether to return the second-hand figures as well.
    """
    return [
        figure
        for figure in _figures()
        if (figure.dataset, figure.modalities) == (dataset, frozenset(modalities))
        and backbones == {figure.backbone.partition(" ")[0]}
        and _starts_alike(figure, pretrained)
        and (second_hand or not figure.is_second_hand)
    ]


def _starts_alike(figure: Published, pretrained: bool) -> bool:
    """Whether a figure's encoders may start as ours do; many sources do not say how theirs start."""
    others = (FROM_SCRATCH,) if pretrained else WITH_WEIGHTS
    return not any(words in figure.backbone for words in others)


def _modalities(dataset: str, names: str) -> frozenset[str]:
    """Return the modalities of a row, by the names that drcli has for them."""
    return frozenset(NAMES.get((dataset, name), name) for name in names.split("+"))


@cache
def _figures() -> tuple[Published, ...]:
    with _FILE.open(encoding="utf-8", newline="") as stream:
        return tuple(
            Published(
                method=row["method"],
                dataset=row["dataset"],
                modalities=_modalities(row["dataset"], row["modalities"]),
                backbone=row["backbone"],
                value=float(row["value"]) / 100,
                std=float(row["std"]) / 100 if row["std"] else None,
                selection=row["selection"],
                source=row["source"],
                note=row["note"],
            )
            for row in csv.DictReader(stream)
            if row["metric"] == "accuracy"
        )


class Beside:
    """The columns of published figures, one per publication and setting; none for no figures.

    Args:
        figures: what is shown.
        runs: of one recipe.
    """

    def __init__(self, figures: Sequence[Published], runs: Sequence[RunRecord]) -> None:
        self._figures = figures
        settings = dict.fromkeys(figure.setting for figure in self._figures)
        self._letters = dict(zip(settings, ascii_lowercase, strict=False))
        self._printed = _names_in_print(runs)
        self._known = {(one.method, one.setting): mean_and_spread(one.value, one.std) for one in self._figures}

    def headings(self) -> list[str]:
        """Return the headings of the columns."""
        return [f"published {letter}" for letter in self._letters.values()]

    def cells(self, name: str) -> list[str]:
        """Return what is known of one of our names."""
        return self._of(self._printed.get(name, ""))

    def _of(self, method: str) -> list[str]:
        return [self._known.get((method, setting), ABSENT) for setting in self._letters]

    def rows(self, ours: Iterable[str], call: Callable[[str], str]) -> list[tuple[str, list[str]]]:
        """Return names and figures of the methods that no run of ours has."""
        printed = set(self._printed.values())
        theirs = [name for name in dict.fromkeys(one.method for one in self._figures) if name not in printed]
        taken = set(ours)
        return [(f"{call(name)} (published)" if name in taken else call(name), self._of(name)) for name in theirs]

    def notes(self) -> list[str]:
        """Return where each column comes from, and what to know about single figures."""
        return _published_notes(self._letters, self._figures)


def _names_in_print(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Return which published method is beside each of ours.

    Where several labels are of one method, its figure is beside the label of the same name, if there is one.
    """
    multimodal = [run for run in finished(runs) if run.modality is None]
    found = {name: name_in_print(group[0]) for name, group in by_name(multimodal).items()}
    return {name: method for name, method in found.items() if name == method or found.get(method) != method}


def _published_notes(letters: Mapping[Setting, str], figures: Sequence[Published]) -> list[str]:
    """Where each column of published figures comes from, and what to know about single figures."""
    notes = []
    for (source, backbone, selection), letter in letters.items():
        selected = f"selected on {selection}" if selection else "the source does not say how epochs are selected"
        notes.append(f"published {letter}: {source}; {backbone}; {selected}.")
    warned: dict[tuple[str, str], list[str]] = {}
    for figure in figures:
        if figure.note:
            warned.setdefault((letters[figure.setting], figure.note), []).append(figure.method)
    return [*notes, *(f"{', '.join(names)} in {letter}: {note}." for (letter, note), names in warned.items())]

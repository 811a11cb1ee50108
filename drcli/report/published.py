"""Figures from publications, to stand beside ours in columns of their own.

`published.csv` holds each with its source, in per cent; here they are fractions, as everywhere in drcli.
"""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("published.csv")

# Our labels whose names in publications are others.
_NAMES = {"uni_frozen": "uni_pretrained_frozen", "uni_finetuned": "uni_pretrained_finetuned"}


@dataclass(frozen=True)
class Published:
    """One published figure.

    Attributes:
        method: name of the method; our label for it, where we have one.
        dataset: name of the dataset.
        modalities: which modalities were used.
        backbone: encoder, in the words of the source.
        metric: accuracy or macro_f1.
        value: a fraction.
        std: standard deviation as a fraction, if it was given.
        selection: the split that the epoch was selected on, "" where the source does not say.
        source: paper and table.
        note: what to know before comparing, or "".
    """

    method: str
    dataset: str
    modalities: frozenset[str]
    backbone: str
    metric: str
    value: float
    std: float | None
    selection: str
    source: str
    note: str

    @property
    def setting(self) -> tuple[str, str, str]:
        """What figures of one column share: source, backbone and selection."""
        return self.source, self.backbone, self.selection


def lookup(
    dataset: str,
    *,
    modalities: Collection[str],
    backbones: Collection[str],
    metric: str = "accuracy",
    method: str | None = None,
) -> list[Published]:
    """Return the published figures for a dataset with these modalities and backbones, in the file's order.

    A source may say more than the name of the backbone ("resnet18 from scratch"); its first word counts.

    Args:
        dataset: name of the dataset.
        modalities: all of them, in any order.
        backbones: names of the backbones in use.
        metric: accuracy or macro_f1.
        method: a label; None for every method.
    """
    return [
        figure
        for figure in _figures()
        if (figure.dataset, figure.metric, figure.modalities) == (dataset, metric, frozenset(modalities))
        and figure.backbone.partition(" ")[0] in backbones
        and method in {None, figure.method}
    ]


@cache
def _figures() -> tuple[Published, ...]:
    ours = {published: label for label, published in _NAMES.items()}
    with _FILE.open(encoding="utf-8", newline="") as stream:
        return tuple(
            Published(
                method=ours.get(row["method"], row["method"]),
                dataset=row["dataset"],
                modalities=frozenset(row["modalities"].split("+")),
                backbone=row["backbone"],
                metric=row["metric"],
                value=float(row["value"]) / 100,
                std=float(row["std"]) / 100 if row["std"] else None,
                selection=row["selection"],
                source=row["source"],
                note=row["note"],
            )
            for row in csv.DictReader(stream)
        )

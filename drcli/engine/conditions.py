"""Scores of a trained model without some of its modalities and under noise; nothing is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Literal

import torch
from torch import Tensor

from drcli.data.batches import Batches
from drcli.data.prepared import Split
from drcli.engine.assemble import Assembly
from drcli.engine.evaluate import LOGITS, run_batches, scores_of
from drcli.errors import UsageError
from drcli.metrics import Scores, ValueScores
from drcli.runs.conditions import (
    Absent,
    AnyCondition,
    Condition,
    Conditions,
    Series,
    ValueCondition,
    name_of,
    subsets_of,
)
from drcli.seeding import generator

StandIn = Literal["zero", "mean"]


@dataclass(frozen=True)
class Wanted:
    """Which conditions to score.

    Attributes:
        subsets: modalities that are there, the others being absent from every row; None for every subset of a model's.
        missing: shares of samples that lack a modality, by modality, each in (0, 1).
        noise: signal-to-noise ratios in dB, by modality.
        stand_in: features in the place of a modality that is absent: zeros, or their mean over the training rows.
        draws: how often the noise, and the samples that lack a modality, are drawn.
    """

    subsets: Sequence[tuple[str, ...]] | None = ()
    missing: Mapping[str, Sequence[float]] = field(default_factory=dict)
    noise: Mapping[str, Sequence[float]] = field(default_factory=dict)
    stand_in: StandIn = "zero"
    draws: int = 3

    def of(self, modalities: Sequence[str]) -> Wanted:
        """Return those of the conditions that a model of some modalities can be in."""
        asked = None if self.subsets is None else [set(subset) for subset in self.subsets]
        missing = self.missing if len(modalities) > 1 else {}
        return Wanted(
            [subset for subset in subsets_of(tuple(modalities)) if asked is None or set(subset) in asked],
            {m: shares for m, shares in missing.items() if m in modalities},
            {m: ratios for m, ratios in self.noise.items() if m in modalities},
            self.stand_in,
            self.draws,
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is none."""
        return self.subsets is not None and not (self.subsets or self.missing or self.noise)

    @property
    def names(self) -> list[str]:
        """The modalities that are named."""
        subsets = [m for subset in self.subsets or () for m in subset]
        return list(dict.fromkeys([*subsets, *self.missing, *self.noise]))


def measure(assembly: Assembly, split: str, epoch: int, wanted: Wanted) -> Conditions:
    """Return the scores of a split under conditions that the model can be in.

    With all modalities of the model there is nothing absent, and the scores are those of `evaluate_split`.

    Args:
        assembly: with the weights of a checkpoint.
        split: train, val or test.
        epoch: of the checkpoint.
        wanted: the conditions; see `Wanted.of`.

    Raises:
        UsageError: there is to be noise on token ids.
    """
    batches = assembly.batches(split)
    for m in wanted.noise:
        if batches.plans[m].info.vocabulary:
            raise UsageError(f"--noise: the samples of {m} are token ids, to which no noise can be added; leave it out")
    with _standing_in(assembly, wanted) as absent:
        return Conditions(
            split=split,
            epoch=epoch,
            absent=absent,
            subsets=dict(_of_subsets(assembly, batches, wanted.subsets or ())),
            missing={m: _missing(assembly, batches, m, shares, wanted.draws) for m, shares in wanted.missing.items()},
            noise={m: _noisy(assembly, batches, m, ratios, wanted.draws) for m, ratios in wanted.noise.items()},
        )


@contextmanager
def _standing_in(assembly: Assembly, wanted: Wanted) -> Iterator[Absent | None]:
    """Within it, absent modalities have the features that are wanted; what these are is returned."""
    if len(assembly.modalities) == 1 or not (wanted.subsets or wanted.missing):
        yield None
    elif assembly.method.leaves_out or assembly.model.fusion.leaves_out:
        yield "left_out"
    elif wanted.stand_in == "zero":
        yield "zero"
    else:
        assembly.model.stand_ins = training_means(assembly)
        try:
            yield "mean"
        finally:
            assembly.model.stand_ins = {}


def training_means(assembly: Assembly) -> dict[str, Tensor]:
    """Return the mean features {m: (D_m,)} of the training samples that have a modality, on the model's device."""
    batches = assembly.batches("train")
    features = run_batches(assembly, batches)
    return {m: _mean(features[m], batches, m).to(assembly.device) for m in assembly.modalities}


def _mean(features: Tensor, batches: Batches, modality: str) -> Tensor:
    weight = batches.split.weight * batches.present.get(modality, torch.ones(len(batches), dtype=torch.bool))
    return (features.double() * weight[:, None]).sum(dim=0).div(weight.sum()).float()


def _of_subsets(
    assembly: Assembly, batches: Batches, subsets: Iterable[tuple[str, ...]]
) -> Iterator[tuple[str, AnyCondition]]:
    """Yield the scores with some modalities alone, of the rows that have one of them at least."""
    for subset in subsets:
        nobody = torch.zeros(len(batches), dtype=torch.bool)
        less = batches.without({m: nobody for m in assembly.modalities if m not in subset})
        rows = _with_any(less, subset)
        if rows is None or len(rows):
            yield name_of(subset), _condition([_scores(assembly, less, rows)])


def _with_any(batches: Batches, subset: Sequence[str]) -> Tensor | None:
    """Return the rows (n,) that have one of the modalities; None for all."""
    there = [batches.present.get(m) for m in subset]
    known = [rows for rows in there if rows is not None]
    found = torch.stack(known).any(dim=0) if len(known) == len(there) else None
    return None if found is None or bool(found.all()) else found.nonzero()[:, 0]


def _missing(assembly: Assembly, batches: Batches, modality: str, shares: Sequence[float], draws: int) -> Series:
    """Return the scores where shares of the samples lack a modality; of a draw, the smaller are within the larger."""
    others = [m for m in assembly.modalities if m != modality]

    def scores(share: float, draw: int) -> Scores | ValueScores:
        kept = keeping(batches, modality, others, share, draw)
        return _scores(assembly, batches.without({modality: kept}))

    return {f"{share:g}": _condition([scores(share, draw) for draw in range(draws)]) for share in shares}


def keeping(batches: Batches, modality: str, others: Sequence[str], share: float, draw: int) -> Tensor:
    """Return which rows (N,) keep a modality where a share of the samples loses it.

    The share is of the samples that have it and another, so that none loses all; all rows of a sample lose it
    together. It is drawn from split, modality and draw alone.
    """
    split = batches.split
    able = _samples_with(split, batches, [modality]) & _samples_with(split, batches, others)
    order = torch.randperm(split.num_samples, generator=generator(0, "missing", split.name, modality, draw))
    candidates = order[able[order]]
    lost = torch.zeros(split.num_samples, dtype=torch.bool)
    lost[candidates[: round(share * len(candidates))]] = True
    return ~lost[split.sample]


def _samples_with(split: Split, batches: Batches, modalities: Sequence[str]) -> Tensor:
    """Return which samples (S,) have one of the modalities in each of their rows."""
    rows = _with_any(batches, modalities)
    if rows is None:
        return torch.ones(split.num_samples, dtype=torch.bool)
    lacking = torch.ones(split.num_rows, dtype=torch.bool)
    lacking[rows] = False
    found = torch.ones(split.num_samples, dtype=torch.bool)
    found[split.sample[lacking]] = False
    return found


def _noisy(assembly: Assembly, batches: Batches, modality: str, ratios: Sequence[float], draws: int) -> Series:
    """Return the scores with white noise on a modality's inputs; a draw is the same noise at every ratio."""
    found: dict[float, list[Scores | ValueScores]] = {ratio: [] for ratio in ratios}
    for draw in range(draws):
        at = batches.noisy(modality, draw)
        for ratio, scores in found.items():
            scores.append(_scores(assembly, at(ratio)))
    return {f"{ratio:g}": _condition(scores) for ratio, scores in found.items()}


def _scores(assembly: Assembly, batches: Batches, rows: Tensor | None = None) -> Scores | ValueScores:
    logits, split = run_batches(assembly, batches, rows)[LOGITS], batches.split
    chosen = slice(None) if rows is None else rows
    return scores_of(logits, split.labels[chosen], split.weight[chosen])


def _condition(draws: Sequence[Scores | ValueScores]) -> AnyCondition:
    """Return means over draws, and their standard deviations where there are several."""
    first = draws[0]
    means: dict[str, float | None] = {}
    for key in first.to_dict().keys() - {"n"}:
        values = [getattr(found, key) for found in draws]
        known = None not in values  # as a correlation is not, of constant predictions
        means[key] = fmean(values) if known else None
        means |= {f"{key}_std": stdev(values)} if known and len(draws) > 1 else {}
    kind = Condition if isinstance(first, Scores) else ValueCondition
    return kind.model_validate({**means, "n": first.n, "draws": len(draws)})

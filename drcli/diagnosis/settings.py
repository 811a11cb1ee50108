"""How a diagnosis is measured, as a recipe says it, and how it is put into words: nothing that needs torch.

The defaults of the settings are what the authors' code does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Protocol, TypeAlias

from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from drcli.bases import Search

MARGIN = 0.05
"""A gap must exceed that of permuted labels by this much to mean anything: another start of K-means or other samples
move purities by a few hundredths."""


def above_floor(gap: float, permuted: float) -> float:
    """Return what of a gap that of permuted labels does not explain; 0 where it explains all."""
    return max(gap - permuted, 0.0)


def at_floor(gap: float, permuted: float) -> bool:
    """Return whether permuted labels have a gap as large, give or take MARGIN."""
    return gap <= permuted + MARGIN


Slopes: TypeAlias = float | Mapping[str, float]
"""Slope from gap to strength: of every modality, or {m: of m}."""


def slope_of(slopes: Slopes, modality: str) -> float:
    """Return the slope of a modality.

    Raises:
        ValueError: slopes are given by modality, and none of this one.
    """
    if not isinstance(slopes, Mapping):
        return slopes
    if modality not in slopes:
        raise ValueError(f"lambda must name {modality}, too: it has {', '.join(slopes) or 'nothing'}")
    return slopes[modality]


class State(Protocol):
    """What a diagnosis found in one modality, as far as it is put into words."""

    @property
    def purity_train(self) -> float:
        """Of the clusters of train."""

    @property
    def purity_val(self) -> float:
        """Of the clusters of validation."""

    @property
    def gap(self) -> float:
        """Of the two purities."""

    @property
    def strength(self) -> float:
        """How far the encoder is pulled back."""

    @property
    def gap_above_floor(self) -> float | None:
        """What of the gap permuted labels do not explain; None where they were not tried."""

    @property
    def is_at_floor(self) -> bool:
        """Whether permuted labels explain the gap."""


def in_words(found: Mapping[str, State], left: Mapping[str, float]) -> str:
    """Return a diagnosis in one line: purities, gap, what of it chance does not explain, and strength.

    Args:
        found: by modality.
        left: gaps that a re-learning left, of the modalities that were measured again.
    """
    parts = [f"{m} {_state(one)}" + (f", gap left {left[m]:.3f}" if m in left else "") for m, one in found.items()]
    floor = "; every gap is at the floor of permuted labels" if all(one.is_at_floor for one in found.values()) else ""
    return "; ".join(parts) + floor


def _state(found: State) -> str:
    above = found.gap_above_floor
    return (
        f"purity {found.purity_train:.3f} / {found.purity_val:.3f}, gap {found.gap:.3f}"
        + ("" if above is None else f" ({above:.3f} above the floor)")
        + f", strength {found.strength:.3f}"
    )


class MeasureSettings(BaseModel, extra="forbid", frozen=True):
    """How purities and their gap are measured."""

    scaler: Literal["per_split", "from_train"] = Field(
        "per_split",
        description="per_split: features are scaled to [-1, 1] by the range of their own split; "
        "from_train: by the range of the training split",
    )
    gap: Literal["abs", "signed"] = Field(
        "abs", description="purity gap; abs: |train - validation|; signed: max(train - validation, 0)"
    )
    restarts: PositiveInt = Field(
        10,
        le=10_000,
        description="runs of K-means, of which the best is taken; with few of them the gap is noisy. The authors' "
        "call leaves the number to scikit-learn: 10 before version 1.4, 1 since",
    )
    match_sizes: bool = Field(
        False,
        description="cluster as many training samples as there are validation samples, since purity is higher "
        "in small sets",
    )
    sample: PositiveInt | None = Field(
        None,
        le=1_000_000_000,
        description="largest number of rows of train, and of validation, that are clustered, drawn by class with a "
        "fixed seed; never fewer than there are classes; null: all rows",
    )
    kmeans: Literal["auto", "sklearn", "torch"] = Field(
        "auto",
        description="implementation of K-means; sklearn: scikit-learn; torch: drcli's own, on the device of the "
        "features; auto: torch on CUDA, sklearn otherwise",
    )


class GapSettings(MeasureSettings, validate_by_name=True, validate_by_alias=True):
    """How purities and their gap are measured, and the gap becomes a strength of re-learning."""

    lambda_: Annotated[NonNegativeFloat, Search(0, 10, source="the paper's Figure 5")] = Field(
        3.0,
        alias="lambda",
        le=1e6,
        allow_inf_nan=False,
        description="factor of the purity gap in the strength tanh(lambda * gap)",
    )


class DiagnosisSettings(GapSettings):
    """How a checkpoint is diagnosed, and how often a run is, whatever its method."""

    monitor_every: NonNegativeInt = Field(
        0, le=1_000_000, description="epochs between two diagnoses that only measure and change nothing; 0: none"
    )

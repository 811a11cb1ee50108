"""The settings of a diagnosis, as a recipe gives them; the defaults are what the authors' code does."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

MARGIN = 0.05
"""A gap must exceed that of permuted labels by this much to mean anything: another start of K-means or other samples
move purities by a few hundredths."""


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

    lambda_: NonNegativeFloat = Field(
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

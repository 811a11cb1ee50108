"""The settings of a diagnosis, as a recipe gives them; the defaults are what the authors' code does."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt, PositiveInt


class MeasureSettings(BaseModel, extra="forbid", frozen=True):
    """How purities and their gap are measured."""

    scaler: Literal["per_split", "from_train"] = Field(
        "per_split",
        description="features are scaled to [-1, 1] by the range of their own split, or by that of train",
    )
    gap: Literal["abs", "signed"] = Field(
        "abs", description="abs: |train - validation|; signed: max(train - validation, 0)"
    )
    restarts: PositiveInt = Field(
        10, description="starts of K-means, the best one counts; with few of them the gap is noisy"
    )
    match_sizes: bool = Field(
        False,
        description="draw as many training rows as there are validation rows: purity is higher in small sets",
    )
    kmeans: Literal["auto", "sklearn", "torch"] = Field(
        "auto",
        description="what clusters: scikit-learn, drcli's own on the features' device, or that on CUDA alone (auto)",
    )


class GapSettings(MeasureSettings, validate_by_name=True, validate_by_alias=True):
    """How purities and their gap are measured, and the gap becomes a strength of re-learning."""

    lambda_: NonNegativeFloat = Field(
        3.0, alias="lambda", allow_inf_nan=False, description="slope from purity gap to strength"
    )


class DiagnosisSettings(GapSettings):
    """How a checkpoint is diagnosed, and how often a run is, whatever its method."""

    monitor_every: NonNegativeInt = Field(0, description="epochs between two diagnoses that change nothing; 0: none")

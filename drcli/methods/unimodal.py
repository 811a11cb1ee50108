"""Unimodal training: each encoder alone, the reference for what joint training leaves unlearnt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from drcli.methods.base import Method


class Unimodal(Method):
    """One encoder and one linear head trained alone, under the data and budget of joint training.

    One run per modality: the model is built from that modality only, and everything else is joint
    training. An encoder starts from the weights that it has in joint training with the same seed.
    """

    neutral: ClassVar[Mapping[str, Any] | None] = None
    neutral_reason: ClassVar[str] = "it trains one modality; with one modality it is joint training"
    moves: ClassVar[str] = "one encoder and its head, by the optimiser"
    per_modality: ClassVar[bool] = True

"""The settings of re-learning, as a recipe gives them; the defaults are the authors' behaviour on CREMA-D."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError

from drcli.amounts import counted
from drcli.bases import Search
from drcli.diagnosis.settings import MeasureSettings, Slopes, slope_of

Rule = Literal["gap", "above_floor", "relative", "adjusted", "shuffled", "random"]

Fixed = Annotated[float, Field(gt=0, le=1)]


Slope = Annotated[NonNegativeFloat, Field(le=1e6, allow_inf_nan=False)]


class StrengthSettings(MeasureSettings, validate_by_name=True, validate_by_alias=True):
    """How a diagnosis becomes strengths."""

    lambda_: Annotated[dict[str, Slope] | Slope, Search(0, 10, source="the paper's Figure 5")] = Field(
        3.0,
        alias="lambda",
        description="factor of the purity gap in the strength tanh(lambda * gap); or a factor for each modality, such "
        "as {audio: 3, visual: 1}",
    )
    strength: Rule | Fixed = Field(
        "gap",
        description="what decides the strength a, with g the purity gap; gap: tanh(lambda * g) (paper); "
        "above_floor: of g less the gap of permuted labels; relative: of g less the smallest gap of a modality; "
        "adjusted: of the gap of purities that are corrected for chance; controls: shuffled: the strengths of gap, "
        "given to other modalities; random: drawn, with the mean that those of gap have; a number: this strength, "
        "whatever was found",
    )


class RelearnSettings(StrengthSettings):
    """When encoders are pulled towards their initial weights, and by which strength."""

    every: Annotated[PositiveInt, Search(5, 30, source="the paper's Figure 5 has 10 to 30; less for shorter runs")] = (
        Field(20, le=1_000_000, description="H: epochs between two diagnoses")
    )
    times: NonNegativeInt = Field(3, le=1_000_000, description="largest number of re-learnings; 0: none")
    optimizer_state: Literal["keep", "reset_encoder", "reset"] = Field(
        "keep",
        description="state of the optimiser, such as momentum, at a re-learning; keep: unchanged; "
        "reset_encoder: cleared for the encoders; reset: cleared for all",
    )
    bn_buffers: Literal["keep", "blend", "recompute"] = Field(
        "keep",
        description="running statistics of batch normalisation at a re-learning; keep: unchanged; "
        "blend: pulled like the weights; recompute: measured again on the training data",
    )

    def due(self, epochs: int) -> list[int]:
        """Return the epochs, from 0, that end in an event if a training has so many."""
        return list(range(self.every, epochs - 1, self.every))[: self.times]

    def longer_reason(self, epochs: int) -> str:
        """Return why a training of so many epochs cannot go on to more, as a clause; empty: it can."""
        left_out = epochs - 1 in self.due(epochs + 1)
        return "left out the re-learning that would have followed the last epoch" if left_out else ""

    def warnings(self, epochs: int) -> Iterator[str]:
        """Warn where a training of so many epochs has fewer events than asked for."""
        due = len(self.due(epochs))
        schedule = f"every: {self.every}, times: {self.times}, {counted(epochs, 'epoch')}"
        if due == 0:
            yield f"no re-learning will happen ({schedule}): this is training without it"
        elif due < self.times:
            yield f"only {due} of {self.times} re-learnings will happen ({schedule})"


def unfit_slopes(slopes: Slopes, modalities: Iterable[str]) -> str:
    """Return why slopes do not fit the modalities, as a clause that follows them; empty: they do."""
    names = list(modalities)
    strangers = [m for m in slopes if m not in names] if isinstance(slopes, Mapping) else []
    if strangers:
        return f"names {', '.join(strangers)}; the modalities are {', '.join(names)}"
    try:
        for m in names:
            slope_of(slopes, m)
    except ValueError:
        return f"must name every modality, {', '.join(names)}, or be one number for all"
    return ""


def settings_of(**values: Any) -> RelearnSettings:
    """Return the settings that a program gives by their names in Python.

    Raises:
        ValueError: one is unknown, of another type, or out of range.
    """
    try:
        return RelearnSettings(**values)
    except ValidationError as error:
        problems = {one["loc"][0]: _problem(str(one["loc"][0]), one) for one in reversed(error.errors())}
        raise ValueError("; ".join(problems.values())) from None


def _problem(name: str, error: Mapping[str, Any]) -> str:
    """Return what is wrong with a setting, in words."""
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, RelearnSettings.model_fields, n=1)
        return f"{name} is no setting of re-learning" + (f"; did you mean {near[0]}?" if near else "")
    if name == "strength":
        return f"strength must be {', '.join(get_args(Rule))}, or greater than 0 and at most 1, got {error['input']!r}"
    return f"{name}: {error['msg']}, got {error['input']!r}"

"""A multilayer perceptron: the encoder of samples that are vectors."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from drcli.models.backbone import Backbone, Hidden, Maps
from drcli.models.transformer import Dropout

Width = Annotated[PositiveInt, Field(le=65_536)]

NORMALISATIONS = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class Mlp(Backbone):
    """Layers h_i = dropout(relu(norm(W_i h_{i-1} + b_i))), h_0 the numbers of a sample, (D,).

    Vectors come standardised by the training split's mean and standard deviation of each dimension, as the
    prepared dataset gives them. Samples with more axes are flattened, a sequence of one step (1, D) to (D,); the
    padding of longer sequences counts as zeros.

    Every layer is a stage, whose features are maps of one point: what intermediate fusions do to channels they
    do to the numbers of a layer.

    Args:
        settings: widths of the layers, normalisation and dropout.
        shape: (D,), or any other.
    """

    class Settings(Backbone.Settings):
        """The recipe block of `mlp`."""

        hidden: tuple[Width, ...] = Field(
            (64,),
            min_length=1,
            max_length=64,
            description="widths of the layers; the last one's is that of the features",
        )
        normalisation: Literal["none", "batch", "layer"] = Field(
            "none", description="normalisation before each rectifier"
        )
        dropout: Dropout = 0.0
        input_dropout: float = Field(
            0.0, ge=0, lt=1, description="probability with which a number of the sample is set to 0 in training"
        )

    settings: Settings

    ranks: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)
    trunk = ("layers",)

    def __init__(self, settings: Settings, shape: Sequence[int]) -> None:
        super().__init__(settings, shape)
        widths = [prod(shape), *settings.hidden]
        self.inputs = nn.Dropout(settings.input_dropout)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(before, after),
                NORMALISATIONS[settings.normalisation](after),
                nn.ReLU(),
                nn.Dropout(settings.dropout),
            )
            for before, after in zip(widths, settings.hidden, strict=False)
        )
        self.width = settings.hidden[-1]
        self.channels = settings.hidden

    def begin(self, x: Tensor, lengths: Tensor | None = None) -> Maps:
        """Flatten (B, *shape) to (B, D, 1, 1), some numbers set to 0 in training."""
        return _maps(self.inputs(x.flatten(1)))

    def stage(self, index: int, hidden: Hidden) -> Maps:
        """Run one layer: (B, hidden[index], 1, 1)."""
        assert isinstance(hidden, Maps)
        return _maps(self.layers[index](hidden.values.flatten(1)))

    def end(self, hidden: Hidden) -> Tensor:
        """Return the features (B, hidden[-1])."""
        assert isinstance(hidden, Maps)
        return hidden.values.flatten(1)


def _maps(vectors: Tensor) -> Maps:
    return Maps(vectors[:, :, None, None])

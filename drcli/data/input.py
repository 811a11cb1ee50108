"""What a recipe says about a modality's input: frames, crop, flip, noise. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, PositiveInt

Split = Literal["train", "val", "test"]


class InputSettings(BaseModel, extra="forbid", frozen=True):
    """Keys of a modality's block that say how its stored arrays become inputs."""

    frames: PositiveInt | None = Field(
        None,
        le=10_000,
        description="frames per sample: the stored ones are split into this number of equal parts, and one frame "
        "of each is used; null: all",
    )
    size: PositiveInt | None = Field(
        None,
        le=4096,
        description="side of the square, in pixels, to which pictures are resized; in training a random part of the "
        "picture is resized; null: as stored",
    )
    flip: bool = Field(
        False, description="mirror half of the training samples, the same ones in all modalities with flip"
    )
    weights: str | None = Field(
        None,
        min_length=1,
        description="pre-trained weights of the encoder: imagenet, or a file; null: random initialisation",
    )


class Corruption(BaseModel, extra="forbid", frozen=True):
    """White Gaussian noise on one modality, which leaves little information in it."""

    snr_db: float = Field(ge=-60, le=60, description="10 log10(power of the sample / power of the noise), in dB")
    domain: Literal["input", "waveform"] = Field(
        "input",
        description="input: noise on the normalised input, added in training and evaluation; waveform: noise on "
        "the sound, added by `drcli prepare`",
    )
    splits: tuple[Split, ...] = Field(("train", "val", "test"), description="splits with noise")

"""What a recipe says about a modality's input: frames, crop, flip, noise. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, PositiveInt

Split = Literal["train", "val", "test"]


class InputSettings(BaseModel, extra="forbid", frozen=True):
    """Keys of a modality's block that say how its stored arrays become inputs."""

    frames: PositiveInt | None = Field(
        None, description="how many of the stored frames: one from each of as many equal parts; null takes all"
    )
    size: PositiveInt | None = Field(
        None, description="side of the square that pictures are cropped (in training) and resized to; null leaves them"
    )
    flip: bool = Field(False, description="mirror half of the training samples, all modalities with flip alike")
    weights: str | None = Field(
        None, min_length=1, description="pre-trained weights of the encoder: imagenet, or a file; null draws them"
    )


class Corruption(BaseModel, extra="forbid", frozen=True):
    """White Gaussian noise on one modality: the scarcely informative case."""

    snr_db: float = Field(ge=-60, le=60, description="10 log10(power of the sample / power of the noise)")
    domain: Literal["input", "waveform"] = Field(
        "input", description="input: on the normalised input, by the device; waveform: on the sound, by prepare"
    )
    splits: tuple[Split, ...] = Field(("train", "val", "test"), description="which splits are noisy")

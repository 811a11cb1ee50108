"""What a recipe says about a modality's input: frames, crop, flip, noise. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, PositiveInt

Split = Literal["train", "val", "test"]


class WeightsFile(BaseModel, extra="forbid", frozen=True):
    """A file of pre-trained weights, and which encoder in it is meant."""

    file: str = Field(min_length=1, description="a state_dict (torch.save or .safetensors), or a checkpoint of drcli")
    encoder: str | None = Field(
        None, min_length=1, description="modality of the encoder in a checkpoint of drcli; null: the only one"
    )


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
    augment: bool = Field(
        True,
        description="training augmentation: random frames, crops and mirrors; false: this modality is trained on the "
        "inputs that it is evaluated on",
    )
    weights: Annotated[str, Field(min_length=1)] | WeightsFile | None = Field(
        None,
        description="pre-trained weights of the encoder: imagenet, a name of torchvision's such as "
        "ResNet18_Weights.IMAGENET1K_V1, or a file, also as {file, encoder}; null: random initialisation",
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

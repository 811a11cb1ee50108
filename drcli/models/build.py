"""Build the model that a recipe describes, with initial weights that are seeded or were trained before."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor

from drcli.errors import DataError
from drcli.models.backbone import Backbone
from drcli.models.multimodal import MultimodalModel, Precision
from drcli.names import BACKBONES, FUSIONS
from drcli.reading import ContentsError, open_regular
from drcli.recipe.schema import FusionBlock, ModalityBlock
from drcli.seeding import seeded
from drcli.tensor_file import read_tensors

IMAGENET = "imagenet"


def build_model(
    modalities: Mapping[str, ModalityBlock],
    fusion: FusionBlock,
    *,
    shapes: Mapping[str, Sequence[int]],
    num_classes: int,
    seed: int,
    precision: Precision = "fp32",
    channels_last: bool = True,
) -> MultimodalModel:
    """Return the model, on the CPU.

    Each encoder's initial weights depend on the seed and its modality's name alone: an encoder starts
    from the same weights in joint and in unimodal training, whatever the order of the modalities.

    Args:
        modalities: backbone and settings by modality.
        fusion: name and settings of the fusion.
        shapes: shape of one input sample by modality.
        num_classes: C.
        seed: the run's seed.
        precision: what encoders and fusion compute in.
        channels_last: whether maps have their channels innermost in memory.

    Raises:
        UsageError: a backbone does not take samples of its modality's shape, or the fusion not these
            backbones.
    """
    encoders: dict[str, Backbone] = {}
    for m, block in modalities.items():
        with seeded(seed, "init", "encoder", m):
            encoders[m] = BACKBONES.load(block.backbone)(block.settings, shapes[m])
        if not channels_last:
            encoders[m].memory_format = torch.contiguous_format
    with seeded(seed, "init", "fusion"):
        head = FUSIONS.load(fusion.name).over(fusion.settings, encoders, num_classes)
    return MultimodalModel(encoders, head, precision)


def load_pretrained(model: MultimodalModel, weights: Mapping[str, str]) -> dict[str, str]:
    """Give encoders their pre-trained weights; what does not fit keeps its initial values.

    Args:
        model: the model, before the first step.
        weights: "imagenet" or a file, by modality.

    Returns:
        Digest of the weights by modality: with recipe, data and seed they decide a run.

    Raises:
        DataError: the weights cannot be had, or are not of this encoder.
    """
    digests = {}
    for m, source in weights.items():
        state = _imagenet() if source == IMAGENET else _file(Path(source))
        encoder = model.encoders[m]
        assert isinstance(encoder, Backbone)
        try:
            encoder.load_pretrained(state)
        except DataError as error:
            raise DataError(f"modalities.{m}.weights = {source}: {error}; give weights of the same backbone") from error
        digests[m] = digest(state)
    return digests


def digest(state: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 over names and values."""
    found = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _imagenet() -> dict[str, Tensor]:
    from torchvision.models import ResNet18_Weights

    try:
        state: dict[str, Tensor] = ResNet18_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise DataError(
            f"the ImageNet weights cannot be downloaded ({error}); on a machine with a network save "
            "torchvision's resnet18 state_dict and name the file: modalities.<modality>.weights=FILE"
        ) from error
    return state


def _file(path: Path) -> dict[str, Tensor]:
    try:
        with open_regular(path) as stream:
            state = read_tensors(stream)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file of pre-trained weights") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); name a file of torch.save") from error
    except ContentsError as error:
        raise DataError(
            f"{path}: no state_dict that loads without running code ({error}); save one with torch.save"
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]  # as many training programs save it
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{path}: not a state_dict: names and tensors are expected")
    return {str(name).removeprefix("module."): _finite(path, name, tensor) for name, tensor in state.items()}


def _finite(path: Path, name: object, tensor: Tensor) -> Tensor:
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise DataError(f"{path}: {name} has values that are not finite; save the weights again")
    return tensor

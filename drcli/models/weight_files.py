"""Pre-trained weights of encoders: from a file, a checkpoint of drcli, or torchvision; nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from urllib.error import URLError

import torch
from torch import Tensor

from drcli import checkpoint
from drcli.data.input import WeightsFile
from drcli.errors import CheckpointError, DataError
from drcli.names import BACKBONES
from drcli.reading import ContentsError, open_regular, parse_json
from drcli.recipe.schema import ModalityBlock, plain
from drcli.safetensors_file import is_safetensors, read_safetensors
from drcli.tensor_file import read_tensors

Source: TypeAlias = str | WeightsFile

IMAGENET = "imagenet"
RESNET18 = "ResNet18_Weights.IMAGENET1K_V1"
_TORCHVISION = re.compile(r"[A-Z]\w*_Weights\.\w+")


@dataclass(frozen=True)
class Weights:
    """Weights of an encoder.

    Attributes:
        tensors: by name.
        backbone: name of the backbone where drcli wrote them, else "".
        settings: of the backbone where drcli wrote them.
    """

    tensors: Mapping[str, Tensor]
    backbone: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


def digest(state: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 over names and values."""
    found = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def spelled(source: Source) -> str:
    """Return a source as a recipe gives it, for messages."""
    if isinstance(source, str):
        return source
    return source.file if source.encoder is None else f"{{file: {source.file}, encoder: {source.encoder}}}"


def named(source: Source) -> str | None:
    """Return the name of torchvision's weights that a source stands for; None where it is a file."""
    if source == IMAGENET:
        return RESNET18
    return source if isinstance(source, str) and _TORCHVISION.fullmatch(source) else None


def read(source: Source) -> Weights:
    """Return weights; those of a name are downloaded.

    Raises:
        DataError: they cannot be had.
    """
    name = named(source)
    if name is not None:
        return Weights(_downloaded(name))
    given = WeightsFile(file=source) if isinstance(source, str) else source
    return _of_file(Path(given.file), given.encoder)


def _downloaded(name: str) -> dict[str, Tensor]:
    from torchvision.models import get_weight

    try:
        state: dict[str, Tensor] = get_weight(name).get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:
        raise DataError(
            f"the weights {name} cannot be downloaded ({error}); on a machine with a network save "
            "torchvision's state_dict and name the file: modalities.<modality>.weights=FILE"
        ) from error
    return state


def _of_file(path: Path, encoder: str | None) -> Weights:
    try:
        with open_regular(path) as stream:
            head = stream.read(9)
            stream.seek(0)
            if is_safetensors(head) or path.suffix == ".safetensors":
                return _exported(path, *read_safetensors(stream), encoder)
            state = read_tensors(stream)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file of pre-trained weights") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); name a file of weights") from error
    except ContentsError as error:
        raise DataError(
            f"{path}: no state_dict that loads without running code ({error}); save one with torch.save, or as "
            ".safetensors"
        ) from error
    if isinstance(state, dict) and "checkpoint_version" in state:
        return _of_checkpoint(path, encoder)
    return Weights(_of_state_dict(path, state, encoder))


def _of_state_dict(path: Path, state: Any, encoder: str | None) -> dict[str, Tensor]:
    """Return the tensors of what other programs save."""
    if encoder is not None:
        raise DataError(f"{path}: not a checkpoint of drcli, so it has no encoder {encoder!a}; leave encoder out")
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]  # as many training programs save it
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(f"{path}: not a state_dict: names and tensors are expected")
    found = {str(name).removeprefix("module."): _finite(path, name, tensor) for name, tensor in state.items()}
    if len(found) < len(state):
        raise DataError(f"{path}: has names twice, with and without module. before them; save one state_dict")
    return found


def _exported(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str], encoder: str | None) -> Weights:
    """Return the weights of a .safetensors; what `drcli export` wrote says of which encoder, and its digest."""
    if "drcli" not in metadata:
        return Weights(_of_state_dict(path, tensors, encoder))
    if encoder not in {None, metadata.get("modality")}:
        raise DataError(f"{path}: holds the encoder of {metadata.get('modality')!a}, not of {encoder!a}")
    kept = {name: _finite(path, name, tensor) for name, tensor in tensors.items()}
    if digest(kept) != metadata.get("digest"):
        raise DataError(f"{path}: damaged (its digest does not match); export the encoder again")
    settings = parse_json(metadata.get("settings", ""))
    if not isinstance(settings, dict) or not metadata.get("backbone"):
        raise DataError(f"{path}: damaged (backbone or settings are missing); export the encoder again")
    return Weights(kept, metadata["backbone"], settings)


def _of_checkpoint(path: Path, encoder: str | None) -> Weights:
    """Return the weights of one encoder of a checkpoint of drcli."""
    try:
        state = checkpoint.load(path)
    except CheckpointError as error:
        raise DataError(str(error)) from error
    blocks = dict(_blocks(state))
    if encoder is None and len(blocks) == 1:
        (encoder,) = blocks
    if encoder is None or encoder not in blocks:
        wanted = "name one" if encoder is None else f"none of {encoder!a}; name one of them"
        example = f"weights={{file: {path}, encoder: {next(iter(blocks), 'audio')}}}"
        raise DataError(f"{path}: holds the encoders of {', '.join(blocks) or 'nothing'}, {wanted}: {example}")
    prefix = f"encoders.{encoder}."
    tensors = {
        name.removeprefix(prefix): _finite(path, name, tensor)
        for name, tensor in state["model"].items()
        if name.startswith(prefix) and isinstance(tensor, Tensor)
    }
    block = blocks[encoder]
    backbone = BACKBONES.load(block["backbone"]) if block["backbone"] in BACKBONES.names() else None
    own = {} if backbone is None else backbone.Settings.model_fields
    return Weights(tensors, block["backbone"], {key: value for key, value in block.items() if key in own})


def _blocks(state: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the encoders of a checkpoint, and their blocks of the recipe; nothing in it is trusted."""
    recipe, names, model = state.get("recipe"), state.get("modalities"), state.get("model")
    blocks = recipe.get("modalities") if isinstance(recipe, dict) else None
    if not isinstance(blocks, dict) or not isinstance(names, list | tuple) or not isinstance(model, dict):
        return
    for m in names:
        block = blocks.get(m) if isinstance(m, str) else None
        if isinstance(block, dict) and isinstance(block.get("backbone"), str):
            yield m, block


def _finite(path: Path, name: object, tensor: Tensor) -> Tensor:
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise DataError(f"{path}: {name} has values that are not finite; save the weights again")
    return tensor


def metadata_of(block: ModalityBlock, tensors: Mapping[str, Tensor], **more: object) -> dict[str, str]:
    """Return what an exported encoder says of itself: texts, JSON where a value is not one.

    Args:
        block: of the modality.
        tensors: the encoder's.
        more: what else is noted.
    """
    notes = {"backbone": block.backbone, "settings": plain(block.settings), "digest": digest(tensors), **more}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in notes.items()}

"""Whether pre-trained weights fit an encoder, said before a download and before data is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeAlias

import torch
from pydantic import BaseModel
from torch import Size, Tensor, nn

from drcli.errors import DataError
from drcli.models.backbone import Backbone, Undrawn
from drcli.models.lora import problem_of, without_adapters
from drcli.models.multimodal import MultimodalModel
from drcli.models.weight_files import RESNET18, Source, Weights, digest, named, read, spelled
from drcli.names import BACKBONES
from drcli.reading import differing
from drcli.recipe.schema import ModalityBlock, plain
from drcli.recipe.text import excerpt

Sizes: TypeAlias = Mapping[str, Size]

_COUNTER = "num_batches_tracked"
"""A buffer of batch normalisation that no result depends on, and that old files of weights lack."""

_NAMED = 3
"""How many tensors a message names."""


def check_named(block: ModalityBlock) -> str | None:
    """Return why torchvision's weights of a recipe do not fit its backbone, without a download; None where they do."""
    name = None if block.input.weights is None else named(block.input.weights)
    if name is None or not _goes_by_names(BACKBONES.load(block.backbone)):
        return None
    try:
        problem = _misfit(_sizes_of(name), block, exact=False)
    except (ValueError, LookupError, StopIteration):
        return f"torchvision has no weights of this name; name some of torchvision's, such as {RESNET18}, or a file"
    return problem and f"does not fit backbone {block.backbone}: {problem}"


def check_lora(block: ModalityBlock) -> str | None:
    """Return why the adapters that a recipe asks for cannot be put on its backbone; None where they can."""
    settings = block.training.lora
    return None if settings is None else problem_of(BACKBONES.load(block.backbone).sketch(block.settings), settings)


def check_files(blocks: Iterable[tuple[str, ModalityBlock]]) -> None:
    """Check that files of weights are there and fit their backbones, before data is read.

    Args:
        blocks: modalities with their blocks.

    Raises:
        DataError: they cannot be read, or are of another backbone; names the modality, the file and the tensors.
    """
    for m, block in blocks:
        source = block.input.weights
        if source is None:
            _own(m, BACKBONES.load(block.backbone), block.settings)
        elif named(source) is None:
            problem = _problem(read(source), block)
            if problem:
                raise _refusal(m, source, problem)


def load_pretrained(model: MultimodalModel, weights: Mapping[str, Source]) -> dict[str, str]:
    """Give encoders their pre-trained weights: those of `weights`, or else those that their own settings name.

    What drcli wrote must fit in every tensor. Of other weights, tensors may differ in shape that depend on a sample's,
    such as a first convolution, which keeps its initial values, and there may be more, such as a classifier's.

    Args:
        model: the model, before the first step.
        weights: their source by modality.

    Returns:
        Digest of the weights by modality: with recipe, data and seed they decide a run.

    Raises:
        DataError: the weights cannot be had, or are not of this encoder.
    """
    digests = {}
    for m, encoder in model.encoders.items():
        assert isinstance(encoder, Backbone)
        source = weights.get(m)
        found = _own(m, type(encoder), encoder.settings) if source is None else read(source)
        if found is None:
            continue
        with without_adapters(encoder):
            _load(m, source, found, encoder)
        digests[m] = digest(found.tensors)
    return digests


def _own(modality: str, backbone: type[Backbone], settings: BaseModel) -> Weights | None:
    """Return the weights that an encoder's own settings name."""
    try:
        return backbone.own_weights(settings)
    except DataError as error:
        raise DataError(f"modalities.{modality}: {error}") from error


def _load(modality: str, source: Source | None, found: Weights, encoder: Backbone) -> None:
    problem = _problem_of_encoder(found, encoder)
    if problem:
        raise _refusal(modality, source, problem)
    try:
        encoder.load_pretrained(found.tensors)
    except DataError as error:
        raise _refusal(modality, source, error) from error


def _refusal(modality: str, source: Source | None, problem: object) -> DataError:
    said = "" if source is None else f".weights = {spelled(source)}"
    return DataError(f"modalities.{modality}{said}: {problem}; give weights of the same backbone")


def _problem(weights: Weights, block: ModalityBlock) -> str | None:
    """Return what is wrong with weights for the backbone of a recipe, whatever its samples; None where they fit."""
    if not weights.backbone:
        is_plain = _goes_by_names(BACKBONES.load(block.backbone))
        return _misfit(_sizes(weights.tensors), block, exact=False) if is_plain else None
    if weights.backbone != block.backbone:
        return f"weights of backbone {excerpt(weights.backbone)}, not {block.backbone}"
    problem = _misfit(_sizes(weights.tensors), block, exact=True)
    changed = [".".join(key) for key, *_ in differing(dict(weights.settings), plain(block.settings))]
    return f"{problem}; its settings differ: {', '.join(changed)}" if problem and changed else problem


def _problem_of_encoder(weights: Weights, encoder: Backbone) -> str | None:
    """Return what is wrong with weights for an encoder; None where they fit."""
    is_exact = bool(weights.backbone)
    if not is_exact and not _goes_by_names(type(encoder)):
        return None
    known = None if is_exact else _skeleton(type(encoder), encoder.settings)
    if known is None and not is_exact:  # how its shapes depend on its samples is not known
        return None
    free = () if known is None else known[1]
    return _compared(_sizes(weights.tensors), _sizes(encoder.state_dict()), free, exact=is_exact)


def _goes_by_names(backbone: type[Backbone]) -> bool:
    """Whether a backbone takes tensors by their names; one of another package may translate them."""
    return backbone.load_pretrained is Backbone.load_pretrained


def _misfit(sizes: Sizes, block: ModalityBlock, *, exact: bool) -> str | None:
    known = _skeleton(BACKBONES.load(block.backbone), block.settings)
    return None if known is None else _compared(sizes, *known, exact=exact)


def _compared(sizes: Sizes, own: Sizes, free: Collection[str], *, exact: bool) -> str | None:
    """Return what is wrong with weights for an encoder; None where they fit.

    Args:
        sizes: shapes of the weights by name.
        own: those of the encoder.
        free: names that may have another shape.
        exact: there may be no other names.
    """
    if exact and any(".lora_" in name for name in sizes.keys() - own.keys()):
        return "they have adapters (lora); drcli export writes a file in which these are merged"
    absent = [name for name in own if name not in sizes and (exact or not name.endswith(_COUNTER))]
    other = [name for name in sizes if exact and name not in own]
    wrong = [name for name in own if name in sizes and sizes[name] != own[name] and name not in free]
    shapes = [f"{excerpt(name)} {tuple(sizes[name])}, where the encoder has {tuple(own[name])}" for name in wrong]
    problems = (
        _listed("it lacks", absent, f" of {len(own)} tensors"),
        _listed("the encoder has no", other, " tensors"),
        _listed("it has", shapes, " other shapes"),
    )
    return "; ".join(filter(None, problems)) or None


def _listed(verb: str, names: list[str], of_what: str) -> str:
    more = f", ..., {len(names)}{of_what}" if len(names) > _NAMED else ""
    return f"{verb} {', '.join(names[:_NAMED])}{more}" if names else ""


def _skeleton(backbone: type[Backbone], settings: BaseModel) -> tuple[Sizes, frozenset[str]] | None:
    """Return an encoder's shapes by name, and the names of those that depend on the shape of its samples."""
    sketch = backbone.sketch(settings)
    if sketch is None:
        return None
    try:
        with torch.device("meta"), Undrawn():
            other = _sizes(backbone.example(settings, 1).state_dict())
    except Exception:  # noqa: BLE001 - a backbone of another package may fail in any way; building it will tell
        return None
    own = _sizes(sketch.state_dict())
    return own, frozenset(name for name, size in own.items() if other.get(name) != size)


def _sizes(tensors: Mapping[str, Tensor]) -> Sizes:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _sizes_of(name: str) -> Sizes:
    """Return the shapes of torchvision's weights, without a download.

    Raises:
        ValueError, LookupError, StopIteration: there are none of this name.
    """
    if name == RESNET18:  # the encoder carries torchvision's names
        backbone = BACKBONES.load("resnet18")
        return _sizes_on_meta(lambda: backbone(backbone.Settings(), (3, 32, 32)))
    from torchvision import models

    wanted = type(models.get_weight(name))
    builder = next(model for model in models.list_models() if models.get_model_weights(model) is wanted)
    return _sizes_on_meta(lambda: models.get_model(builder, weights=None))


def _sizes_on_meta(build: Callable[[], nn.Module]) -> Sizes:
    with torch.device("meta"), Undrawn():
        return _sizes(build().state_dict())

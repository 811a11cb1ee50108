"""Build the model that a recipe describes, with initial weights that are seeded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch

from drcli.models.backbone import Backbone
from drcli.models.lora import adapt
from drcli.models.multimodal import MultimodalModel, Precision
from drcli.models.recompute import recompute
from drcli.names import BACKBONES, FUSIONS
from drcli.recipe.schema import FusionBlock, ModalityBlock
from drcli.recipe.training import EncoderTraining
from drcli.seeding import seeded


def build_model(
    modalities: Mapping[str, ModalityBlock],
    fusion: FusionBlock,
    *,
    shapes: Mapping[str, Sequence[int]],
    num_classes: int,
    seed: int,
    precision: Precision = "fp32",
    channels_last: bool = True,
    vocabularies: Mapping[str, int] = MappingProxyType({}),
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
        vocabularies: number of token ids, by modality whose samples are these.

    Raises:
        UsageError: a backbone does not take samples of its modality's shape, or no token ids, or the fusion not
            these backbones.
    """
    encoders: dict[str, Backbone] = {}
    for m, block in modalities.items():
        with seeded(seed, "init", "encoder", m):
            encoders[m] = BACKBONES.load(block.backbone).for_input(block.settings, shapes[m], vocabularies.get(m, 0))
        if not channels_last:
            encoders[m].memory_format = torch.contiguous_format
    with seeded(seed, "init", "fusion"):
        head = FUSIONS.load(fusion.name).over(fusion.settings, encoders, num_classes)
    for m, block in modalities.items():
        _equip(encoders[m], block.training, seed, m)
    return MultimodalModel(encoders, head, precision)


def _equip(encoder: Backbone, training: EncoderTraining, seed: int, modality: str) -> None:
    """Put on an encoder what a recipe asks for in its training: adapters, and the recomputation of its layers."""
    if training.lora is not None:
        with seeded(seed, "init", "lora", modality):
            adapt(encoder, training.lora)
    if training.checkpointing:
        recompute(encoder)

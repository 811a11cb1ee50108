"""Encoders (one backbone a file), fusion, and the multimodal classifier over them."""

from drcli.registry import Entry, Registry

BACKBONES = Registry(
    "backbone",
    {
        "resnet18": Entry("drcli.models.resnet18:ResNet18", "ResNet-18 for 1, 2 or 3 channels, frames folded; 512-d"),
        "resnet_small": Entry("drcli.models.resnet_small:ResNetSmall", "3 stages of one block, width 16; 64-d"),
        "transformer": Entry("drcli.models.transformer:Transformer", "encoder for sequences (L, D); padding is masked"),
    },
    group="drcli.backbones",
)

FUSIONS = Registry(
    "fusion",
    {
        "concat": Entry("drcli.models.fusion:Concat", "one linear layer on the concatenated features"),
        "sum": Entry("drcli.models.fusion:Sum", "one linear layer a modality, logits added"),
    },
    group="drcli.fusions",
)

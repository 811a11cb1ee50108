"""Encoders (one backbone a file), fusion, and the multimodal classifier over them."""

from drcli.registry import Entry, Registry

BACKBONES = Registry(
    "backbone",
    {
        "resnet18": Entry("drcli.models.resnet18:ResNet18", "ResNet-18, any number of channels, frames folded; 512-d"),
        "resnet_small": Entry("drcli.models.resnet_small:ResNetSmall", "3 stages of one block, width 16; 64-d"),
        "transformer": Entry("drcli.models.transformer:Transformer", "encoder for sequences (L, D); padding is masked"),
        "vit": Entry("drcli.models.vit:ViT", "vision transformer for pictures, clips and spectrograms"),
    },
    group="drcli.backbones",
)

FUSIONS = Registry(
    "fusion",
    {
        "concat": Entry("drcli.models.fusion:Concat", "one linear layer on the concatenated features"),
        "sum": Entry("drcli.models.fusion:Sum", "one linear layer a modality, logits added"),
        "mmtm": Entry("drcli.models.mmtm:MmtmFusion", "gates that see all modalities, between the encoders' stages"),
        "centralnet": Entry("drcli.models.centralnet:CentralNet", "a central network that reads every stage's maps"),
        "film": Entry("drcli.models.film:Film", "one modality scales and shifts the other's features; two modalities"),
        "gated": Entry("drcli.models.gated:Gated", "one modality gates the other's features; two modalities"),
        "mbt": Entry("drcli.models.mbt:Mbt", "layers of transformers exchange through bottleneck tokens"),
    },
    group="drcli.fusions",
)

"""What a recipe can name: methods, backbones, fusions and datasets, each with the class behind it.

Importing this imports no class, and nothing heavy: a name is "module:Class" until `load` is called.
Other packages add names through the entry points `drcli.methods`, `drcli.backbones`, `drcli.fusions` and
`drcli.datasets`; tests and notebooks through `registered`.
"""

from drcli.registry import Entry, Registry

TEACHERS = "teachers"
"""What a method lists in `requires` to have one unimodal run per modality trained before it."""

METHODS = Registry(
    "method",
    {
        "joint": Entry("drcli.methods.base:Method", "joint training: one cross-entropy on the fused logits"),
        "unimodal": Entry("drcli.methods.base:Unimodal", "each encoder trained alone, one run per modality"),
        "diagnose_relearn": Entry(
            "drcli.methods.diagnose_relearn:DiagnoseRelearn",
            "D&R: periodic diagnosis, soft re-initialisation",
        ),
        "multi_loss": Entry("drcli.methods.multi_loss:MultiLoss", "fused loss plus one loss per modality"),
        "g_blending": Entry(
            "drcli.methods.g_blending:GBlending", "losses blended by how their heads generalise and overfit"
        ),
        "ensemble": Entry("drcli.methods.ensemble:Ensemble", "unimodal runs, their probabilities averaged"),
        "uni_pretrained": Entry(
            "drcli.methods.uni_pretrained:UniPretrained", "a new fusion over unimodal runs' encoders, frozen or not"
        ),
        "pmr": Entry("drcli.methods.pmr:PMR", "losses on class prototypes for the weaker modalities"),
        "agm": Entry("drcli.methods.agm:AGM", "gradients scaled through each modality's part of the logits"),
        "ogm": Entry("drcli.methods.ogm:Ogm", "gradients of the leading encoders are reduced"),
        "ogm_ge": Entry("drcli.methods.ogm:OgmGe", "OGM with noise on the gradients"),
        "greedy": Entry("drcli.methods.greedy:Greedy", "curation: gates of the faster modality held constant"),
        "umt": Entry("drcli.methods.umt:UMT", "features drawn to those of encoders trained alone"),
        "mslr": Entry("drcli.methods.mslr:MSLR", "every modality has a learning rate of its own"),
        "g2d": Entry("drcli.methods.g2d:G2D", "distilled from unimodal runs; the strongest stands still first"),
        "cggm": Entry("drcli.methods.cggm:CGGM", "gradients follow small classifiers, in size and direction"),
        "modality_dropout": Entry(
            "drcli.methods.modality_dropout:ModalityDropout", "whole modalities of training samples left out at random"
        ),
        "qmf": Entry("drcli.methods.qmf:QMF", "unimodal logits weighted by their energy, sample by sample"),
        "pdf": Entry("drcli.methods.pdf:PDF", "unimodal logits weighted by predicted confidences"),
        "iprm": Entry("drcli.methods.iprm:IPRM", "a mixture of two modalities that leans to the one it resembles less"),
        "amss": Entry("drcli.methods.amss:AMSS", "gradients of a part of each encoder, smaller for the stronger"),
    },
    group="drcli.methods",
)

BACKBONES = Registry(
    "backbone",
    {
        "resnet18": Entry("drcli.models.resnet:ResNet18", "ResNet-18, any number of channels, frames folded; 512-d"),
        "resnet_small": Entry("drcli.models.resnet:ResNetSmall", "3 stages of one block, width 16; 64-d"),
        "transformer": Entry("drcli.models.transformer:Transformer", "encoder for sequences (L, D); padding is masked"),
        "vit": Entry("drcli.models.transformer:ViT", "vision transformer for pictures, clips and spectrograms"),
    },
    group="drcli.backbones",
)

FUSIONS = Registry(
    "fusion",
    {
        "concat": Entry("drcli.models.fusion:Concat", "one linear layer on the concatenated features"),
        "sum": Entry("drcli.models.fusion:Sum", "one linear layer per modality, logits added"),
        "mmtm": Entry("drcli.models.mmtm:MmtmFusion", "gates that see all modalities, between the encoders' stages"),
        "centralnet": Entry("drcli.models.centralnet:CentralNet", "a central network that reads every stage's maps"),
        "film": Entry("drcli.models.pair:Film", "one modality scales and shifts the other's features; two modalities"),
        "gated": Entry("drcli.models.pair:Gated", "one modality gates the other's features; two modalities"),
        "mbt": Entry("drcli.models.mbt:Mbt", "layers of transformers exchange through bottleneck tokens"),
    },
    group="drcli.fusions",
)

DATASETS = Registry(
    "dataset",
    {
        "digits": Entry("data_prep.digits:Digits", "handwritten digits, telephone tones; embedded, no download"),
        "avmnist": Entry("data_prep.avmnist:Avmnist", "MNIST images, spoken digits (FSDD); paired within class"),
        "cremad": Entry("data_prep.cremad:Cremad", "CREMA-D: six acted emotions; audio, visual"),
        "cmu_mosi": Entry("data_prep.cmu_mosi:CmuMosi", "CMU-MOSI: opinions as text, audio and visual sequences"),
        "kinetics_sounds": Entry(
            "data_prep.kinetics_sounds:KineticsSounds", "31 classes of Kinetics-400; audio, visual"
        ),
        "ucf101": Entry("data_prep.ucf101:Ucf101", "101 actions; RGB pictures and optical flow"),
        "arrays": Entry("data_prep.arrays:Arrays", "your own arrays, from train.npz, val.npz and test.npz"),
    },
    group="drcli.datasets",
)

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
        "joint": Entry(
            "drcli.methods.base:Method", "joint training: one cross-entropy on the fused logits", modalities="1+"
        ),
        "unimodal": Entry(
            "drcli.methods.base:Unimodal", "each encoder trained alone, one run per modality", modalities="1+"
        ),
        "diagnose_relearn": Entry(
            "drcli.methods.diagnose_relearn:DiagnoseRelearn",
            "D&R: periodic diagnosis, soft re-initialisation",
            2024,
            "1+",
        ),
        "multi_loss": Entry(
            "drcli.methods.multi_loss:MultiLoss", "fused loss plus one loss per modality", modalities="1+"
        ),
        "g_blending": Entry(
            "drcli.methods.g_blending:GBlending",
            "losses blended by how their heads generalise and overfit",
            2020,
            "2+",
        ),
        "ensemble": Entry(
            "drcli.methods.ensemble:Ensemble", "unimodal runs, their probabilities averaged", modalities="1+"
        ),
        "uni_pretrained": Entry(
            "drcli.methods.uni_pretrained:UniPretrained",
            "a new fusion over unimodal runs' encoders, frozen or not",
            modalities="1+",
        ),
        "pmr": Entry("drcli.methods.pmr:PMR", "losses on class prototypes for the weaker modalities", 2023, "1+"),
        "agm": Entry(
            "drcli.methods.agm:AGM", "gradients scaled through each modality's part of the logits", 2023, "1+"
        ),
        "ogm": Entry("drcli.methods.ogm:Ogm", "gradients of the leading encoders are reduced", 2022, "1+"),
        "ogm_ge": Entry("drcli.methods.ogm:OgmGe", "OGM with noise on the gradients", 2022, "1+"),
        "greedy": Entry(
            "drcli.methods.greedy:Greedy", "curation: gates of the faster modality held constant", 2022, "2"
        ),
        "mmpareto": Entry(
            "drcli.methods.mmpareto:MMPareto",
            "fused and unimodal gradient of each encoder, without conflict",
            2024,
            "1+",
        ),
        "mlb": Entry(
            "drcli.methods.mlb:MLB",
            "multi-loss; gradients raised for modalities behind, reduced for those ahead",
            2024,
            "1+",
        ),
        "dgl": Entry(
            "drcli.methods.dgl:DGL", "encoders learn from unimodal losses, the fusion from the fused loss", 2025, "1+"
        ),
        "arl": Entry(
            "drcli.methods.arl:ARL", "encoders' gradients raised by dominance of the others and confidence", 2025, "1+"
        ),
        "opm": Entry("drcli.methods.opm:OPM", "features of the leading modalities are dropped at random", 2024, "1+"),
        "inforeg": Entry(
            "drcli.methods.inforeg:InfoReg",
            "encoders ahead are pulled back to the start of the epoch, early on",
            2025,
            "1+",
        ),
        "tcmax": Entry(
            "drcli.methods.tcmax:TCMax",
            "a bound of the total correlation of modalities and label as the loss",
            2026,
            "1+",
        ),
        "mla": Entry("drcli.methods.mla:MLA", "modalities take turns through one shared head", 2024, "1+"),
        "reconboost": Entry(
            "drcli.methods.reconboost:ReconBoost",
            "modalities boosted in stages, each on what the others leave",
            2024,
            "2+",
        ),
        "lfm": Entry("drcli.methods.lfm:LFM", "alignment of predictions first, classification later", 2024, "1+"),
        "smv": Entry(
            "drcli.methods.smv:SMV",
            "rows trained on again without some modalities, by their Shapley values",
            2024,
            "2+",
        ),
        "data_remixing": Entry(
            "drcli.methods.data_remixing:DataRemixing",
            "every row trains the modality that is least certain of it",
            2025,
            "2+",
        ),
        "aug": Entry(
            "drcli.methods.aug:AUG", "the weakest modality gets classifiers for what its earlier ones leave", 2025, "1+"
        ),
        "di_mml": Entry(
            "drcli.methods.di_mml:DIMML",
            "encoders detached from the fusion, one-way contrasts between them",
            2024,
            "2+",
        ),
        "umt": Entry("drcli.methods.umt:UMT", "features drawn to those of encoders trained alone", 2023, "1+"),
        "mslr": Entry("drcli.methods.mslr:MSLR", "every modality has a learning rate of its own", 2022, "1+"),
        "g2d": Entry(
            "drcli.methods.g2d:G2D", "distilled from unimodal runs; the strongest stands still first", 2025, "1+"
        ),
        "cggm": Entry(
            "drcli.methods.cggm:CGGM", "gradients follow small classifiers, in size and direction", 2024, "2+"
        ),
        "modality_dropout": Entry(
            "drcli.methods.modality_dropout:ModalityDropout",
            "whole modalities of training samples left out at random",
            2016,
            "1+",
        ),
        "qmf": Entry("drcli.methods.qmf:QMF", "unimodal logits weighted by their energy, sample by sample", 2023, "1+"),
        "pdf": Entry("drcli.methods.pdf:PDF", "unimodal logits weighted by predicted confidences", 2024, "1+"),
        "iprm": Entry(
            "drcli.methods.iprm:IPRM", "a mixture of two modalities that leans to the one it resembles less", 2025, "2"
        ),
        "mcr": Entry(
            "drcli.methods.mcr:MCR",
            "each modality shall matter to the prediction: a regulariser by permutations",
            2025,
            "1+",
        ),
        "cml": Entry("drcli.methods.cml:CML", "confidence shall not rise as modalities are taken away", 2023, "1+"),
        "mmcosine": Entry(
            "drcli.methods.mmcosine:MMCosine",
            "logits are cosines of features and weights, in training and prediction",
            2023,
            "1+",
        ),
        "amss": Entry(
            "drcli.methods.amss:AMSS", "gradients of a part of each encoder, smaller for the stronger", 2024, "1+"
        ),
    },
    group="drcli.methods",
)
"""With the year of publication and the number of modalities, which a test compares with those of the classes."""

BACKBONES = Registry(
    "backbone",
    {
        "resnet18": Entry("drcli.models.resnet:ResNet18", "ResNet-18, any number of channels, frames folded; 512-d"),
        "resnet_small": Entry("drcli.models.resnet:ResNetSmall", "3 stages of one block, width 16; 64-d"),
        "mlp": Entry("drcli.models.mlp:Mlp", "multilayer perceptron for vectors (D,); other samples are flattened"),
        "transformer": Entry("drcli.models.transformer:Transformer", "encoder for sequences (L, D); padding is masked"),
        "vit": Entry("drcli.models.transformer:ViT", "vision transformer for pictures, clips and spectrograms"),
        "token_transformer": Entry(
            "drcli.models.text:TokenTransformer", "transformer over the token ids of a text; padding is masked"
        ),
        "token_bag": Entry("drcli.models.text:TokenBag", "mean of the embeddings of a text's tokens, in no order"),
        "timm": Entry("drcli.models.timm_encoder:Timm", "a model of timm by name, for pictures and clips; extra: timm"),
        "transformers": Entry(
            "drcli.models.transformers_encoder:Transformers",
            "a model of transformers by its folder or name; extra: transformers",
        ),
        "module": Entry("drcli.models.module_encoder:Module", "a class of your own, named as package.module:Class"),
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
        "late_transformer": Entry(
            "drcli.models.late_transformer:LateTransformer", "a transformer over one token per modality (SimBaMM)"
        ),
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
        "cmu_mosei": Entry("data_prep.cmu_mosei:CmuMosei", "CMU-MOSEI: opinions as text, audio and visual sequences"),
        "ur_funny": Entry("data_prep.ur_funny:UrFunny", "UR-FUNNY: punchlines as text, audio and visual sequences"),
        "mustard": Entry("data_prep.mustard:Mustard", "MUStARD: sarcasm as text, audio and visual sequences"),
        "kinetics_sounds": Entry(
            "data_prep.kinetics_sounds:KineticsSounds", "31 classes of Kinetics-400; audio, visual"
        ),
        "ave": Entry("data_prep.ave:Ave", "AVE: 28 events in videos of ten seconds; audio, visual"),
        "vggsound": Entry("data_prep.vggsound:VggSound", "VGGSound: 309 classes of sounds; audio, visual"),
        "ucf101": Entry("data_prep.ucf101:Ucf101", "101 actions; RGB pictures and optical flow"),
        "wikipedia": Entry(
            "data_prep.wikipedia:Wikipedia", "Wikipedia's articles: features of text and picture; ten categories"
        ),
        "food101": Entry("data_prep.food101:Food101", "UPMC Food-101: pictures of 101 dishes; visual, text"),
        "mvsa_single": Entry("data_prep.mvsa:MvsaSingle", "MVSA-Single: moods of tweets; visual, text"),
        "arrays": Entry("data_prep.arrays:Arrays", "your own arrays, from train.npz, val.npz and test.npz"),
    },
    group="drcli.datasets",
)

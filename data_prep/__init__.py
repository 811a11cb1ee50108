"""From the official download to a prepared dataset: one file a dataset, over shared parts.

Nothing here imports training code; `drcli.data.format` is the meeting point.
"""

from drcli.registry import Entry, Registry

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

"""From the official download to a prepared dataset: one file a dataset, over shared parts.

Nothing here imports training code; `drcli.data.format` is the meeting point.
"""

from drcli.registry import Entry, Registry

DATASETS = Registry(
    "dataset",
    {
        "digits": Entry("data_prep.digits:Digits", "handwritten digits, telephone tones; embedded, no download"),
        "avmnist": Entry("data_prep.avmnist:Avmnist", "MNIST images, spoken digits (FSDD); paired within class"),
    },
    group="drcli.datasets",
)

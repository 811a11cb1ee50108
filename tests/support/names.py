"""The names that recipes over made-up data need; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from drcli.names import BACKBONES, DATASETS


@contextmanager
def toy_names() -> Iterator[None]:
    """The dataset "toy" and the backbone "tiny" are registered, as somebody's plug-in would do it."""
    with DATASETS.registered("toy", "support.toy:Toy"), BACKBONES.registered("tiny", "support.tiny:Tiny"):
        yield


OF_TEXT = ("token_transformer", "token_bag")
"""Backbones whose samples are token ids."""

FOREIGN = ("timm", "transformers", "module")
"""Backbones that stand for models of other packages."""

OF_NUMBERS = [name for name in BACKBONES.names() if name not in {*OF_TEXT, *FOREIGN}]

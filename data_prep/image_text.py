"""Datasets of pictures with a text each: what Food-101 and MVSA share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_prep.clip_preparer import Chosen, ClipPreparer
from data_prep.files.folders import find_files
from data_prep.job import Job
from data_prep.media.flow import opencv
from data_prep.media.pictures import IMAGENET
from data_prep.sources.image_folders import read_image, resize_image
from data_prep.texts.hashing import PAD, token_ids
from data_prep.texts.pretrained import Pretrained, tokenizer_file
from data_prep.texts.tfidf import tfidf
from data_prep.writing.clips import ArraySpec, Clip, Outcome
from data_prep.writing.selection import Search, limit_clips, report_missing
from data_prep.writing.writer import DatasetWriter
from drcli.amounts import counted

SUFFIXES = frozenset({".jpg", ".jpeg"})
KINDS = ".jpg files"

HASHING = "hashing"
"""The tokenizer that needs no file."""


@dataclass(frozen=True)
class Pair(Clip):
    """A picture with its text.

    Attributes:
        path: the picture.
        text: in one line.
    """

    path: Path
    text: str


class ImageText(ClipPreparer):
    """Makes `visual` (1, 3, H, W) of a picture, and `text`, token ids (L,) or a vector (D,), of its text."""

    class Settings(ClipPreparer.Settings):
        """The recipe's `dataset.prepare` block."""

        picture_size: int = Field(
            256, ge=16, le=4096, description="height and width of stored pictures, in pixels; the longer side is cut"
        )
        text: Literal["tokens", "tfidf"] = Field(
            "tokens",
            description="tokens: ids of tokens, by `tokenizer`; tfidf: TF-IDF, reduced, fitted on train alone",
        )
        tokenizer: str = Field(
            HASHING,
            min_length=1,
            description="what makes token ids; hashing: a digest of each word; else the fast tokenizer of a model: a "
            "folder with tokenizer.json, or the model's name in the user's cache, such as bert-base-uncased",
        )
        vocabulary: int = Field(
            30_000, ge=2, le=2**24, description="number of ids of tokenizer: hashing; words share them beyond that"
        )
        max_length: int = Field(
            40, ge=1, le=10_000, description="number of tokens of a text that are kept, from its beginning"
        )
        tfidf_dims: int = Field(
            300, ge=1, le=10_000, description="numbers that text: tfidf is reduced to, by a truncated SVD"
        )
        seed: int = Field(0, ge=0, le=2**63 - 1, description="seed of drawn splits, and of the choice under --limit")

    settings: Settings

    def tokenizer_files(self) -> list[Path]:
        """The file of a pre-trained tokenizer, where one is asked for: what a fingerprint has to count in.

        Raises:
            DrcliError: it is not there, or cannot be read.
        """
        chosen = self.settings
        return [] if chosen.text != "tokens" or chosen.tokenizer == HASHING else [tokenizer_file(chosen.tokenizer)]

    def work(self) -> Work:
        """What reads a picture."""
        return Work(self.settings.picture_size)

    def specs(self) -> dict[str, ArraySpec]:
        """Pictures; texts are added when all rows are known."""
        size = self.settings.picture_size
        return {"visual": ArraySpec((1, 3, size, size), "uint8", kind="frames", statistics=IMAGENET)}

    def versions(self) -> dict[str, str]:
        """Versions of what reads pictures, and of what makes numbers of texts.

        Raises:
            DrcliError: a package or the tokenizer is missing, or the tokenizer cannot be used.
        """
        found = {**super().versions(), "opencv": str(opencv().__version__)}
        if self.settings.text == "tfidf":
            return {**found, "scikit-learn": version("scikit-learn")}
        if self.settings.tokenizer == HASHING:
            return found
        Pretrained(self.settings.tokenizer, self.settings.max_length)  # refused before hours of pictures, if at all
        return {**found, "tokenizers": version("tokenizers")}

    def chosen(
        self, job: Job, pairs: Mapping[str, Sequence[Pair]], classes: tuple[str, ...], source: Mapping[str, Any]
    ) -> Chosen:
        """The pairs whose pictures are there, within the limit; warns of those that are missing.

        Args:
            job: the preparation.
            pairs: the listed ones, by split; the pictures of some may be missing.
            classes: class names in index order.
            source: what `dataset.json` says of the source besides `missing`.

        Raises:
            DataError: none of the listed pictures of a split was found.
        """
        there = [pair for part in pairs.values() for pair in part if pair.path.is_file()]
        names = {split: [pair.path.name for pair in part] for split, part in pairs.items()}
        Search(job.download, names, lambda: find_files(job.download, SUFFIXES), KINDS).check(there)
        listed = {split: dict(Counter(classes[pair.label] for pair in part)) for split, part in pairs.items()}
        missing = report_missing(listed, there, classes, job.warn)
        kept = limit_clips(there, classes, job, seed=self.settings.seed)
        return Chosen(kept, classes, {"missing": missing, **source})

    def complete(self, job: Job, writer: DatasetWriter, chosen: Chosen) -> Mapping[str, Any]:
        """Add the texts of the stored pictures, TF-IDF fitted on those of train."""
        by_id = {pair.id: pair.text for pair in chosen.clips if isinstance(pair, Pair)}
        texts = {split: [by_id[name] for name in part.names] for split, part in writer.splits.items()}
        empty = {split: sum(not text for text in part) for split, part in texts.items()}
        if any(empty.values()):
            number = counted(sum(empty.values()), "empty text")
            job.warn(f"{number}: {', '.join(f'{n} {split}' for split, n in empty.items())}")
        counts = {"empty_texts": empty}
        if self.settings.text == "tfidf":
            vectors = tfidf(texts, self.settings.tfidf_dims)
            for split, part in writer.splits.items():
                part.array("text", (self.settings.tfidf_dims,), "float32", kind="vector")[:] = vectors[split]
            return counts
        return {**counts, **self._add_ids(writer, texts)}

    def _add_ids(self, writer: DatasetWriter, texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Write the token ids of all splits; returns how many texts were cut, and which tokenizer made them."""
        length, size, pad, about = self.settings.max_length, self.settings.vocabulary, PAD, dict[str, Any]()
        encode: Callable[[Sequence[str]], Any] = partial(token_ids, vocabulary=size, length=length)
        if self.settings.tokenizer != HASHING:
            found = Pretrained(self.settings.tokenizer, length)
            size, pad, encode, about = found.vocabulary, found.pad, found.token_ids, {"tokenizer": found.digest}
        cuts = {}
        for split, part in writer.splits.items():
            ids, lengths, cuts[split] = encode(texts[split])
            part.tokens("text", length, vocabulary=size, pad=pad)[:] = ids
            part.lengths("text", lengths)
        return {"cut_texts": cuts, **about}


@dataclass(frozen=True)
class Work:
    """From a picture to its row.

    Attributes:
        size: height and width, in pixels.
    """

    size: int

    def __call__(self, pair: Pair) -> Outcome:
        """Read a picture.

        Raises:
            ClipError: it is damaged, or no JPEG.
        """
        return Outcome({"visual": covered(read_image(pair.path), self.size).transpose(2, 0, 1)[None]})


def covered(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The middle of a picture (H, W, 3), as a square that its shorter side fills, at (size, size)."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resize_image(np.ascontiguousarray(image[top : top + side, left : left + side]), (size, size))

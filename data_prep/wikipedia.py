"""wikipedia: sections of Wikipedia's featured articles, each with its picture, in ten categories.

Rasiwasia et al. 2010, "A new approach to cross-modal multimedia retrieval", as features that are published with the
articles: words of the text (TF-IDF of 1,000 words, or LDA of 10 topics) and a bag of 128 SIFT words of the picture.
The official split has no validation part: it is drawn from the training part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import Field

from data_prep.base import DownloadPreparer, Filled
from data_prep.job import Job
from data_prep.sources.wikipedia_files import CATEGORIES, OFFICIAL, Part, Text, read_parts, source_files
from data_prep.writing.provenance import content_digest
from data_prep.writing.repeated import report_repeated
from data_prep.writing.splits import Indices, check_classes, limit_splits, row_generator, stratified_split
from data_prep.writing.writer import DatasetWriter, SplitWriter
from drcli.data.format import SPLITS


class Wikipedia(DownloadPreparer):
    """Text and picture of an article's section, as vectors: `text` (1000,) or (10,), `visual` (128,)."""

    name = "wikipedia"

    class Settings(DownloadPreparer.Settings):
        """The recipe's `dataset.prepare` block."""

        text: Text = Field("tfidf", description="tfidf: weights of 1,000 words; lda: shares of 10 topics")
        val_share: float = Field(
            0.2, gt=0, lt=1, description="part of the official training part that is the validation split"
        )
        seed: int = Field(
            0,
            ge=0,
            le=2**63 - 1,
            description="seed of the validation split, and of the choice of documents under --limit",
        )

    settings: Settings

    def fingerprint(self, source: Path) -> str:
        """Digest of the features and lists, by name and content."""
        lines = (f"{path.name!r} {content_digest(path)}\n" for path in source_files(source))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def fill(self, job: Job) -> Filled:
        """Draw the validation split and copy the rows."""
        path, parts = read_parts(job.download, self.settings.text)
        for part in parts.values():
            if len(part.ids) != OFFICIAL[part.name]:
                job.warn(f"{part.path}: {len(part.ids)} documents; the official {part.name} has {OFFICIAL[part.name]}")
        origins = {"train": parts["train"], "val": parts["train"], "test": parts["test"]}
        writer, written = DatasetWriter(job.out, name=self.name, classes=CATEGORIES), dict[str, SplitWriter]()
        for split, rows in self._choose(parts, job).items():
            written[split] = copy_rows(writer, split, origins[split], rows)
            job.progress(f"wikipedia: {split}", len(rows), len(rows))
        repeated = report_repeated(written, {split: part.path.name for split, part in origins.items()}, job.warn)
        files = {"features": path.name, **{name: part.path.name for name, part in parts.items()}}
        return Filled(writer, {"files": files, "repeated": repeated})

    def _choose(self, parts: Mapping[str, Part], job: Job) -> dict[str, Indices]:
        """Row numbers by split, those of train and val in the official training part."""
        train, test = parts["train"].labels, parts["test"].labels
        size = round(self.settings.val_share * len(train))
        drawn = stratified_split(
            train, {"train": len(train) - size, "val": size}, row_generator(self.settings.seed, "split")
        )
        labels = np.concatenate([train, test])
        members = {**drawn, "test": len(train) + np.arange(len(test))}
        kept = limit_splits(members, labels, job.limit, row_generator(self.settings.seed, "limit"))
        check_classes(kept, labels, CATEGORIES, job.warn)
        return {split: kept[split] - (len(train) if split == "test" else 0) for split in SPLITS}


def copy_rows(writer: DatasetWriter, split: str, part: Part, rows: Indices) -> SplitWriter:
    """Write some rows of a part as a split."""
    written = writer.split(split, labels=part.labels[rows].tolist(), ids=[part.ids[row] for row in rows.tolist()])
    for m, matrix in part.features.items():
        written.array(m, matrix.shape[1:], "float32", kind="vector")[:] = matrix[rows]
    return written

"""food101: UPMC Food-101, pictures of dishes with the titles of the pages that they are from (Wang et al. 2015).

Not ETHZ's Food-101, which has the same classes, other pictures and no text. The name of the dish is in most titles,
so that the text says far more than the picture. The lists of titles have no validation part: `val_share` of train
becomes one; the JSON lines of later work (MMBT, QMF) have dev.jsonl.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from data_prep.clip_preparer import Chosen
from data_prep.image_text import ImageText, Pair
from data_prep.job import Job
from data_prep.sources.food101_lists import NUM_CLASSES, Titled, class_names, list_paths, read_list
from data_prep.sources.listfiles import refuse_doubles
from data_prep.texts.reading import Reading
from data_prep.writing.provenance import fingerprint
from data_prep.writing.splits import row_generator, stratified_split
from drcli.data.format import SPLITS

FOLDERS = {"train": "train", "val": "train", "test": "test"}
"""Folder of the pictures of each split; the later work's val is a part of train."""


class Food101(ImageText):
    """Dishes, `visual` (1, 3, H, W) and `text`, token ids (L,) or a vector (D,)."""

    name = "food101"

    class Settings(ImageText.Settings):
        """The recipe's `dataset.prepare` block."""

        lists_dir: Path | None = Field(
            None,
            description="folder of train_titles.csv and test_titles.csv, or of train.jsonl, dev.jsonl and "
            "test.jsonl; null: that of the download",
        )
        val_share: float = Field(
            0.08, gt=0, lt=1, description="part of train that becomes the validation split where no list gives one"
        )

    settings: Settings

    def fingerprint(self, source: Path) -> str:
        """Digest of the lists by content, and of the listed pictures by name and size."""
        paths = list_paths(source, self.settings.lists_dir)
        lists = {split: read_list(path, Reading()) for split, path in paths.items()}
        pictures = [picture(source, split, row) for split, rows in lists.items() for row in rows]
        given = [*paths.values(), *self.tokenizer_files()]
        return fingerprint(source, [path for path in pictures if path.is_file()], given)

    def choose(self, job: Job) -> Chosen:
        """Find the listed pictures."""
        reading = Reading()
        paths = list_paths(job.download, self.settings.lists_dir)
        lists = {split: read_list(path, reading) for split, path in paths.items()}
        refuse_doubles((row.name, row.where) for rows in lists.values() for row in rows)
        reading.report(job.warn)
        classes = class_names(lists)
        if len(classes) != NUM_CLASSES:
            job.warn(f"the lists have {len(classes)} classes, Food-101 has {NUM_CLASSES}")
        indices = {name: index for index, name in enumerate(classes)}
        pairs = {
            split: [
                Pair(row.name.rsplit(".", 1)[0], indices[row.label], split, picture(job.download, split, row), row.text)
                for row in rows
            ]
            for split, rows in self._with_val(lists, indices).items()
        }
        return self.chosen(job, pairs, classes, {"texts": reading.source()})

    def _with_val(
        self, lists: Mapping[str, Sequence[Titled]], indices: Mapping[str, int]
    ) -> dict[str, Sequence[Titled]]:
        """The three splits; val is drawn from train where no list gives it."""
        if "val" in lists:
            return {split: lists[split] for split in SPLITS}
        rows = lists["train"]
        labels = np.array([indices[row.label] for row in rows], np.int64)
        size = round(self.settings.val_share * len(rows))
        parts = stratified_split(
            labels, {"train": len(rows) - size, "val": size}, row_generator(self.settings.seed, "split")
        )
        drawn = {split: [rows[index] for index in members.tolist()] for split, members in parts.items()}
        return {**drawn, "test": lists["test"]}


def picture(source: Path, split: str, row: Titled) -> Path:
    """Where the picture of a row is: images/{train,test}/<class>/<name>."""
    return source / "images" / FOLDERS[split] / row.label / row.name

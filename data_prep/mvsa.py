"""mvsa_single: tweets with a picture, in three moods (Niu et al. 2016).

Text and picture have a label each; `labelling` makes one of two. There is no official split: one is drawn, pairs with
the same picture, byte for byte, together, since some pictures are there several times, under several labels;
`lists_dir` takes QMF's lists. A quarter of the texts is GB18030, the others are ASCII or UTF-8.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from data_prep.clip_preparer import Chosen
from data_prep.files.opening import read_file
from data_prep.image_text import ImageText, Pair
from data_prep.job import Job
from data_prep.sources.image_folders import LARGEST_FILE
from data_prep.sources.mvsa_files import CLASSES, Rule, find_labels, labels_of, list_paths, read_labels, read_lists
from data_prep.texts.reading import Reading
from data_prep.writing.provenance import fingerprint
from data_prep.writing.splits import row_generator, share_out, stratified_order
from drcli.amounts import counted
from drcli.data.format import SPLITS
from drcli.errors import DataError

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}
"""Of the literature's split (QMF: 1,555 / 518 / 519)."""

_LONGEST_TEXT = 10**6  # bytes


class MvsaSingle(ImageText):
    """Tweets, `visual` (1, 3, H, W) and `text`, token ids (L,) or a vector (D,)."""

    name = "mvsa_single"

    class Settings(ImageText.Settings):
        """The recipe's `dataset.prepare` block."""

        labelling: Rule = Field(
            "agreed",
            description="agreed: pairs whose text and picture have one label (2,592); majority: neutral yields to the "
            "other label, positive with negative is left out (4,511)",
        )
        lists_dir: Path | None = Field(
            None, description="folder of QMF's train.jsonl, dev.jsonl and test.jsonl; null: a split is drawn, 60/20/20"
        )

    settings: Settings

    def fingerprint(self, source: Path) -> str:
        """Digest of labels and lists by content, and of pictures and texts by name and size."""
        path = find_labels(source)
        folder = path.parent / "data"
        names = [folder / f"{tweet.id}{suffix}" for tweet in read_labels(path) for suffix in (".jpg", ".txt")]
        lists = list_paths(self.settings.lists_dir) if self.settings.lists_dir else []
        given = [path, *lists, *self.tokenizer_files()]
        return fingerprint(source, [name for name in names if name.is_file()], given)

    def choose(self, job: Job) -> Chosen:
        """Label the pairs, read their texts, and divide them."""
        path = find_labels(job.download)
        folder, reading = path.parent / "data", Reading()
        labels = labels_of(read_labels(path), self.settings.labelling)
        splits = self._splits(labels, folder, job)
        pairs = {
            split: [
                Pair(name, CLASSES.index(labels[name]), split, folder / f"{name}.jpg", read_text(folder, name, reading))
                for name in names
            ]
            for split, names in splits.items()
        }
        reading.report(job.warn)
        shared = shared_pictures(pairs)
        for key, count in shared.items():
            job.warn(f"{key}: {counted(count, 'picture')} in both, byte for byte")
        return self.chosen(job, pairs, CLASSES, {"texts": reading.source(), "shared_pictures": shared})

    def _splits(self, labels: Mapping[str, str], folder: Path, job: Job) -> dict[str, list[str]]:
        """Numbers by split."""
        if self.settings.lists_dir is None:
            return draw_splits(labels, folder, self.settings.seed)
        lists = read_lists(self.settings.lists_dir)
        for part in lists.values():
            for name, where in part.items():
                if name not in labels:
                    raise DataError(
                        f"{where}: pair {name} has no label under dataset.prepare.labelling = "
                        f"{self.settings.labelling}; the lists are made for the other one, or for other data"
                    )
        left = len(labels) - sum(map(len, lists.values()))
        if left:
            job.warn(f"{self.settings.lists_dir}: {left} labelled pairs are in no split")
        return {split: sorted(lists[split], key=int) for split in SPLITS}


def draw_splits(labels: Mapping[str, str], folder: Path, seed: int) -> dict[str, list[str]]:
    """Numbers by split, classes in equal shares, pairs with one picture in one split.

    Args:
        labels: label by number.
        folder: of the pictures.
        seed: decides which go where.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in labels:
        groups[digest_of(folder / f"{name}.jpg") or name].append(name)
    members = list(groups.values())
    kinds = np.array([CLASSES.index(labels[group[0]]) for group in members], np.int64)
    order = stratified_order(kinds, row_generator(seed, "split")).tolist()
    sizes = share_out({split: share * len(members) for split, share in SHARES.items()})
    cuts = np.cumsum([sizes[split] for split in SPLITS]).tolist()
    found = zip(SPLITS, [0, *cuts], cuts, strict=False)
    return {
        split: sorted((name for index in order[start:stop] for name in members[index]), key=int)
        for split, start, stop in found
    }


def digest_of(path: Path) -> str | None:
    """Digest of a picture's bytes; None if it is not there."""
    if not path.is_file():
        return None
    return hashlib.blake2b(read_file(path, limit=LARGEST_FILE), digest_size=16).hexdigest()


def shared_pictures(pairs: Mapping[str, Sequence[Pair]]) -> dict[str, int]:
    """How many different pictures two splits share, byte for byte, {"train, val": 3}; pairs without any left out."""
    found = {split: {digest_of(pair.path) for pair in part} - {None} for split, part in pairs.items()}
    names = list(found)
    both = {f"{a}, {b}": len(found[a] & found[b]) for i, a in enumerate(names) for b in names[i + 1 :]}
    return {key: count for key, count in both.items() if count}


def read_text(folder: Path, name: str, reading: Reading) -> str:
    """The text of a pair, in one line; empty where there is none.

    Raises:
        DataError: it cannot be read, or is larger than any tweet.
    """
    path = folder / f"{name}.txt"
    if not path.is_file():
        return ""
    return reading.clean(reading.decode(read_file(path, limit=_LONGEST_TEXT), path.name))

"""Splits of CREMA-D, which publishes none: the literature's lists, or seeded ones with the same sizes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from data_prep.sources.cremad_files import EMOTIONS, Recording, parse_stem
from data_prep.sources.listfiles import numbered_lines, refuse_doubles, safe_parts, shown
from data_prep.writing.splits import row_generator, share_out, stratified_order, stratified_split
from drcli.data.format import SPLITS
from drcli.errors import DataError

SIZES = {"train": 5954, "val": 744, "test": 744}  # of the authors' lists
LISTS = {
    "train": ("my_train.csv", "train.csv", "my_train_cre.txt"),
    "val": ("val.csv",),
    "test": ("test.csv", "my_test_cre.txt"),
}
"""Names of the literature's lists, the one that is preferred first."""

_WORDS = {"ANGER": "ANG", "DISGUST": "DIS", "FEAR": "FEA", "HAPPY": "HAP", "NEUTRAL": "NEU"}  # "Sad" is its own code

Entry = tuple[str, str]
"""Name of a recording, and where it is listed: "FILE:LINE"."""


def split_clips(recordings: Sequence[Recording], seed: int) -> dict[str, list[str]]:
    """Names by split: every emotion in equal shares, speakers in all splits, as in the literature."""
    labels = np.array([EMOTIONS.index(recording.emotion) for recording in recordings], np.int64)
    sizes = _scaled(len(recordings))
    parts = stratified_split(labels, sizes, row_generator(seed, "split"))
    return {split: [recordings[index].stem for index in members] for split, members in parts.items()}


def split_speakers(recordings: Sequence[Recording], seed: int) -> dict[str, list[str]]:
    """Names by split, no speaker in two of them; a speaker has nearly the same clips as every other.

    Raises:
        DataError: there are fewer speakers than splits.
    """
    actors = sorted({recording.actor for recording in recordings})
    if len(actors) < len(SPLITS):
        raise DataError(f"split: speaker needs {len(SPLITS)} speakers or more, the download has {len(actors)}")
    order = row_generator(seed, "speakers").permutation(len(actors))
    held = {split: max(1, size) for split, size in _scaled(len(actors)).items() if split != "train"}
    counts = {"train": len(actors) - sum(held.values()), **held}
    home = dict(zip([actors[i] for i in order], [s for s in SPLITS for _ in range(counts[s])], strict=True))
    return {split: [r.stem for r in recordings if home[r.actor] == split] for split in SPLITS}


def _scaled(total: int) -> dict[str, int]:
    """Sizes in the proportions of the literature's, with the given sum."""
    whole = sum(SIZES.values())
    return share_out({split: size * total / whole for split, size in SIZES.items()})


def list_paths(folder: Path) -> dict[str, Path]:
    """The list of each split that has one.

    Raises:
        DataError: the lists of training or test are missing.
    """
    found = {split: [folder / name for name in names if (folder / name).is_file()] for split, names in LISTS.items()}
    for split in ("train", "test"):
        if not found[split]:
            raise DataError(f"{folder}: no {' or '.join(LISTS[split])} here; split_dir must hold the authors' lists")
    return {split: paths[0] for split, paths in found.items() if paths}


def read_splits(folder: Path, seed: int) -> dict[str, list[Entry]]:
    """The literature's splits from its CSV files.

    Known are my_train.csv, val.csv and test.csv (Diagnosing & Re-learning), train.csv and test.csv
    (OGM-GE and most others), my_train_cre.txt and my_test_cre.txt (MLA). A train.csv that holds all
    of val.csv loses it; without val.csv, as many clips of each emotion as test has are drawn from the
    training list.

    Args:
        folder: of the lists.
        seed: draws the validation part where no list gives it.

    Raises:
        DataError: a list is missing, or a line is not "NAME,LABEL", lists a clip again, or contradicts the name.
    """
    paths = list_paths(folder)
    lists = {split: read_list(path) for split, path in paths.items()}
    for entries in lists.values():
        refuse_doubles(entries)
    if "val" not in lists:
        lists["val"] = _draw_val(lists["train"], lists["test"], seed)
        lists["train"] = _without(lists["train"], lists["val"])
    elif paths["train"].name == "train.csv" and {name for name, _ in lists["val"]} <= {n for n, _ in lists["train"]}:
        lists["train"] = _without(lists["train"], lists["val"])
    refuse_doubles([entry for split in SPLITS for entry in lists[split]])
    return {split: lists[split] for split in SPLITS}


def read_list(path: Path) -> list[Entry]:
    """The recordings that one list names, checked against their labels.

    Raises:
        DataError: see `read_splits`; file and line are named.
    """
    lines = numbered_lines(path)
    if lines and re.fullmatch(r"name\s*,\s*label", lines[0][1], re.IGNORECASE):
        lines = lines[1:]
    if not lines:
        raise DataError(f"{path}: lists no clip")
    return [(_parse(line, where), where) for where, line in lines]


def _parse(line: str, where: str) -> str:
    fields = [field.strip().strip('"') for field in re.split(r"[,\s]+", line)]
    if len(fields) != 2:
        raise DataError(f"{where}: {shown(line)} is not NAME,LABEL, such as 1001_DFA_ANG_XX,ANG")
    name, label = fields
    stem = parse_stem(PurePosixPath(safe_parts(name, where)[-1]).stem)
    if stem is None:
        raise DataError(f"{where}: {shown(name)} is not the name of a recording, such as 1001_DFA_ANG_XX")
    code = _WORDS.get(label.upper(), label.upper())
    if code not in EMOTIONS:
        raise DataError(f"{where}: label {shown(label)} is not one of {', '.join(EMOTIONS)}")
    if code != stem[9:12]:
        raise DataError(f"{where}: label {shown(label)} contradicts the name {stem}")
    return stem


def _draw_val(train: Sequence[Entry], test: Sequence[Entry], seed: int) -> list[Entry]:
    """As many clips of each emotion as `test` has, from `train`."""
    wanted = Counter(name[9:12] for name, _ in test)
    have = Counter(name[9:12] for name, _ in train)
    for emotion, count in sorted(wanted.items()):
        if have[emotion] <= count:
            raise DataError(
                f"{train[0][1]}: only {have[emotion]} clips of {emotion}, too few to take the {count} of a validation "
                "split from; give val.csv"
            )
    labels = np.array([EMOTIONS.index(name[9:12]) for name, _ in train], np.int64)
    chosen = []
    for index in stratified_order(labels, row_generator(seed, "val")).tolist():
        emotion = train[index][0][9:12]
        if wanted[emotion]:
            wanted[emotion] -= 1
            chosen.append(index)
    return [train[index] for index in sorted(chosen)]


def _without(entries: Sequence[Entry], others: Collection[Entry]) -> list[Entry]:
    names = {name for name, _ in others}
    return [entry for entry in entries if entry[0] not in names]


def missing_clips(lists: Mapping[str, Sequence[Entry]], present: Collection[str]) -> list[Entry]:
    """Listed clips that the download lacks."""
    known = set(present)
    return [entry for split in SPLITS for entry in lists[split] if entry[0] not in known]

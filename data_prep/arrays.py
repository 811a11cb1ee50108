"""arrays: somebody's own arrays, one .npz file a split.

A folder with `train.npz`, `test.npz` and, unless it is to be drawn from train, `val.npz`, each with::

    labels               (N,) integers or strings, one class a sample
    <modality>           (N, ...) numbers; names, types and shapes of a sample are those of train.npz
    <modality>_lengths   (N,) valid steps of sequences that are padded at their end; without it, all are

Types float16 and uint8 are stored as they are, any other number as float32: float16 would overflow, or
round away, values of a scale that only their owner knows.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from data_prep.base import Job, Preparer
from data_prep.sources.npz import Array, Stored, read_headers, read_rows, read_whole
from data_prep.writing.splits import Indices, check_classes, limit_splits, row_generator, stratified_split
from data_prep.writing.writer import DatasetWriter, SplitWriter
from drcli.data.format import SPLITS, DatasetInfo, file_sha256
from drcli.errors import DataError, UsageError
from drcli.registry import known

Kind = Literal["array", "frames", "flow", "sequence"]
AXES: Mapping[Kind, str] = {
    "array": "(C, H, W)",
    "frames": "(T, C, H, W)",
    "flow": "(T, 2, H, W)",
    "sequence": "(L, D)",
}
KINDS_BY_RANK: Mapping[int, tuple[Kind, ...]] = {2: ("sequence",), 3: ("array",), 4: ("frames", "flow")}
LABELS = "labels"
LAYOUT = f"{LABELS} (N,), and one array (N, ...) a modality"

_LENGTHS = "_lengths"
_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,99}")  # it names files, and a block of the recipe

Contents = Mapping[str, Stored]
"""The arrays of one file, by name."""


class Arrays(Preparer):
    """Arrays that are there already; each but the labels is a modality of its name."""

    name = "arrays"
    needs_source = True

    class Settings(Preparer.Settings):
        """The recipe's `dataset.prepare` block."""

        kinds: dict[str, Kind] = Field(
            {}, description="meaning of the axes of a sample, by modality; those left out: from the number of axes"
        )
        val_share: float = Field(
            0.1, gt=0, lt=1, description="part of train.npz that becomes the validation split if there is no val.npz"
        )
        seed: int = Field(
            0,
            ge=0,
            le=2**63 - 1,
            description="seed of the validation split, and of the choice of samples under --limit",
        )

    settings: Settings

    def fingerprint(self, source: Path | None, /) -> str:
        """Digest of the files' names and contents."""
        digest = hashlib.sha256()
        for path in find_files(_folder(source)).values():
            try:
                digest.update(f"{path.name} {file_sha256(path)}\n".encode())
            except OSError as error:
                raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        return digest.hexdigest()

    def prepare(self, job: Job) -> DatasetInfo:
        """Check all that headers and labels show, then copy the arrays, split by split."""
        paths = find_files(_folder(job.source))
        files = {name: read_contents(path) for name, path in paths.items()}
        for contents in files.values():
            check_alike(files["train"], contents)
        kinds = self._kinds(files["train"], job)
        classes, labels = number_labels({name: contents[LABELS] for name, contents in files.items()})
        chosen = self._choose(labels, classes, job)
        writer = DatasetWriter(job.out, name=self.name, classes=classes)
        for split, (name, rows) in chosen.items():
            ids = [f"{name}-{row:06d}" for row in rows.tolist()]
            part = writer.split(split, labels=labels[name][rows].tolist(), ids=ids)
            for m, kind in kinds.items():
                for done in write_rows(part, files[name], m, kind, rows):
                    job.progress(f"arrays: {split} {m}", done, len(rows))
        origins = {split: paths[name].name for split, (name, _) in chosen.items()}
        source = {"fingerprint": job.fingerprint, "limit": job.limit, "files": origins}
        return writer.finish(settings=self.settings.model_dump(mode="json"), source=source)

    def _kinds(self, contents: Contents, job: Job) -> dict[str, Kind]:
        """The kind of each modality, as the settings say or its shape suggests; a line tells each."""
        modalities = _modalities(contents)
        for m in self.settings.kinds:
            if m not in modalities:
                raise UsageError(f"dataset.prepare.kinds names {m!r}, which train.npz lacks; {known(m, modalities)}")
        kinds = {m: kind_of(contents[m], self.settings.kinds.get(m)) for m in modalities}
        for m, kind in kinds.items():
            shape = contents[m].shape[1:]
            if kind != "sequence" and m + _LENGTHS in contents:
                raise contents[m + _LENGTHS].refused(f"is of no use: {m!r} is no sequence; leave it out")
            job.note(f"{m}: {kind} {AXES[kind]} = {shape}, stored as {stored_type(contents[m])}")
            if kind != "sequence" and shape[-1] in {1, 3} and shape[-3] > 4:
                job.warn(f"{m}: {shape} looks as if channels came last; if so, save numpy.moveaxis(x, -1, -3) instead")
        return kinds

    def _choose(
        self, labels: Mapping[str, Indices], classes: tuple[str, ...], job: Job
    ) -> dict[str, tuple[str, Indices]]:
        """By split the file that it comes from, "train" for a val that is drawn, and ascending rows of it."""
        starts, everything = dict[str, int](), np.empty(0, dtype=np.int64)
        for name, found in labels.items():
            starts[name] = len(everything)
            everything = np.concatenate([everything, found])
        members = {name: starts[name] + np.arange(len(found)) for name, found in labels.items()}
        if "val" not in members:
            members |= self._draw_val(labels["train"], job)
        members = {split: members[split] for split in SPLITS}
        kept = limit_splits(members, everything, job.limit, row_generator(self.settings.seed, "limit"))
        check_sizes(kept, len(classes), _folder(job.source))
        check_classes(kept, everything, classes, job.warn)
        names = {split: split if split in labels else "train" for split in SPLITS}
        return {split: (names[split], rows - starts[names[split]]) for split, rows in kept.items()}

    def _draw_val(self, labels: Indices, job: Job) -> dict[str, Indices]:
        """Rows of train.npz for train and val, classes in equal shares; a line tells how many."""
        total = len(labels)
        size = round(self.settings.val_share * total)
        job.note(
            f"no val.npz: {size} of the {total} samples of train.npz become val, stratified by class "
            f"(dataset.prepare.val_share = {self.settings.val_share:g}, seed = {self.settings.seed})"
        )
        generator = row_generator(self.settings.seed, "split")
        return stratified_split(labels, {"train": total - size, "val": size}, generator)


def find_files(source: Path) -> dict[str, Path]:
    """The files of a folder by split, in the order of `SPLITS`; without val where it is not there.

    Raises:
        DataError: train.npz or test.npz is missing.
    """
    paths = {split: source / f"{split}.npz" for split in SPLITS}
    for split in ("train", "test"):
        if not paths[split].exists():
            raise DataError(
                f"{paths[split]}: no such file; the folder must hold train.npz, test.npz and, unless it is to be "
                f"drawn from train, val.npz, each saved by numpy.savez with {LAYOUT}"
            )
    return {split: path for split, path in paths.items() if path.exists()}


def read_contents(path: Path) -> dict[str, Stored]:
    """The arrays of a file, checked as far as headers show what is wrong.

    Raises:
        DataError: the file is no .npz file or damaged, labels are missing, or an array has a name, a type
            or a number of rows that does not fit.
    """
    contents = read_headers(path)
    if LABELS not in contents:
        raise DataError(f"{path}: array {LABELS!r} is missing (there: {', '.join(contents)}); the file needs {LAYOUT}")
    labels = contents[LABELS]
    _check_column(labels, "iuUS", "integers or strings, the class of each sample")
    if labels.shape[0] == 0:
        raise labels.refused("is empty; every split needs samples")
    modalities = _modalities(contents)
    if not modalities:
        raise DataError(f"{path}: holds no modality; the file needs {LAYOUT}")
    for name, stored in contents.items():
        if name in modalities:
            _check_modality(stored)
        elif name != LABELS:
            _check_lengths(stored, modalities)
        if stored.shape[0] != labels.shape[0]:
            raise stored.refused(
                f"has {stored.shape[0]} rows, {LABELS!r} has {labels.shape[0]}; make them equally many"
            )
    return contents


def check_alike(train: Contents, other: Contents) -> None:
    """Refuse a file whose arrays are not named, typed and shaped as those of train.npz.

    Raises:
        DataError: an array is missing, or there is another, or its samples differ.
    """
    for name in train:
        if name not in other:
            raise DataError(f"{other[LABELS].path}: array {name!r} is missing, but train.npz has it; add it")
    for name, stored in other.items():
        if name not in train:
            raise stored.refused("is not in train.npz; add it there, or leave it out here")
    for m in _modalities(train):
        there, here = (f"{of[m].dtype.name} {of[m].shape[1:]}" for of in (train, other))
        if there != here:
            raise other[m].refused(
                f"has samples {here}, in train.npz they are {there}; make them the same in all files"
            )


def kind_of(stored: Stored, asked: Kind | None) -> Kind:
    """What the axes of a modality's samples are: as asked, or what their number suggests.

    Three axes are an array and two a sequence; four are frames, or flow where there are two channels.

    Raises:
        DataError: no kind has so many axes, or not the one asked for.
    """
    shape = stored.shape[1:]
    if len(shape) == 1:
        raise stored.refused(
            f"has the shape {stored.shape}, and no backbone takes one vector a sample; save it as sequences of one "
            "step, x[:, None] of shape (N, 1, D), and use the backbone transformer"
        )
    kinds = KINDS_BY_RANK.get(len(shape))
    if kinds is None:
        raise stored.refused(f"has the shape {stored.shape}; it must be (N, L, D), (N, C, H, W) or (N, T, C, H, W)")
    if len(shape) == 4 and shape[1] != 2:
        kinds = ("frames",)
    if asked is not None and asked not in kinds:
        raise stored.refused(
            f"has samples {shape}, but dataset.prepare.kinds.{stored.name} = {asked} means {AXES[asked]}; "
            "change the setting, or the array's shape"
        )
    return asked or kinds[-1]


def number_labels(columns: Contents) -> tuple[tuple[str, ...], dict[str, Indices]]:
    """Class names in ascending order, numbers as numbers, and each sample's class index (N,) by file.

    Args:
        columns: the labels of each file; those of "train" decide which classes there are.

    Raises:
        DataError: numbers meet text, train has one class only, or lacks one that another file has.
    """
    values = {name: _read_labels(stored) for name, stored in columns.items()}
    classes = np.unique(values["train"])
    if len(classes) == 1:
        raise columns["train"].refused(f"has one class only ({classes[0]}); give at least two")
    for name, found in values.items():
        if found.dtype.kind != classes.dtype.kind:
            raise columns[name].refused("is not of the type it has in train.npz; make both integers or both strings")
        absent = [str(value) for value in np.setdiff1d(found, classes)]
        if absent:
            shown = ", ".join([*absent[:5], *(["..."] if len(absent) > 5 else [])])
            raise columns[name].refused(
                f"has classes that train.npz lacks: {shown}; leave their samples out, or move some to train.npz"
            )
    indices = {name: np.searchsorted(classes, found).astype(np.int64) for name, found in values.items()}
    return tuple(str(value) for value in classes), indices


def check_sizes(splits: Mapping[str, Indices], num_classes: int, source: Path) -> None:
    """Refuse a train or val that K-means could not cluster.

    Raises:
        DataError: one has fewer samples than there are classes.
    """
    for split in ("train", "val"):
        if len(splits[split]) < num_classes:
            raise DataError(
                f"{source}: split {split} would have {len(splits[split])} samples for {num_classes} classes, K-means "
                "needs at least as many; give more data, a larger --limit, or dataset.prepare.val_share where val is "
                "drawn from train.npz"
            )


def write_rows(part: SplitWriter, contents: Contents, modality: str, kind: Kind, rows: Indices) -> Iterator[int]:
    """Copy rows of a modality to a split, its padding set to 0; yields the number of rows done.

    Args:
        part: the split, of len(rows) rows.
        contents: the file's arrays.
        modality: which of them.
        kind: what its axes are.
        rows: ascending row numbers in the file.

    Raises:
        DataError: the array is damaged or holds values that are not finite, or lengths are out of range.
    """
    stored = contents[modality]
    target = part.array(modality, stored.shape[1:], stored_type(stored), kind=kind)
    lengths = None
    if kind == "sequence":
        lengths = _read_lengths(contents, modality)[rows]
        part.lengths(modality, lengths.tolist())
    for start, piece in read_rows(stored):
        first, last = np.searchsorted(rows, [start, start + len(piece)]).tolist()
        with np.errstate(over="ignore"):  # what overflows is refused below
            values = piece[rows[first:last] - start].astype(target.dtype)
        if lengths is not None:
            values[np.arange(values.shape[1]) >= lengths[first:last, None]] = 0
        _check_finite(stored, values, rows[first:last])
        target[first:last] = values
        yield last


def stored_type(stored: Stored) -> str:
    """Name of the type that an array is stored as in the prepared dataset."""
    return stored.dtype.name if stored.dtype.name in {"float16", "uint8"} else "float32"


def _modalities(contents: Contents) -> list[str]:
    """The names that are neither labels nor lengths, in the file's order."""
    return [name for name in contents if name != LABELS and not name.endswith(_LENGTHS)]


def _check_modality(stored: Stored) -> None:
    if not _NAME.fullmatch(stored.name):
        raise stored.refused("has no name for a modality; letters, digits, _ and - are allowed")
    if stored.dtype.kind not in "iuf":
        raise stored.refused(f"has the type {stored.dtype}; a modality holds real numbers: convert it")
    if not stored.shape or 0 in stored.shape[1:]:
        raise stored.refused(f"has the shape {stored.shape}, which holds no samples; it must be (N, ...)")


def _check_lengths(stored: Stored, modalities: Sequence[str]) -> None:
    _check_column(stored, "iu", "integers, the valid steps of each sample")
    modality = stored.name.removesuffix(_LENGTHS)
    if modality not in modalities:
        raise stored.refused(f"is the lengths of {modality!r}, which is not there; add it, or leave the lengths out")


def _check_column(stored: Stored, types: str, what: str) -> None:
    if len(stored.shape) != 1 or stored.dtype.kind not in types:
        raise stored.refused(f"is {stored.dtype} {stored.shape}; it must be (N,) {what}")


def _check_finite(stored: Stored, values: Array, rows: Indices) -> None:
    is_bad = ~np.isfinite(values).reshape(len(values), math.prod(values.shape[1:])).all(axis=1)
    if is_bad.any():
        raise stored.refused(
            f"has values that are NaN, infinite or beyond {values.dtype}, in row {rows[is_bad.argmax()]} first; "
            "replace them, or leave such rows out"
        )


def _read_labels(stored: Stored) -> Array:
    """Labels (N,) as int64 or text."""
    labels = read_whole(stored)
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "backslashreplace")
    return labels if labels.dtype.kind == "U" else labels.astype(np.int64)


def _read_lengths(contents: Contents, modality: str) -> Indices:
    """Valid steps (N,) of a sequence (N, L, D): L throughout where the file does not say.

    Raises:
        DataError: they are not in 0 ... L, or all 0.
    """
    rows, longest = contents[modality].shape[:2]
    if modality + _LENGTHS not in contents:
        return np.full(rows, longest, dtype=np.int64)
    stored = contents[modality + _LENGTHS]
    lengths = read_whole(stored).astype(np.int64)
    low, high = lengths.min(), lengths.max()
    if low < 0 or not 0 < high <= longest:
        raise stored.refused(
            f"runs from {low} to {high}; {modality!r} has {longest} steps: give the valid ones of each"
        )
    return lengths


def _folder(source: Path | None) -> Path:
    assert source is not None
    return source

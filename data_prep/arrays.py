"""arrays: your own arrays, one .npz file per split, or a saved dataset of Hugging Face's `datasets`.

A folder with `train.npz`, `test.npz` and, unless it is to be drawn from train, `val.npz`, each with::

    labels               (N,) integers or strings, the class of each sample
    <modality>           (N, ...) numbers; names, types and shapes of a sample are those of train.npz
    <modality>_lengths   (N,) valid steps of sequences or tokens that are padded at their end; without it, all are
    <modality>_present   (N,) booleans, which samples have the modality; without it, all do

A sample's axes are (D,), a vector, (L, D), a sequence, (C, H, W), (T, C, H, W), frames, or (T, 2, H, W), flow;
pictures (H, W) without a channel are taken for sequences unless `dataset.prepare.kinds` says "array". (L,) are the
token ids of a text where `dataset.prepare.kinds` says "tokens".

What an array holds of a sample that lacks it does not matter, and may be NaN; zeros are stored.

Types float16 and uint8 are stored as they are, any other number as float32: float16 would overflow, or
round away, values of a scale that only their owner knows.

A folder that `save_to_disk` of `datasets` wrote has splits train, test and, unless it is to be drawn, validation; its
columns are modalities, see `data_prep.sources.saved_dataset`.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_prep.base import DownloadPreparer, Filled
from data_prep.job import Job
from data_prep.sources.array_files import (
    AXES,
    LABELS,
    LENGTHS,
    PRESENT,
    Contents,
    Kind,
    check_alike,
    find_files,
    kind_of,
    modalities_of,
    read_contents,
    read_lengths,
    read_present,
    sample_shape,
)
from data_prep.sources.array_labels import number_labels, whole_labels
from data_prep.sources.array_tokens import largest_id, write_tokens
from data_prep.sources.npz import Array, Stored
from data_prep.sources.saved_dataset import is_saved, saved_files, saved_splits
from data_prep.sources.staging import Staging, ordered
from data_prep.writing.provenance import content_digest
from data_prep.writing.repeated import report_repeated
from data_prep.writing.splits import Indices, check_classes, limit_splits, row_generator, stratified_split
from data_prep.writing.writer import DatasetWriter, SplitWriter
from drcli.data.format import SPLITS
from drcli.data.info_checks import ID_DTYPE, LARGEST_VOCABULARY, WITH_LENGTHS
from drcli.errors import DataError, UsageError
from drcli.registry import known


class Arrays(DownloadPreparer):
    """Arrays that exist already: each, except for the labels, is a modality of the same name."""

    name = "arrays"

    class Settings(DownloadPreparer.Settings):
        """The recipe's `dataset.prepare` block."""

        kinds: dict[str, Kind] = Field(
            {}, description="meaning of the axes of a sample, by modality; those left out: from the number of axes"
        )
        vocabularies: dict[str, Annotated[int, Field(ge=1, le=LARGEST_VOCABULARY)]] = Field(
            {},
            description="number of token ids, by modality of the kind tokens; those left out: one more than the "
            "largest id in the files",
        )
        pads: dict[str, Annotated[int, Field(ge=0, lt=LARGEST_VOCABULARY)]] = Field(
            {}, description="token id that fills the padding, by modality of the kind tokens; those left out: 0"
        )
        val_share: float = Field(
            0.1, gt=0, lt=1, description="part of train that becomes the validation split if there is none, no val.npz"
        )
        columns: dict[str, str] = Field(
            {},
            description="of a saved Hugging Face dataset: the column of each modality; empty: every column but the "
            "label's, by its own name",
        )
        label: str = Field("label", description="of a saved Hugging Face dataset: the column of the classes")
        longest: dict[str, Annotated[int, Field(ge=1, le=2**24)]] = Field(
            {},
            description="of a saved Hugging Face dataset: most steps of sequences and tokens, by modality; longer ones "
            "are cut; those left out: as the longest",
        )
        seed: int = Field(
            0,
            ge=0,
            le=2**63 - 1,
            description="seed of the validation split, and of the choice of samples under --limit",
        )

    settings: Settings

    def fingerprint(self, source: Path) -> str:
        """Digest of the files' names and contents."""
        paths = saved_files(source) if is_saved(source) else [*find_files(source).values()]
        lines = (f"{path.relative_to(source)} {content_digest(path)}\n" for path in paths)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def fill(self, job: Job) -> Filled:
        """Check all that headers and labels show, then copy the arrays, split by split."""
        source, settings = job.download, self.settings
        if is_saved(source):
            with saved_splits(source, settings.columns, settings.label) as (splits, classes):
                return self.stage(splits, job, str(source), longest=settings.longest, classes=classes)
        for key in ("columns", "longest"):
            if getattr(settings, key):
                raise UsageError(f"dataset.prepare.{key}: only for a saved dataset of Hugging Face; {source} is none")
        return self.copy({name: read_contents(path) for name, path in find_files(source).items()}, job, str(source))

    def stage(
        self,
        splits: Mapping[str, Iterable[Any]],
        job: Job,
        origin: str,
        *,
        longest: Mapping[str, int],
        classes: Sequence[str] | None = None,
    ) -> Filled:
        """Write samples of any origin into files as they come, and make the dataset of these.

        Args:
            splits: pairs ({modality: array}, label) by split: train, test and, unless it is drawn from train, val.
            job: where the dataset goes.
            origin: what the samples come from, for messages.
            longest: most steps of sequences and tokens, by modality; longer ones are cut.
            classes: names of the classes, of which labels are then numbers or names.

        Raises:
            DataError: a split is missing, or a sample is not like those before it.
        """
        folder = job.out / "staged"
        folder.mkdir()
        staging = Staging(folder, origin, kinds=self.settings.kinds, longest=longest, classes=classes)
        for split in ordered(splits, origin):
            staging.add(split, splits[split], job.progress)
        for line in staging.warnings():
            job.warn(line)
        filled = self.copy(staging.contents(), job, origin, classes)
        shutil.rmtree(folder)
        return Filled(filled.writer, {**filled.source, "samples": staging.digest})

    def copy(
        self, files: Mapping[str, Contents], job: Job, origin: str, classes: Sequence[str] | None = None
    ) -> Filled:
        """Make the dataset of arrays that lie in files.

        Args:
            files: the arrays by split; those of val may be missing.
            job: where the dataset goes.
            origin: what they come from, for messages.
            classes: names of the classes, where labels are their numbers; None: the labels themselves.

        Raises:
            DataError: an array does not fit the others, or is damaged.
        """
        for contents in files.values():
            check_alike(files["train"], contents)
        kinds = self._kinds(files["train"], job)
        tokens = self._token_ids(files, kinds)
        columns = {name: contents[LABELS] for name, contents in files.items()}
        names, labels = number_labels(columns) if classes is None else (tuple(classes), whole_labels(columns))
        masks = {name: read_present(contents) for name, contents in files.items()}
        chosen = self._choose(labels, names, job, origin)
        writer, parts = DatasetWriter(job.out, name=self.name, classes=names), dict[str, SplitWriter]()
        for split, (name, rows) in chosen.items():
            ids = [f"{name}-{row:06d}" for row in rows.tolist()]
            part = parts[split] = writer.split(split, labels=labels[name][rows].tolist(), ids=ids)
            for m, kind in kinds.items():
                present = masks[name].get(m)
                written = (
                    write_tokens(part, files[name], m, rows, present, tokens[m])
                    if m in tokens
                    else write_rows(part, files[name], m, kind, rows, present)
                )
                for done in written:
                    job.progress(f"arrays: {split} {m}", done, len(rows))
        origins = {split: files[name][LABELS].where for split, (name, _) in chosen.items()}
        repeated = report_repeated(parts, origins, job.warn)
        return Filled(writer, {"files": origins, **({"repeated": repeated} if repeated else {})})

    def _kinds(self, contents: Contents, job: Job) -> dict[str, Kind]:
        """The kind of each modality, as the settings say or its shape suggests; each is noted."""
        modalities = modalities_of(contents)
        for m in self.settings.kinds:
            if m not in modalities:
                where = contents[LABELS].where
                raise UsageError(f"dataset.prepare.kinds names {m!r}, which {where} lacks; {known(m, modalities)}")
        kinds = {m: kind_of(contents[m], self.settings.kinds.get(m)) for m in modalities}
        for m, kind in kinds.items():
            if kind not in WITH_LENGTHS and m + LENGTHS in contents:
                remedy = f"leave it out, or set dataset.prepare.kinds.{m}=tokens if {m!r} holds token ids"
                one_axis = kind == "vector"
                raise contents[m + LENGTHS].refused(
                    f"is not used: {m!r} is not a sequence; {remedy if one_axis else 'leave it out'}"
                )
            shape = sample_shape(contents[m], kind)
            masked = ", of which samples may lack it" if m + PRESENT in contents else ""
            dtype = ID_DTYPE if kind == "tokens" else stored_type(contents[m])
            job.note(f"{m}: {kind} {AXES[kind]} = {shape}, stored as {dtype}{masked}")
            for line in _doubts(contents, m, kind, is_stated=m in self.settings.kinds):
                job.warn(line)
        return kinds

    def _token_ids(self, files: Mapping[str, Contents], kinds: Mapping[str, Kind]) -> dict[str, tuple[int, int]]:
        """How many ids there are, and the padding's, by modality that holds token ids."""
        texts = [m for m, kind in kinds.items() if kind == "tokens"]
        for setting in ("vocabularies", "pads"):
            for m in getattr(self.settings, setting):
                if m not in texts:
                    raise UsageError(
                        f"dataset.prepare.{setting} names {m!r}, which is not of the kind tokens; set "
                        f"dataset.prepare.kinds.{m}=tokens, or leave it out"
                    )
        sizes = {m: 1 + largest_id(list(files.values()), m) for m in texts}
        return {m: (self.settings.vocabularies.get(m, sizes[m]), self.settings.pads.get(m, 0)) for m in texts}

    def _choose(
        self, labels: Mapping[str, Indices], classes: tuple[str, ...], job: Job, origin: str
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
        check_sizes(kept, len(classes), origin)
        check_classes(kept, everything, classes, job.warn)
        names = {split: split if split in labels else "train" for split in SPLITS}
        return {split: (names[split], rows - starts[names[split]]) for split, rows in kept.items()}

    def _suffix(self, job: Job) -> str:
        """How the splits' files end, for messages."""
        return ".npz" if job.source is not None and not is_saved(job.source) else ""

    def _draw_val(self, labels: Indices, job: Job) -> dict[str, Indices]:
        """Rows of train.npz for train and val, classes in equal shares; their number is noted."""
        total = len(labels)
        size = round(self.settings.val_share * total)
        job.note(
            f"no val{self._suffix(job)}: {size} of the {total} samples of train{self._suffix(job)} become val, "
            "stratified by class "
            f"(dataset.prepare.val_share = {self.settings.val_share:g}, seed = {self.settings.seed})"
        )
        generator = row_generator(self.settings.seed, "split")
        return stratified_split(labels, {"train": total - size, "val": size}, generator)


def check_sizes(splits: Mapping[str, Indices], num_classes: int, source: str) -> None:
    """Refuse a train or val that K-means could not cluster.

    Raises:
        DataError: one has fewer samples than there are classes.
    """
    for split in ("train", "val"):
        if len(splits[split]) < num_classes:
            raise DataError(
                f"{source}: split {split} would have {len(splits[split])} samples for {num_classes} classes, K-means "
                "needs at least as many; give more data, a larger --limit, or dataset.prepare.val_share where val is "
                "drawn from train"
            )


def write_rows(
    part: SplitWriter,
    contents: Contents,
    modality: str,
    kind: Kind,
    rows: Indices,
    present: NDArray[np.bool_] | None = None,
) -> Iterator[int]:
    """Copy rows of a modality to a split, padding and what is absent set to 0; yields the number of rows done.

    Args:
        part: the split, of len(rows) rows.
        contents: the file's arrays.
        modality: which of them.
        kind: what its axes are.
        rows: ascending row numbers in the file.
        present: which rows of the file have the modality (N,); None: all.

    Raises:
        DataError: the array is damaged or holds values that are not finite, or lengths are out of range.
    """
    stored = contents[modality]
    target = part.array(modality, sample_shape(stored, kind), stored_type(stored), kind=kind)
    lengths, there = None, None if present is None else present[rows]
    if there is not None:
        part.present(modality, there)
    if kind == "sequence":
        lengths = read_lengths(contents, modality)[rows]
        lengths = lengths if there is None else lengths * there
        part.lengths(modality, lengths.tolist())
    for start, piece in stored.rows():
        first, last = np.searchsorted(rows, [start, start + len(piece)]).tolist()
        with np.errstate(over="ignore"):  # what overflows is refused below
            values = piece[rows[first:last] - start].astype(target.dtype)
        if lengths is not None:
            values[np.arange(values.shape[1]) >= lengths[first:last, None]] = 0
        if there is not None:
            values[~there[first:last]] = 0
        _check_finite(stored, values, rows[first:last])
        target[first:last] = values.reshape(-1, *target.shape[1:])
        yield last


def _doubts(contents: Contents, modality: str, kind: Kind, *, is_stated: bool) -> Iterator[str]:
    """Lines on what the shape of a modality's samples may mean instead."""
    shape = sample_shape(contents[modality], kind)
    if len(shape) > 2 and shape[-1] in {1, 3} and shape[-3] > 4:
        yield f"{modality}: {shape} looks as if channels came last; if so, save numpy.moveaxis(x, -1, -3) instead"
    if kind == "sequence" and not is_stated and shape[0] > 1 and modality + LENGTHS not in contents:
        key = f"dataset.prepare.kinds.{modality}"
        yield (
            f"{modality}: samples {shape} are taken for sequences of {shape[0]} steps; if they are pictures of "
            f"{shape[0]} x {shape[1]}, set {key}=array; {key}=sequence confirms what was taken"
        )


def stored_type(stored: Stored) -> str:
    """Name of the type that an array is stored as in the prepared dataset."""
    return stored.dtype.name if stored.dtype.name in {"float16", "uint8"} else "float32"


def _check_finite(stored: Stored, values: Array, rows: Indices) -> None:
    is_bad = ~np.isfinite(values).reshape(len(values), math.prod(values.shape[1:])).all(axis=1)
    if is_bad.any():
        raise stored.refused(
            f"has values that are NaN, infinite or beyond {values.dtype}, in row {rows[is_bad.argmax()]} first; "
            f"replace them, leave such rows out, or say in {stored.name + PRESENT!r} (N,) which rows have {stored.name}"
        )

"""Opens a prepared dataset: every check first, then splits as tensors over memory maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drcli.data import format as layout
from drcli.data.format import (
    IDS_FILE,
    INFO_FILE,
    LABELS_FILE,
    SPLITS,
    DatasetInfo,
    ModalityInfo,
    lengths_file,
    pool_files,
    present_file,
    read_info,
)
from drcli.data.info_checks import WITH_LENGTHS
from drcli.data.pairs import Pool
from drcli.data.parts import PartedArray
from drcli.data.rows import MappedFile, StoredRows, gathered, open_array, open_parts, open_rows
from drcli.data.target import CLASS_DTYPE, VALUE_DTYPE, absence
from drcli.data.verified import verify
from drcli.errors import DataError, RunError, UsageError
from drcli.names import DATASETS
from drcli.reading import differences, read_text


@dataclass(frozen=True)
class Split:
    """One split, on the CPU.

    Attributes:
        name: train, val or test.
        arrays: (N, ...) as stored, by modality; pages are read from disk when they are touched. One that lies in
            several files is no tensor, but has rows and a length; see `tensor`.
        lengths: (N,) int64 valid steps, by modality that is a sequence or tokens.
        labels: (N,) int64 class indices; of a regression, float32 values.
        sample: (N,) int64, for each row the number of its sample, counted by first appearance.
        weight: (N,) float64, 1 / draws of the row's sample: a mean over rows with these weights is
            the mean over samples.
        files: what the memory maps read from, by modality.
        present: (N,) bool, whether a row has a modality, by modality that some rows may lack.
        pools: rows beyond the pairs, by modality that has any; of train alone.
    """

    name: str
    arrays: Mapping[str, Tensor | PartedArray]
    labels: Tensor
    sample: Tensor
    weight: Tensor
    lengths: Mapping[str, Tensor] = field(default_factory=dict)
    files: Mapping[str, tuple[MappedFile, ...]] = field(default_factory=dict)
    present: Mapping[str, Tensor] = field(default_factory=dict)
    pools: Mapping[str, Pool] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        """Number of rows N; every draw counts."""
        return len(self.labels)

    @property
    def num_samples(self) -> int:
        """Number of distinct samples."""
        return int(self.sample.max()) + 1

    def tensor(self, modality: str) -> Tensor:
        """Return the array (N, ...) of a modality as a tensor; one that lies in several files is read into memory."""
        array = self.arrays[modality]
        return gathered(array, torch.device("cpu")) if isinstance(array, PartedArray) else array


@dataclass(frozen=True)
class PreparedDataset:
    """A checked dataset; a split is opened at its first use.

    Attributes:
        root: its folder.
        info: its `dataset.json`.
        warnings: what the user should know, one line each (a class absent from val or test,
            clips that were decoded wrongly).
        closed: splits that must not be opened.
    """

    root: Path
    info: DatasetInfo
    warnings: tuple[str, ...]
    closed: frozenset[str] = frozenset()

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.info.classes)

    def split(self, name: str) -> Split:
        """Open one split, touching no file of the others; each call maps the files anew.

        Args:
            name: train, val or test.

        Raises:
            RunError: it is closed.
        """
        if name in self.closed:
            raise RunError(f"{self.root}: the split {name} is closed to this run; it belongs to the final evaluation")
        folder, rows = self.root / name, self.info.rows[name]
        sample = torch.from_numpy(_sample_numbers(folder / IDS_FILE))
        stored = {m: open_modality(self.root, self.info, name, m) for m in self.info.modalities}
        return Split(
            name=name,
            arrays={m: one.array for m, one in stored.items()},
            labels=_read_column(folder / LABELS_FILE, rows, label_dtype(self.info)),
            sample=sample,
            weight=1.0 / torch.bincount(sample).to(torch.float64)[sample],
            lengths={m: _read_column(folder / lengths_file(m), rows) for m in self._sequences()},
            files={m: one.files for m, one in stored.items()},
            present={
                m: torch.from_numpy(open_array(folder / present_file(m), (rows,), "bool")).clone()
                for m, spec in self.info.modalities.items()
                if spec.masked
            },
            pools={m: open_pool(self.root, self.info, m) for m in self.info.pools} if name == "train" else {},
        )

    def without(self, name: str) -> PreparedDataset:
        """Return the same dataset with one more split closed."""
        return replace(self, closed=self.closed | {name})

    def ids(self, split: str) -> list[str]:
        """Return the id of each row's sample of a split, in stored order; draws of one sample share theirs."""
        return _ids(self.root / split / IDS_FILE)

    def _sequences(self) -> list[str]:
        return [m for m, spec in self.info.modalities.items() if spec.kind in WITH_LENGTHS]


def open_modality(root: Path, info: DatasetInfo, split: str, modality: str) -> StoredRows:
    """Open the array (N, ...) of a modality of a split.

    Raises:
        DataError: a file is not as `dataset.json` says.
    """
    return open_rows(root / split, modality, *_stored_as(info, modality, info.rows[split]))


def open_pool(root: Path, info: DatasetInfo, modality: str) -> Pool:
    """Open the rows that a modality has beyond the pairs of the training split.

    Raises:
        DataError: a file is not as `dataset.json` says.
    """
    folder, (array, labels), rows = root / "train", pool_files(modality), info.pools[modality]
    stored = open_rows(folder, array, *_stored_as(info, modality, rows))
    return Pool(stored, _read_column(folder / labels, rows))


def _stored_as(info: DatasetInfo, modality: str, rows: int) -> tuple[tuple[int, ...], str, int]:
    """Shape and type of an array of a modality that has some rows, and the rows of a file."""
    spec = info.modalities[modality]
    return (rows, *spec.shape), spec.dtype, info.file_rows.get(modality, 0)


def label_dtype(info: DatasetInfo) -> str:
    """Return the type of the labels of a dataset."""
    return CLASS_DTYPE if info.regression is None else VALUE_DTYPE


def _read_column(path: Path, rows: int, dtype: str = CLASS_DTYPE) -> Tensor:
    """Labels or lengths (N,), in memory."""
    return torch.from_numpy(open_array(path, (rows,), dtype)).clone()


def open_dataset(
    root: Path,
    *,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    everything: bool = False,
) -> PreparedDataset:
    """Open a prepared dataset after checking all of it, content digests included.

    Files of a large dataset that were read once, and whose sizes, times and sampled pieces are the same since, are
    not read again (`drcli.data.verified`).

    Args:
        root: the folder that `drcli prepare` made.
        name: the dataset that is expected; None accepts any.
        settings: the `dataset.prepare` block that is expected, defaults filled in; None accepts any.
        everything: whether all files of a large dataset are read too.

    Raises:
        DataError: it is missing, of another version, name or settings; a file is missing, truncated
            or altered; labels are out of range, or not finite; train or val has fewer samples than classes; a
            class is absent from train.
    """
    info = describe_dataset(root, name=name, settings=settings)
    again = prepare_command(info.name, root, fresh=True)
    verify(root, info, again, everything=everything)
    warnings = [line for split in SPLITS for line in _check_split(root, info, split)]
    if layout.has_old_pictures(info):
        warnings.insert(0, layout.warning_of_old_pictures(root, again))
    return PreparedDataset(root=root, info=info, warnings=tuple(warnings))


def describe_dataset(root: Path, *, name: str | None, settings: Mapping[str, Any] | None) -> DatasetInfo:
    """Return what a prepared dataset says it holds, without looking at the arrays.

    Args:
        root: the folder that `drcli prepare` made.
        name: as for `open_dataset`.
        settings: as for `open_dataset`.

    Raises:
        DataError: it is missing, or of another version, name or settings.
    """
    if not (root / INFO_FILE).is_file():
        remedy = prepare_command(name or "NAME", root, settings=settings or {})
        raise DataError(f"{root}: no prepared dataset here ({INFO_FILE} is missing); run {remedy}")
    info = read_info(root)
    _check_requested(root, info, name, settings)
    return info


def prepare_command(name: str, root: Path, *, fresh: bool = False, settings: Mapping[str, Any] | None = None) -> str:
    """The command that makes a prepared dataset, quoted for a message; the registry knows whether from a download.

    Args:
        name: of the dataset.
        root: its folder.
        fresh: whether it replaces a dataset that is there.
        settings: the `dataset.prepare` block; what differs from its defaults is named.
    """
    try:
        kind = DATASETS.load(name)
    except UsageError:  # of a plug-in that is not installed
        return layout.prepare_command(name, root, needs_source=None, fresh=fresh)
    default = kind.Settings.model_construct().model_dump(mode="json", by_alias=True)
    changed = {key: value for key, value in (settings or {}).items() if key in default and value != default[key]}
    return layout.prepare_command(name, root, needs_source=bool(kind.needs_source), fresh=fresh, changed=changed)


def _defaults(name: str) -> dict[str, Any]:
    """The settings of a dataset that nobody has changed; none of a plug-in that is not installed."""
    try:
        return DATASETS.load(name).Settings.model_construct().model_dump(mode="json", by_alias=True)  # type: ignore[no-any-return]
    except UsageError:
        return {}


def _check_requested(root: Path, info: DatasetInfo, name: str | None, settings: Mapping[str, Any] | None) -> None:
    """Refuse a dataset that is not the one the recipe describes."""
    if name is not None and name != info.name:
        raise DataError(
            f"{root}: holds dataset {info.name!r}, the recipe asks for {name!r}; "
            f"point dataset.root elsewhere, or run {prepare_command(name, root, fresh=True)}"
        )
    there = {**_defaults(info.name), **info.settings}  # of a newer setting: what was done before there was one
    changed = differences(there, there if settings is None else settings)
    if changed:
        raise DataError(
            f"{root}: prepared with other settings than dataset.prepare asks for ({'; '.join(changed)}); "
            "change the recipe, or prepare again with --fresh, or point dataset.root elsewhere"
        )


def _check_split(root: Path, info: DatasetInfo, split: str) -> list[str]:
    """Check shapes, labels and classes of one split; returns warnings."""
    for m, spec in info.modalities.items():
        parts = open_parts(root / split, m, *_stored_as(info, m, info.rows[split]))
        if spec.kind in WITH_LENGTHS:
            _check_lengths(root / split / lengths_file(m), info.rows[split], spec.shape[0])
        if spec.vocabulary:
            _check_token_ids(parts, spec)
    _check_present(root, info, split)
    labels_path = root / split / LABELS_FILE
    labels = open_array(labels_path, (info.rows[split],), label_dtype(info))
    sample = _sample_numbers(root / split / IDS_FILE)
    num_samples, num_classes = int(sample.max()) + 1, len(info.classes)
    if len(sample) != len(labels) or num_samples != info.samples[split]:
        raise DataError(
            f"{root / split / IDS_FILE}: {len(sample)} lines with {num_samples} ids, {INFO_FILE} says "
            f"{info.rows[split]} with {info.samples[split]}; prepare the dataset again with --fresh"
        )
    if num_samples < (1 if split == "test" else num_classes):
        raise DataError(
            f"{root}: split {split} has {num_samples} samples for {num_classes} classes, K-means needs at "
            "least as many samples as classes; prepare the dataset again with more data or a larger --limit"
        )
    _check_labels(labels_path, info, labels)
    if split == "train":
        _check_pools(root, info, labels)
    return _check_classes(root, info, split, labels) if info.regression is None else []


def _check_labels(path: Path, info: DatasetInfo, labels: NDArray[Any]) -> None:
    """Refuse class indices and values that are out of their range, and values that are not finite."""
    if info.regression is not None:
        problem = info.regression.problem(labels)
    else:
        least, most, last = labels.min(), labels.max(), len(info.classes) - 1
        problem = f"labels run from {least} to {most}, allowed are 0 to {last}" if least < 0 or most > last else ""
    if problem:
        raise DataError(f"{path}: {problem}; prepare the dataset again with --fresh")


def _check_pools(root: Path, info: DatasetInfo, labels: NDArray[np.int64]) -> None:
    """Refuse a pool without rows of a class of the training split, or with rows of none."""
    for m in info.pools:
        found = set(open_pool(root, info, m).labels.tolist())
        absent = [info.classes[label] for label in sorted(set(labels.tolist()) - found)]
        if absent or not found <= set(range(len(info.classes))):
            wrong = absence(absent, "it") if absent else "it has labels of no class"
            path = root / "train" / pool_files(m)[1]
            raise DataError(f"{path}: {wrong}; prepare the dataset again with --fresh")


def _check_lengths(path: Path, rows: int, longest: int) -> None:
    lengths = open_array(path, (rows,), "int64")
    if lengths.min() < 0 or lengths.max() > longest:
        raise DataError(
            f"{path}: lengths run from {lengths.min()} to {lengths.max()}, allowed are 0 to {longest}; "
            "prepare the dataset again with --fresh"
        )


def _check_token_ids(parts: Mapping[Path, NDArray[Any]], spec: ModalityInfo) -> None:
    for path, ids in parts.items():
        if ids.min() < 0 or ids.max() >= spec.vocabulary:
            raise DataError(
                f"{path}: token ids run from {ids.min()} to {ids.max()}, allowed are 0 to {spec.vocabulary - 1}; "
                "prepare the dataset again with --fresh"
            )


def _check_present(root: Path, info: DatasetInfo, split: str) -> None:
    """Refuse a row that lacks every modality, and a modality of which K-means has too few rows."""
    masks = {
        m: open_array(root / split / present_file(m), (info.rows[split],), "bool")
        for m, spec in info.modalities.items()
        if spec.masked
    }
    for m, mask in masks.items():
        if mask.sum() < (1 if split == "test" else len(info.classes)):
            raise DataError(
                f"{root / split / present_file(m)}: {mask.sum()} rows have the modality, for {len(info.classes)} "
                "classes; K-means needs at least as many rows as classes: give more, or leave the modality out"
            )
    if masks and len(masks) == len(info.modalities):
        lacking = ~np.any(list(masks.values()), axis=0)
        if lacking.any():
            raise DataError(
                f"{root / split}: row {int(lacking.argmax())} lacks every modality; leave such rows out, and prepare "
                "the dataset again with --fresh"
            )


def _check_classes(root: Path, info: DatasetInfo, split: str, labels: NDArray[np.int64]) -> list[str]:
    """Refuse a class absent from train; a class absent elsewhere is a warning."""
    counts = np.bincount(labels, minlength=len(info.classes))
    absent = [name for name, count in zip(info.classes, counts, strict=True) if count == 0]
    if absent and split == "train":
        raise DataError(f"{root}: {absence(absent, split)}; prepare with a larger --limit")
    return [f"{root}: {absence(absent, split)}"] if absent else []


def _sample_numbers(path: Path) -> NDArray[np.int64]:
    """(N,) for each line of ids.txt the number of its id, counted by first appearance."""
    ids = _ids(path)
    distinct = dict.fromkeys(ids)
    if len(distinct) == len(ids):
        return np.arange(len(ids), dtype=np.int64)
    number = {name: index for index, name in enumerate(distinct)}
    return np.array([number[name] for name in ids], dtype=np.int64)


def _ids(path: Path) -> list[str]:
    return read_text(path, remedy="prepare again with --fresh", limit=10**9).removesuffix("\n").split("\n")

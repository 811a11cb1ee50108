"""The prepared dataset on disk: names of its files, and `dataset.json`.

A prepared dataset is a directory::

    dataset.json            this module's `DatasetInfo`
    <split>/<modality>.npy  (N, ...) one memory-mappable array; or several, <modality>.000.npy and so on
    <split>/<modality>_lengths.npy  (N,) int64 valid steps, for sequences and tokens
    <split>/<modality>_present.npy  (N,) bool, which rows have the modality, where some may lack it
    <split>/labels.npy      (N,) int64 indices into `classes`; of a regression, float32 values
    <split>/ids.txt         N lines; rows that share an id are several draws of one sample
    train/<modality>_pool.npy         (P, ...) more rows of a modality, paired with none; only where there are any
    train/<modality>_pool_labels.npy  (P,) int64 their classes

with the splits train, val and test. `data_prep` writes it, `drcli.data` reads it; nothing else of
either package is shared. This module imports neither torch nor pydantic.

Version 2 adds a seal, the digest of all other values in `dataset.json`. Version 1 is read as well; without
a seal, only the ranges of its values are checked. Version 3 is version 2 with rows that lack modalities, which
hold zeros there: an older drcli would take these for values. Version 4 is version 2 or 3 with token ids, of which an
older drcli knows nothing. Version 5 has a real value to predict in place of a class: `regression` is its range, and
`classes` holds its name alone. Version 6 is any of them with arrays in several files (`drcli.data.parts`): `file_rows`
says how many rows a file of a modality has at most.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Collection, ItemsView, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from drcli.data import info_checks as checks
from drcli.data.parts import MOST_FILES, array_files
from drcli.data.target import Regression, parse_regression
from drcli.errors import DataError
from drcli.reading import open_regular, read_json_object, storable
from drcli.task import TaskName

FORMAT_VERSION = 2
MASKED_VERSION = 3
TOKENS_VERSION = 4
VALUED_VERSION = 5
PARTED_VERSION = 6
READABLE = (1, 2, MASKED_VERSION, TOKENS_VERSION, VALUED_VERSION, PARTED_VERSION)
SPLITS = ("train", "val", "test")
INFO_FILE = "dataset.json"
LABELS_FILE = "labels.npy"
IDS_FILE = "ids.txt"
KINDS = tuple(checks.RANKS)
"""array: (C, H, W), an image or a spectrogram. frames: (T, 3, H, W), pictures in the order of time.
flow: (T, 2, H, W), horizontal and vertical optical flow. sequence: (L, D), padded at its end, with the
number of valid steps in a file of its own. vector: (D,). tokens: (L,), int32 token ids of a text, from 0 to
vocabulary - 1, padded at their end as a sequence is, with an id that `dataset.json` names."""

DECODING = 2
"""Rises when the same clip gives other pictures or samples, so that no preparation is resumed across it, and `train`
warns of datasets from before. Version 1, which was not noted, took wrong pictures from some videos."""

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation, one number each or one per channel."""


_REMEDY = "prepare the dataset again with `drcli prepare --fresh`"


@dataclass(frozen=True)
class ModalityInfo:
    """What is stored of one modality.

    Attributes:
        shape: shape of one sample, without the leading N.
        dtype: numpy name of the stored type ("float16", "uint8").
        mean: subtracted when a batch is made; one number, or one per channel.
        std: divided by when a batch is made; as many numbers as `mean`.
        kind: what the axes are: one of `KINDS`.
        masked: whether rows may lack the modality; a file of its own says which have it.
        vocabulary: of tokens, how many ids there are; they run from 0. 0 for every other kind.
        pad: of tokens, the id that fills the padding.
    """

    shape: tuple[int, ...]
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    kind: str = "array"
    masked: bool = False
    vocabulary: int = 0
    pad: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; without a mask there is no word of one, nor of token ids, as in datasets of before."""
        unsaid = {*(() if self.masked else ("masked",)), *(() if self.vocabulary else ("vocabulary", "pad"))}
        return {key: value for key, value in asdict(self).items() if key not in unsaid}


@dataclass(frozen=True)
class Contents:
    """What a model must know of a dataset to be built and used without it; a checkpoint holds it.

    Attributes:
        name: registry name of the dataset.
        classes: class names in index order; of a regression, the name of its value alone.
        modalities: what is stored, by modality.
        regression: range of a real value that is to be predicted; None for classes.
    """

    name: str
    classes: tuple[str, ...]
    modalities: Mapping[str, ModalityInfo]
    regression: Regression | None = None

    @property
    def task(self) -> TaskName:
        """What is to be predicted."""
        return "classification" if self.regression is None else "regression"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `parse_contents` reads back."""
        found: dict[str, Any] = json.loads(json.dumps({**asdict(self), "modalities": _plain(self.modalities)}))
        return _told(found)


@dataclass(frozen=True)
class DatasetInfo:
    """The contents of `dataset.json`.

    Attributes:
        name: registry name of the dataset.
        classes: class names in index order.
        modalities: what is stored, by modality.
        rows: number of rows by split (every draw counts).
        samples: number of distinct ids by split.
        settings: the `dataset.prepare` block the arrays were made with.
        source: what they were made from: at least "fingerprint" and "limit" (null: everything).
        sha256: digest of every other file, by its path relative to the directory.
        format_version: version of this layout.
        pools: number of rows that the training split has beyond its pairs, by modality that has any.
        regression: range of a real value that is to be predicted; None for classes.
        file_rows: number of rows that a file has at most, by modality that has an array in several files.
    """

    name: str
    classes: tuple[str, ...]
    modalities: Mapping[str, ModalityInfo]
    rows: Mapping[str, int]
    samples: Mapping[str, int]
    settings: Mapping[str, Any]
    source: Mapping[str, Any]
    sha256: Mapping[str, str]
    format_version: int = FORMAT_VERSION
    pools: Mapping[str, int] = field(default_factory=dict)
    regression: Regression | None = None
    file_rows: Mapping[str, int] = field(default_factory=dict)

    @property
    def contents(self) -> Contents:
        """What a model must know of it."""
        return Contents(self.name, self.classes, self.modalities, self.regression)

    @property
    def fingerprint(self) -> str:
        """Digest of everything that a model sees, normalisation included, whatever the folder is called."""
        return _digest({"classes": self.classes, "modalities": _plain(self.modalities), "sha256": self.sha256})

    def to_json(self) -> str:
        """Text of `dataset.json`."""
        values = json.loads(
            json.dumps(storable({**asdict(self), "modalities": _plain(self.modalities)}))
        )  # keys that are not strings become strings, as when it is read
        values = _told(values)
        seal = {"seal": _digest(values)} if self.format_version > 1 else {}
        return json.dumps({**values, **seal}, indent=2, sort_keys=True) + "\n"


def _told(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out what says nothing, as in datasets from before there were pools, regressions and several files."""
    return {key: value for key, value in values.items() if value or key not in {"pools", "regression", "file_rows"}}


def _plain(modalities: Mapping[str, ModalityInfo]) -> dict[str, Any]:
    return {m: spec.to_dict() for m, spec in modalities.items()}


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(values), sort_keys=True).encode()).hexdigest()


def read_info(root: Path) -> DatasetInfo:
    """Read and check `dataset.json` of a prepared dataset.

    Raises:
        DataError: the file is missing, damaged, altered, or of another format version.
    """
    path = root / INFO_FILE
    raw = _read_object(path)
    version = raw.get("format_version")
    if type(version) is not int or version not in READABLE:
        allowed = f"{', '.join(map(str, READABLE[:-1]))} and {READABLE[-1]}"
        raise DataError(f"{path}: format_version is {version!r}, this drcli reads {allowed}; {_REMEDY}")
    try:
        info = _parse(raw, version)
    except ValueError as error:
        why = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in str(error))  # it quotes the file
        raise DataError(f"{path}: damaged ({why}); {_REMEDY}") from error
    if version > 1 and raw.pop("seal", None) != _digest(raw):
        raise DataError(f"{path}: was altered since it was prepared; {_REMEDY}")
    return info


def _read_object(path: Path) -> dict[str, Any]:
    """The JSON object of a regular file of bounded size."""
    try:
        return read_json_object(path, remedy=_REMEDY)
    except DataError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise DataError(f"{path.parent}: no prepared dataset here ({INFO_FILE} is missing)") from error
        raise


def _parse(raw: Mapping[str, Any], version: int) -> DatasetInfo:
    """The checked values.

    Raises:
        ValueError: a value is missing, of another type, or out of range; the message names the field.
    """
    contents = parse_contents(raw)
    modalities = contents.modalities
    pools = _parse_pools(raw, modalities)
    rows, samples = _parse_counts(raw, "rows"), _parse_counts(raw, "samples")
    for split, count in samples.items():
        if count > rows[split]:
            checks.refuse(f"samples.{split}", count, f"{rows[split]} at most, the number of rows")
    file_rows = _parse_file_rows(raw, modalities, max([*rows.values(), *pools.values()]))
    return DatasetInfo(
        name=contents.name,
        classes=contents.classes,
        modalities=modalities,
        samples=samples,
        rows=rows,
        settings=dict(_block(raw, "settings")),
        source=dict(_block(raw, "source")),
        sha256=_parse_digests(raw, data_files(modalities, pools, rows, file_rows)),
        format_version=version,
        pools=pools,
        regression=contents.regression,
        file_rows=file_rows,
    )


def parse_contents(raw: Mapping[str, Any]) -> Contents:
    """Return the checked description of a dataset for models.

    Raises:
        ValueError: a value is missing, of another type, or out of range; the message names the field.
    """
    modalities = {checks.file_name("modalities", m): _parse_modality(m, spec) for m, spec in _block(raw, "modalities")}
    if not modalities:
        checks.refuse("modalities", {}, "one modality at least")
    name = checks.text(*checks.member(raw, "name"))
    classes, regression = checks.class_names(*checks.member(raw, "classes")), parse_regression(raw)
    if regression is not None and len(classes) > 1:
        checks.refuse("classes", list(classes), "one name, that of the value of the regression")
    return Contents(name, classes, modalities, regression)


def _block(raw: Mapping[str, Any], key: str) -> ItemsView[str, Any]:
    return checks.mapping(*checks.member(raw, key)).items()


def _parse_modality(name: str, raw: Any) -> ModalityInfo:
    within = f"modalities.{name}"
    spec = checks.mapping(within, raw)
    kind = checks.choice(*checks.member(spec, "kind", within), KINDS)
    shape = checks.shape(*checks.member(spec, "shape", within), kind)
    mean, std = checks.mean_and_std(spec, within, kind, shape)
    dtype = checks.choice(*checks.member(spec, "dtype", within), checks.DTYPES)
    masked = checks.flag(f"{within}.masked", spec.get("masked", False))
    ids = checks.token_ids(spec, within) if kind == "tokens" else (0, 0)
    return ModalityInfo(shape, dtype, mean, std, kind, masked, *ids)


def _parse_counts(raw: Mapping[str, Any], key: str) -> dict[str, int]:
    counts = dict(_block(raw, key))
    return {split: checks.whole(*checks.member(counts, split, key)) for split in SPLITS}


def _parse_pools(raw: Mapping[str, Any], modalities: Mapping[str, ModalityInfo]) -> dict[str, int]:
    pools = checks.mapping("pools", raw.get("pools", {}))
    for m in pools:
        if m not in modalities or modalities[m].kind in checks.WITH_LENGTHS:
            checks.refuse("pools", m, "modalities of the dataset that are no sequences and no tokens")
    return {m: checks.whole(*checks.member(pools, m, "pools")) for m in pools}


def _parse_file_rows(raw: Mapping[str, Any], modalities: Collection[str], most: int) -> dict[str, int]:
    """Rows of a file, by modality; `most` is the number of rows of the largest array."""
    found = checks.mapping("file_rows", raw.get("file_rows", {}))
    for m, rows in found.items():
        if m not in modalities:
            checks.refuse("file_rows", m, "modalities of the dataset")
        if most > MOST_FILES * checks.whole(f"file_rows.{m}", rows):
            checks.refuse(f"file_rows.{m}", rows, f"so large that an array has {MOST_FILES} files at most")
    return found


def _parse_digests(raw: Mapping[str, Any], files: Sequence[str]) -> dict[str, str]:
    digests = dict(_block(raw, "sha256"))
    if len(set(files)) < len(files):
        doubled = next(path for path in files if files.count(path) > 1)
        raise ValueError(f"modalities: two arrays would have the file {doubled}; rename one of the modalities")
    return {path: checks.sha256(*checks.member(digests, path, "sha256")) for path in files}


def lengths_file(modality: str) -> str:
    """Name of the file of a sequence's valid steps."""
    return f"{modality}_lengths.npy"


def present_file(modality: str) -> str:
    """Name of the file of which rows have a modality."""
    return f"{modality}_present.npy"


def pool_files(modality: str) -> tuple[str, str]:
    """Name of the array of a modality's pool, as `array_files` takes it, and of the file of its classes."""
    return f"{modality}_pool", f"{modality}_pool_labels.npy"


def data_files(
    modalities: Mapping[str, ModalityInfo],
    pools: Mapping[str, int] = MappingProxyType({}),
    rows: Mapping[str, int] = MappingProxyType({}),
    file_rows: Mapping[str, int] = MappingProxyType({}),
) -> list[str]:
    """Paths of all files besides `dataset.json`, relative to the directory; see `DatasetInfo` for the arguments."""
    lengths = [lengths_file(m) for m, spec in modalities.items() if spec.kind in checks.WITH_LENGTHS]
    present = [present_file(m) for m, spec in modalities.items() if spec.masked]
    columns = [*lengths, *present, LABELS_FILE, IDS_FILE]
    found = []
    for split in SPLITS:
        arrays = [name for m in modalities for name in array_files(m, rows.get(split, 0), file_rows.get(m, 0))]
        found += [f"{split}/{name}" for name in (*arrays, *columns)]
    for m, size in pools.items():
        array, labels = pool_files(m)
        found += [f"train/{name}" for name in (*array_files(array, size, file_rows.get(m, 0)), labels)]
    return found


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def has_old_pictures(info: DatasetInfo) -> bool:
    """Whether a dataset's clips were decoded by a reader from before `DECODING`."""
    decoders = info.source.get("decoders")
    return isinstance(decoders, Mapping) and "av" in decoders and decoders.get("decoding") != str(DECODING)


def warning_of_old_pictures(root: Path, command: str) -> str:
    """The line about a dataset that `has_old_pictures`; `command` prepares it again."""
    return (
        f"{root}: its clips were decoded by an earlier drcli, which took wrong pictures from some videos (AVI files of "
        f"DivX and XviD with packed B-frames, mirrored videos); prepare the dataset again: {command}"
    )


def prepare_command(
    name: str,
    root: Path,
    *,
    needs_source: bool | None,
    fresh: bool = False,
    changed: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """The command that makes a prepared dataset, quoted for a message.

    Args:
        name: of the dataset.
        root: its folder.
        needs_source: whether it is made from a download; None where that is not known.
        fresh: whether it replaces a dataset that is there.
        changed: settings of `dataset.prepare` that are not its defaults, by key.
    """
    source = {True: " --source DIR", False: "", None: " [--source DIR]"}[needs_source]
    given = "".join(
        " " + shlex.quote(f"dataset.prepare.{key}={value if isinstance(value, str) else json.dumps(value)}")
        for key, value in changed.items()
    )
    return f"`drcli prepare {name}{source}{given} --out {root}{' --fresh' if fresh else ''}`"

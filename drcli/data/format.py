"""The prepared dataset on disk: names of its files, and `dataset.json`.

A prepared dataset is a directory::

    dataset.json            this module's `DatasetInfo`
    <split>/<modality>.npy  (N, ...) one memory-mappable array
    <split>/<modality>_lengths.npy  (N,) int64 valid steps, for sequences
    <split>/labels.npy      (N,) int64 indices into `classes`
    <split>/ids.txt         N lines; rows that share an id are several draws of one sample

with the splits train, val and test. `data_prep` writes it, `drcli.data` reads it; nothing else of
either package is shared. This module imports neither torch nor pydantic.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drcli.errors import DataError
from drcli.reading import open_regular, read_json

FORMAT_VERSION = 1
SPLITS = ("train", "val", "test")
INFO_FILE = "dataset.json"
LABELS_FILE = "labels.npy"
IDS_FILE = "ids.txt"
KINDS = ("array", "frames", "flow", "sequence")
"""array: (C, H, W), an image or a spectrogram. frames: (T, 3, H, W), pictures in the order of time.
flow: (T, 2, H, W), horizontal and vertical optical flow. sequence: (L, D), padded at its end, with the
number of valid steps in a file of its own."""
EMBEDDED = frozenset({"digits"})  # datasets that are made without a download, hence without --source


@dataclass(frozen=True)
class ModalityInfo:
    """What is stored of one modality.

    Attributes:
        shape: shape of one sample, without the leading N.
        dtype: numpy name of the stored type ("float16", "uint8").
        mean: subtracted when a batch is made; one number, or one a channel.
        std: divided by when a batch is made; as many numbers as `mean`.
        kind: what the axes are: one of `KINDS`.
    """

    shape: tuple[int, ...]
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    kind: str = "array"


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

    @property
    def fingerprint(self) -> str:
        """Digest of what the dataset holds, whatever its folder is called."""
        held = {"classes": list(self.classes), "sha256": dict(self.sha256)}
        return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """Text of `dataset.json`."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


def read_info(root: Path) -> DatasetInfo:
    """Read `dataset.json` of a prepared dataset.

    Raises:
        DataError: the file is missing, damaged, or of another format version.
    """
    path = root / INFO_FILE
    try:
        raw = read_json(path, remedy="prepare the dataset again with --fresh")
    except DataError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise DataError(f"{root}: no prepared dataset here ({INFO_FILE} is missing)") from error
        raise
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if version != FORMAT_VERSION:
        raise DataError(
            f"{path}: format_version is {version!r}, this drcli reads {FORMAT_VERSION}; "
            "prepare the dataset again with `drcli prepare --fresh`"
        )
    try:
        return _parse(raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: damaged ({error!r}); prepare the dataset again with --fresh") from error


def _parse(raw: Mapping[str, Any]) -> DatasetInfo:
    modalities = {str(m): _parse_modality(spec) for m, spec in raw["modalities"].items()}
    return DatasetInfo(
        name=str(raw["name"]),
        classes=tuple(str(name) for name in raw["classes"]),
        modalities=modalities,
        rows={split: int(raw["rows"][split]) for split in SPLITS},
        samples={split: int(raw["samples"][split]) for split in SPLITS},
        settings=dict(raw["settings"]),
        source=dict(raw["source"]),
        sha256={path: str(raw["sha256"][path]) for path in data_files(modalities)},
    )


def _parse_modality(spec: Mapping[str, Any]) -> ModalityInfo:
    shape = tuple(int(size) for size in spec["shape"])
    mean, std = (tuple(float(value) for value in spec[name]) for name in ("mean", "std"))
    if spec["kind"] not in KINDS or len(mean) != len(std):
        raise ValueError(f"kind is {spec['kind']!r} with {len(mean)} means and {len(std)} standard deviations")
    return ModalityInfo(shape, str(spec["dtype"]), mean, std, spec["kind"])


def lengths_file(modality: str) -> str:
    """Name of the file of a sequence's valid steps."""
    return f"{modality}_lengths.npy"


def data_files(modalities: Mapping[str, ModalityInfo]) -> list[str]:
    """Paths of all files besides `dataset.json`, relative to the directory."""
    lengths = [lengths_file(m) for m, spec in modalities.items() if spec.kind == "sequence"]
    names = [*(f"{m}.npy" for m in modalities), *lengths, LABELS_FILE, IDS_FILE]
    return [f"{split}/{name}" for split in SPLITS for name in names]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verify_files(root: Path, info: DatasetInfo) -> None:
    """Check that every file is there and is the one that was prepared.

    Raises:
        DataError: files are missing, or differ from the digests in `dataset.json`; all are named.
    """
    with ThreadPoolExecutor() as pool:  # hashlib releases the GIL
        states = pool.map(lambda item: _state(root / item[0], item[1]), info.sha256.items())
        damage = [f"{path} {state}" for path, state in zip(info.sha256, states, strict=True) if state]
    if damage:
        remedy = prepare_command(info.name, root, fresh=True)
        raise DataError(f"{root}: {', '.join(damage)}; prepare the dataset again: {remedy}")


def _state(path: Path, digest: str) -> str:
    """What is wrong with one file; the empty string if nothing is."""
    try:
        return "" if file_sha256(path) == digest else "was truncated or altered since it was prepared"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """One line for each setting that differs: "image_noise: 0.5 there, 0.3 asked".

    Values are compared as JSON would store them, so that a tuple equals a list.
    """
    there, asked = json.loads(json.dumps(dict(there))), json.loads(json.dumps(dict(asked)))
    return [
        f"{key}: {_shown(there, key)} there, {_shown(asked, key)} asked"
        for key in dict.fromkeys([*there, *asked])
        if key not in there or key not in asked or there[key] != asked[key]
    ]


def _shown(settings: Mapping[str, Any], key: str) -> str:
    return json.dumps(settings[key]) if key in settings else "unset"


def prepare_command(name: str, root: Path, *, fresh: bool = False) -> str:
    """The command that makes a prepared dataset, quoted for a message."""
    source = "" if name in EMBEDDED else " --source DIR"
    return f"`drcli prepare {name}{source} --out {root}{' --fresh' if fresh else ''}`"

"""Where CMU-MOSI's features are in a download: the files in use, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from data_prep.files.folders import list_folder
from data_prep.sources.mosi_csd import choose_files
from drcli.errors import DataError

FileName = Literal[
    "mosi_data.pkl", "mosi_data_noalign.pkl", "mosi_raw.pkl", "aligned_50.pkl", "unaligned_50.pkl", "csd"
]
FILES: Sequence[FileName] = get_args(FileName)
"""What is looked for, in this order; "csd" are the files CMU_MOSI_*.csd."""

MMSA_SHA256: Mapping[str, str] = {
    "aligned_50.pkl": "d3994fd25681f9c7ad6e9c6596a6fe9b4beb85ff7d478ba978b124139002e5f9",
    "unaligned_50.pkl": "78e0f8b5ef8ff71558e7307848fc1fa929ecb078203f565ab22b9daab2e02524",
}
"""The files that have MMSA's layout, with the digests in its README; no others are published."""


@dataclass(frozen=True)
class Download:
    """What was found of CMU-MOSI.

    Attributes:
        name: which of `FILES` it is.
        paths: file by role: "pickle", or those of `mosi_csd.ROLES`.
    """

    name: FileName
    paths: Mapping[str, Path]

    @property
    def where(self) -> Path:
        """The pickle, or the folder of the .csd files, for messages."""
        return self.paths["pickle"] if "pickle" in self.paths else self.paths["labels"].parent


def find_download(source: Path, file: FileName | None) -> Download:
    """The features in a folder or at most two folders below.

    Args:
        source: the folder.
        file: which of `FILES` to take; None takes the first that is there.

    Raises:
        DataError: there is none, there are two of one name, or a .csd file is missing.
    """
    there = list(_files_below(source, 2))
    for name in FILES if file is None else (file,):
        paths = sorted(path for path in there if path.name == name or (name == "csd" and path.suffix.lower() == ".csd"))
        if paths:
            return Download(name, choose_files(paths) if name == "csd" else {"pickle": _only(paths)})
    wanted = file or f"{', '.join(FILES[:-1])} or CMU_MOSI_*.csd"
    raise DataError(f"{source}: CMU-MOSI is not here; expected {'CMU_MOSI_*.csd' if file == 'csd' else wanted}")


def _files_below(folder: Path, depth: int) -> Iterator[Path]:
    """The pickles and .csd files of a folder and of those below, down to a depth; hidden ones are left out."""
    yield from list_folder(folder, {".csd", ".pkl"})
    if depth and folder.is_dir():
        for below in sorted(folder.iterdir()):
            if below.is_dir() and not below.name.startswith("."):
                yield from _files_below(below, depth - 1)


def _only(paths: Sequence[Path]) -> Path:
    if len(paths) > 1:
        raise DataError(f"{paths[0]} and {paths[1]} have the same name; name the folder of one of them with --source")
    return paths[0]

"""Where CMU-MOSI's features are in a download: the files in use, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from data_prep.files.folders import list_folder
from data_prep.sources.mosi_csd import are_labels_alone, choose_files
from data_prep.sources.mosi_utterances import TRANSCRIPTS, utterance_files
from drcli.errors import DataError

FileName = Literal[
    "mosi_data.pkl", "mosi_data_noalign.pkl", "mosi_raw.pkl", "aligned_50.pkl", "unaligned_50.pkl", "csd", "bc-LSTM"
]
FILES: Sequence[FileName] = get_args(FileName)
"""What is looked for, in this order; "csd" are the files CMU_MOSI_*.csd, "bc-LSTM" a folder with transcripts.csv."""

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
        paths: file by role: "pickle", or those of `mosi_csd.ROLES`, or those of `utterance_files` and, where it is
            there, "labels", the official label file.
    """

    name: FileName
    paths: Mapping[str, Path]

    @property
    def where(self) -> Path:
        """The pickle, or the folder of the other files, for messages."""
        if self.name == "csd":
            return self.paths["labels"].parent
        return self.paths["pickle"] if "pickle" in self.paths else self.paths["transcripts"].parent


def find_download(source: Path, file: FileName | None) -> Download:
    """The features in a folder or at most two folders below.

    Args:
        source: the folder.
        file: which of `FILES` to take; None takes the first that is there. The official label file beside a folder
            of bc-LSTM gives the scores of its utterances, and is no set of .csd files.

    Raises:
        DataError: there is none, there are two of one name, or one of several files is missing.
    """
    there = list(_files_below(source, 2))
    csd = sorted(path for path in there if path.suffix.lower() == ".csd")
    transcripts = [path for path in there if path.name.lower() == TRANSCRIPTS]
    for name in FILES if file is None else (file,):
        if name == "bc-LSTM" and transcripts:
            return Download(name, {**utterance_files(_only(transcripts)), **_label_file(csd)})
        if name == "csd" and csd and not (file is None and transcripts and are_labels_alone(csd)):
            return Download(name, choose_files(csd))
        pickles = [path for path in there if path.name == name]
        if pickles:
            return Download(name, {"pickle": _only(pickles)})
    raise DataError(f"{source}: CMU-MOSI is not here; expected {_EXPECTED.get(file or '', file) or _ANY}")


_EXPECTED = {"csd": "CMU_MOSI_*.csd", "bc-LSTM": f"a folder with {TRANSCRIPTS}"}
_ANY = ", ".join(name for name in FILES if name not in _EXPECTED) + ", or ".join(["", *_EXPECTED.values()])


def _label_file(csd: Sequence[Path]) -> dict[str, Path]:
    found = [path for path in csd if are_labels_alone([path])]
    return {"labels": _only(found)} if found else {}


def _files_below(folder: Path, depth: int) -> Iterator[Path]:
    """The pickles and tables of a folder and of those below, in order, down to a depth; hidden ones are left out."""
    yield from list_folder(folder, {".csd", ".csv", ".pkl"})
    if depth and folder.is_dir():
        for below in sorted(folder.iterdir()):
            if below.is_dir() and not below.name.startswith("."):
                yield from _files_below(below, depth - 1)


def _only(paths: Sequence[Path]) -> Path:
    if len(paths) > 1:
        first, second = sorted(paths)[:2]
        raise DataError(f"{first} and {second} have the same name; name the folder of one of them with --source")
    return paths[0]

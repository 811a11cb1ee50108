"""CMU-MOSEI, UR-FUNNY and MUStARD in small: true names and layouts, made-up numbers whose sign follows the label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from support.mosi_tree import ALIGNED, COUNTS, Table, cmu_table, csd_videos, mmsa_table, write_csd, write_pickle

FOLDS = {
    "train": ("188343", "--qXJuDtHPw", *(f"-tr{k:08d}" for k in range(6))),
    "valid": ("0h-zjBukYpk", "57618", "-va00000000", "-va00000001"),
    "test": ("_q7DM8WkzAQ", "270665", "-te00000000", "-te00000001"),
}
"""Made-up ids, some of them numbers, as in the genuine folds."""


def video_of_row(fold: str, row: int) -> str:
    """Three segments a video."""
    return FOLDS[fold][row // 3]


def mosei_table() -> Table:
    """`mosei_senti_data.pkl`: as CMU-MOSI's, ids (n, 3) of text."""
    table = cmu_table(ALIGNED)
    for fold, entry in table.items():
        rows = range(COUNTS[fold])
        entry["id"] = np.array([[video_of_row(fold, row), f"{row % 3}.5", f"{row % 3 + 1}.25"] for row in rows])
    return table


def mosei_mmsa_table() -> Table:
    """`aligned_50.pkl` of MMSA."""
    table = mmsa_table(ALIGNED)
    for fold, entry in table.items():
        entry["id"] = [f"{video_of_row(fold, row)}$_${row % 3}" for row in range(COUNTS[fold])]
    return table


def yes_no_table(no: int) -> Table:
    """`humor.pkl` (no is 0) and `sarcasm.pkl` (no is -1): ids are whole numbers or names."""
    table = cmu_table(ALIGNED)
    for number, (fold, entry) in enumerate(table.items()):
        signs = entry["labels"] >= 0
        entry["labels"] = np.where(signs, 1, no).astype(np.float64)
        numbers = 1000 * number + np.arange(COUNTS[fold])
        entry["id"] = numbers.reshape(-1, 1) if no == 0 else [f"1_{n}" for n in numbers.tolist()]
    return table


def folds_text(folds: dict[str, Any] | None = None) -> str:
    """The SDK's file of folds."""
    return "".join(f"standard_{fold}_fold={list(ids)!r}\n" for fold, ids in (folds or FOLDS).items())


def mosei_download(folder: Path) -> Path:
    """A folder with `mosei_senti_data.pkl` and the file of folds."""
    write_pickle(folder / "mosei_senti_data.pkl", mosei_table())
    (folder / "cmu_mosei_std_folds.py").write_text(folds_text(), encoding="utf-8")
    return folder


def humor_download(folder: Path) -> Path:
    """A folder with `humor.pkl`."""
    write_pickle(folder / "humor.pkl", yes_no_table(0))
    return folder


def sarcasm_download(folder: Path) -> Path:
    """A folder with `sarcasm.pkl`."""
    write_pickle(folder / "sarcasm.pkl", yes_no_table(-1))
    return folder


def mosei_csd_download(folder: Path) -> Path:
    """The SDK's files, labels of seven columns, and one video that is in no fold."""
    videos = [*(video for ids in FOLDS.values() for video in ids), "-none000000"]
    for name, streams in csd_videos(videos).items():
        if name.endswith("Opinion_Labels"):
            streams = {  # noqa: PLW2901 - sentiment and six emotions
                video: (np.hstack([values, np.ones((len(values), 6))]), times)
                for video, (values, times) in streams.items()
            }
        new = {"Opinion_Labels": "Labels", "Visual_Facet_42": "VisualFacet42"}
        plain = name.removeprefix("CMU_MOSI_")
        write_csd(folder / f"CMU_MOSEI_{new.get(plain, plain)}.csd", streams)
    (folder / "cmu_mosei_std_folds.py").write_text(folds_text(), encoding="utf-8")
    return folder

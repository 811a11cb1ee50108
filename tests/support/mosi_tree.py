"""CMU-MOSI's files in small: true names, layouts and folds, made-up numbers whose sign follows the label."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.sources.mosi_folds import FOLDS

COUNTS = {"train": 24, "valid": 12, "test": 12}
WIDTHS = {"text": 6, "audio": 5, "vision": 4}
ALIGNED = {"text": 8, "audio": 8, "vision": 8}
UNALIGNED = {"text": 8, "audio": 15, "vision": 12}
SPLITS = {"train": "train", "valid": "val", "test": "test"}

Table = dict[str, dict[str, Any]]


def video_of_row(fold: str, row: int) -> tuple[str, int]:
    """The video of a segment and its number in it: three segments a video, in the folds' order."""
    videos = sorted(FOLDS[SPLITS[fold]])
    return videos[row // 3], row % 3


def sentiments(count: int) -> np.ndarray:
    """Labels of all seven classes in turn; every eighth is 0."""
    return np.resize([2.4, -1.2, 0.0, 3.0, -0.4, 1.2, -3.0, -2.2], count)


def sequence(label: float, length: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """(length, width) without zeros, its mean of the label's sign."""
    noise = generator.uniform(0.5, 1.5, (length, width))
    return (1 if label >= 0 else -1) * noise


def steps_of(row: int, longest: int) -> int:
    """Valid steps of a row, 1 ... longest."""
    return 1 + (3 * row + longest - 1) % longest


def cmu_table(steps: dict[str, int], *, widths: dict[str, int] = WIDTHS, counts: dict[str, int] = COUNTS) -> Table:
    """`mosi_data.pkl` with equal steps, `mosi_data_noalign.pkl` otherwise: padded at the front."""
    aligned = len(set(steps.values())) == 1
    table: Table = {}
    for fold, count in counts.items():
        generator = np.random.default_rng(count)
        labels = sentiments(count)
        fields: dict[str, Any] = {key: np.zeros((count, steps[key], widths[key])) for key in steps}
        for key, array in fields.items():
            for row in range(count):
                length = steps_of(row if aligned else row + len(key), steps[key])
                array[row, steps[key] - length :] = sequence(labels[row], length, widths[key], generator)
        names = [video_of_row(fold, row) for row in range(count)]
        triples = [[video.encode(), b"%d.5" % k, b"%d.25" % (k + 1)] for video, k in names]
        table[fold] = {**fields, "labels": labels.reshape(-1, 1, 1), "id": np.array(triples)}
    return table


def raw_table() -> Table:
    """`mosi_raw.pkl`: as `mosi_data.pkl`, its ids a list of `video[k]`."""
    table = cmu_table(ALIGNED)
    for fold, entry in table.items():
        entry["id"] = ["{}[{}]".format(*video_of_row(fold, row)) for row in range(len(entry["text"]))]
    return table


def mmsa_table(steps: dict[str, int]) -> Table:
    """`aligned_50.pkl` with equal steps, `unaligned_50.pkl` otherwise: padded at the end."""
    table: Table = {}
    for fold, entry in cmu_table(steps).items():
        count = len(entry["text"])
        moved = {key: np.stack([to_front(row) for row in entry[key]]).astype(np.float32) for key in steps}
        lengths = {key: [int(row.any(axis=1).sum()) for row in moved[key]] for key in steps}
        mask = np.arange(steps["text"]) < np.array(lengths["text"])[:, None]
        moved["text"][~mask] = 0.125  # BERT gives padding a vector of its own
        labels = entry["labels"].reshape(-1)
        table[fold] = {
            **moved,
            "raw_text": np.array(["WORDS"] * count),
            "id": ["{}$_${}".format(*video_of_row(fold, row)) for row in range(count)],
            "text_bert": np.stack([mask * 101, mask, np.zeros_like(mask)], axis=1).astype(np.float64),
            "annotations": ["Neutral"] * count,
            "classification_labels": np.sign(labels) + 1,
            "regression_labels": labels,
        }
        if len(set(steps.values())) > 1:
            table[fold].update(audio_lengths=lengths["audio"], vision_lengths=lengths["vision"])
    return table


def to_front(row: np.ndarray) -> np.ndarray:
    """Move leading rows of zeros to the end."""
    start = int(row.any(axis=1).argmax())
    return np.concatenate([row[start:], row[:start]])


def write_pickle(path: Path, table: Any, *, protocol: int = 4) -> Path:
    """Pickle a table; makes the folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(table, protocol=protocol))
    return path


def write_csd(path: Path, videos: dict[str, tuple[Any, Any]]) -> Path:
    """One computational sequence: {video: (features, intervals)}."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        root = file.create_group(path.stem.removeprefix("CMU_MOSI_") + " root")
        for video, (features, intervals) in videos.items():
            group = root.create_group(f"data/{video}")
            group["features"], group["intervals"] = features, intervals
        root["metadata/root name"] = [b'"x"']
    return path


def csd_videos(videos: list[str]) -> dict[str, dict[str, tuple[Any, Any]]]:
    """Streams by file name. A video has 9 words of half a second, silence after each third; 3 opinions.

    Opinion k covers words 3k ... 3k + 2 and its silence. Audio comes every 0.1 s, faces every 0.25 s.
    """
    streams: dict[str, dict[str, tuple[Any, Any]]] = {name: {} for name in CSD_NAMES}
    for index, video in enumerate(videos):
        generator = np.random.default_rng(index)
        labels = sentiments(index + 3)[-3:]
        starts = np.arange(12) * 0.5
        intervals = np.stack([starts, starts + 0.5], axis=1)
        spoken = np.where(np.arange(12) % 4 == 3, b"sp", b"word")
        vectors = np.concatenate([sequence(label, 4, 6, generator) for label in labels])
        opinions = np.array([[0.0, 2.0], [2.0, 4.0], [4.0, 6.0]])
        streams["CMU_MOSI_Opinion_Labels"][video] = (labels[:, None], opinions)
        streams["CMU_MOSI_TimestampedWords"][video] = (spoken[:, None].astype("S4"), intervals)
        streams["CMU_MOSI_TimestampedWordVectors"][video] = (vectors, intervals)
        for name, every, width in (("CMU_MOSI_COVAREP", 0.1, 5), ("CMU_MOSI_Visual_Facet_42", 0.25, 4)):
            count = round(6 / every)
            edges = np.arange(count + 1) * every
            rows = np.concatenate([sequence(label, count // 3, width, generator) for label in labels])
            streams[name][video] = (rows, np.stack([edges[:-1], edges[1:]], axis=1))
    return streams


CSD_NAMES = (
    "CMU_MOSI_Opinion_Labels",
    "CMU_MOSI_TimestampedWords",
    "CMU_MOSI_TimestampedWordVectors",
    "CMU_MOSI_COVAREP",
    "CMU_MOSI_Visual_Facet_42",
)


def csd_fold_videos() -> list[str]:
    """Eight videos to train on, four each to validate and test."""
    chosen = {"train": 8, "val": 4, "test": 4}
    return [video for split, count in chosen.items() for video in sorted(FOLDS[split] - {"c5xsKMxpXnc"})[:count]]


def mosi_download(folder: Path) -> Path:
    """A folder with `mosi_data.pkl`, ready for `drcli prepare cmu_mosi --source`."""
    write_pickle(folder / "mosi_data.pkl", cmu_table(ALIGNED))
    return folder


def csd_download(folder: Path) -> Path:
    """A folder with the .csd files."""
    for name, videos in csd_videos(csd_fold_videos()).items():
        write_csd(folder / f"{name}.csd", videos)
    return folder


TRAINED_ON = ("tmZoasNr4rU", "zhpQhgha_KU", "2iD-tVS8NPw", "WKA5OygbEKI", "8d-gEyoeBzc", "Qr1Ca94K55A")
"""Videos of the made-up train part of bc-LSTM, two of them of the standard test split."""
UNSEEN = ("Ci-AH39fi3Y", "8qrpnFRGt2A", "Bfr499ggo-0", "QN9ZIUWUXsY")
"""Videos of its test part."""
OPINIONS = 4
"""Utterances of each of these videos."""
NUMBERS = {"text": 6, "audio": 5, "video": 4}


def score_of(video: int, number: int) -> float:
    """Score of an utterance, from 1 on, by the video's place among all."""
    return float(sentiments(40)[4 * video + number - 1])


def said_by(video: int, number: int) -> str:
    """Transcript of an utterance."""
    liked = "GREAT FUN" if score_of(video, number) >= 0 else "SAD WASTE"
    return f"IT WAS {liked} FOR {'ME' if number % 2 else 'US'}"


def utterance_download(folder: Path, *, scores: bool = True) -> Path:
    """A folder with that of bc-LSTM and, beside it, the official label file."""
    names, rows = list[str](), list[list[str]]()
    for index, video in enumerate((*TRAINED_ON, *UNSEEN)):
        for number in range(1, OPINIONS + 1):
            names.append(f"{video}_{number}")
            rows.append([names[-1], said_by(index, number), "10", str(int(score_of(index, number) >= 0))])
    write_table(folder / "bc/transcripts.csv", rows)
    generator = np.random.default_rng(0)
    for part, videos in (("train", TRAINED_ON), ("test", UNSEEN)):
        chosen = [i for i in generator.permutation(len(names)).tolist() if names[i][:11] in videos]
        write_table(folder / f"bc/text_{part}.csv", [[str(i), "0.5", "0.25"] for i in chosen])
        for m, width in NUMBERS.items():
            vectors = generator.normal(size=(len(chosen), width)).round(5).tolist()
            table = [[*map(str, vector), rows[i][3]] for i, vector in zip(chosen, vectors, strict=True)]
            write_table(folder / f"bc/{m}/{m}_{part}0.csv", table)
    if scores:
        write_csd(folder / "csd/CMU_MOSI_Opinion_Labels.csd", official_labels())
    return folder


def official_labels() -> dict[str, tuple[Any, Any]]:
    """Scores and times of all utterances; the second of the last video has no length."""
    found = {}
    for index, video in enumerate((*TRAINED_ON, *UNSEEN)):
        starts = np.arange(OPINIONS, dtype=float)
        ends = starts + (np.arange(OPINIONS) != 1 if video == UNSEEN[-1] else 1)
        found[video] = (np.array([[score_of(index, k + 1)] for k in range(OPINIONS)]), np.stack([starts, ends], axis=1))
    return found


def write_table(path: Path, rows: list[list[str]]) -> Path:
    """A table without a header, every value quoted; makes the folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows(rows)
    return path


def read_table(path: Path) -> list[list[str]]:
    """Its rows."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))

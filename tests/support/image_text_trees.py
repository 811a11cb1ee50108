"""Small downloads of Food-101 and MVSA-Single: true names, folders and encodings, JPEG pictures tinted by class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

DISHES = ("apple_pie", "baklava", "beef_tartare")
MOODS = ("negative", "neutral", "positive")
SAID = {"negative": "so sad today", "neutral": "at the station", "positive": "great fun &amp; sun"}


def write_jpeg(path: Path, label: int, number: int, *, size: tuple[int, int] = (40, 60)) -> Path:
    """A picture whose colour is its class's, and no two of which are equal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*size, 3), 40, np.uint8)
    pixels[..., label % 3] = 200
    pixels[: 4 + number % 20, :8] = 255
    cv2.imwrite(str(path), pixels)
    return path


def make_food101(source: Path) -> Path:
    """Kaggle's layout: 12 and 4 pictures of each of three dishes, titles in CSV files without a header."""
    for split, count in {"train": 12, "test": 4}.items():
        lines = []
        for label, dish in enumerate(DISHES):
            for number in range(count):
                name = f"{dish}_{number + (500 if split == 'test' else 0)}.jpg"
                write_jpeg(source / "images" / split / dish / name, label, number)
                title = f"Grandma&#8217;s {dish.replace('_', ' ')},\nthe best | part {number}"
                lines.append(f'{name},"{title}",{dish}\n')
        (source / "texts").mkdir(exist_ok=True)
        (source / "texts" / f"{split}_titles.csv").write_text("".join(lines), encoding="utf-8")
    return source


def make_mvsa(source: Path) -> Path:
    """Ten agreed pairs of each mood, three that only the other rule keeps, and one that none does."""
    folder, lines = source / "MVSA_Single", ["ID\ttext,image"]
    pairs = [(mood, mood) for mood in MOODS for _ in range(10)]
    pairs += [("neutral", mood) for mood in ("negative", "positive", "positive")] + [("positive", "negative")]
    for number, (text, picture) in enumerate(pairs, start=1):
        write_jpeg(folder / "data" / f"{number}.jpg", MOODS.index(picture), number)
        said = f"RT @someone: {SAID[text]} number {number}"
        content = f"{said}…\r\n".encode("gb18030" if number % 4 == 0 else "utf-8")
        (folder / "data" / f"{number}.txt").write_bytes(content)
        lines.append(f"{number}\t{text},{picture}")
    (folder / "labelResultAll.txt").write_bytes("\r\n".join([*lines, ""]).encode())
    return source


def make_lists(folder: Path, splits: dict[str, list[int]]) -> Path:
    """QMF's JSON lines over pairs of `make_mvsa`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, numbers in splits.items():
        rows: list[dict[str, Any]] = [
            {"id": n, "label": "x", "text": "read as Latin-1 \u00a1\u00ad", "img": f"data/{n}.jpg"} for n in numbers
        ]
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return folder


TOKENS = ("[UNK]", "[CLS]", "[SEP]", "grandma", "s", "beef", "tart", "##are", "apple", "pie", "the", "best", "[PAD]")


def save_tokenizer(folder: Path, *, tokens: tuple[str, ...] = TOKENS) -> Path:
    """A fast tokenizer of word pieces, as a model of texts has it: its own tokens stand around a text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    ids = {token: number for number, token in enumerate(tokens)}
    made = Tokenizer(models.WordPiece(vocab=ids, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    around = [(token, ids[token]) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    folder.mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder

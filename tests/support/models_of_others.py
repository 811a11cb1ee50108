"""Tiny models of timm and transformers, written as their own files; and a class that `backbone: module` names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "bert": {"model_type": "bert", "vocab_size": 24, "max_position_embeddings": 12, **SIZES},
    "roberta": {"model_type": "roberta", "vocab_size": 24, "max_position_embeddings": 14, "pad_token_id": 1, **SIZES},
    "vit": {"model_type": "vit", "image_size": 16, "patch_size": 8, "num_channels": 3, **SIZES},
    "ast": {
        "model_type": "audio-spectrogram-transformer", "num_mel_bins": 16, "max_length": 24, "patch_size": 8,
        "frequency_stride": 8, "time_stride": 8, **SIZES,
    },
    "wav2vec2": {
        "model_type": "wav2vec2", "conv_dim": [8, 8], "conv_kernel": [10, 4], "conv_stride": [5, 4], "vocab_size": 5,
        "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "feat_extract_norm": "layer", **SIZES,
    },
}  # fmt: skip
TIMM_VIT = {
    "backbone": "timm",
    "model": "vit_tiny_patch16_224",
    "options": {"patch_size": 8, "depth": 2, "embed_dim": 24, "num_heads": 3},
}
TIMM_RESNET = {"backbone": "timm", "model": "resnet10t", "options": {"channels": [4, 8, 8, 8], "stem_width": 4}}

ROWS = {"train": 36, "val": 12, "test": 12}
SAMPLES: Mapping[str, tuple[int, ...]] = {"text": (10,), "picture": (3, 16, 16), "sound": (1, 16, 24), "wave": (300, 1)}
VOCABULARY = 24
PREPARE = {"kinds": {"text": "tokens", "wave": "sequence"}, "vocabularies": {"text": VOCABULARY}}


def config_folder(folder: Path, name: str) -> str:
    """A folder with the configuration of a model, and no weights."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIGS[name]))
    return str(folder)


def save_samples(folder: Path) -> Path:
    """Texts, pictures, spectrograms and waveforms that tell one of three classes, for the dataset "arrays"."""
    folder.mkdir()
    for number, (split, rows) in enumerate(ROWS.items()):
        draw = np.random.default_rng(number)
        labels = np.arange(rows) % 3
        arrays: dict[str, Any] = {"labels": labels}
        for m, shape in SAMPLES.items():
            steps = draw.integers(shape[0] // 2, shape[0] + 1, rows)
            if m == "text":
                arrays[m] = draw.integers(2, 9, (rows, *shape)) + 7 * labels[:, None]
            else:
                level = labels.reshape(-1, *[1] * len(shape))
                arrays[m] = (draw.normal(size=(rows, *shape)) * (1 + level) + level).astype(np.float32)
            if m in {"text", "wave"}:
                arrays[f"{m}_lengths"] = steps
        np.savez(folder / f"{split}.npz", **arrays)
    return folder


class Mean(nn.Module):
    """What a researcher may have: a linear layer on the mean over the samples' first axis but the channels'."""

    def __init__(self, shape: Sequence[int], width: int = 6, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(shape[-1], width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.linear(x.flatten(1, -2).mean(dim=1)).relu()
        return found


class Valid(nn.Module):
    """An encoder of texts that asks for the valid tokens."""

    def __init__(self, shape: Sequence[int], vocabulary: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, 5)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        found: Tensor = self.table(x)[:, 0] * (lengths > 0)[:, None]
        return found


class OverTheBatch(Mean):
    """Features of a sample depend on the others."""

    def forward(self, x: Tensor) -> Tensor:
        found = super().forward(x)
        return found - found.mean(dim=0)


class Picture(Mean):
    """Returns maps, not one vector a sample."""

    def forward(self, x: Tensor) -> Tensor:
        return x


NOT_A_MODULE = 3

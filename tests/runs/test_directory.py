"""What a run directory keeps of the test split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from drcli.data.prepared import Split
from drcli.engine.outputs import SplitOutputs
from drcli.runs.directory import RunDirectory


def test_features_beyond_float16_are_kept_as_float32(tmp_path: Path) -> None:
    labels = torch.tensor([0, 1])
    split = Split("test", {}, labels, labels, torch.ones(2, dtype=torch.float64))
    features = {"small": torch.tensor([[0.5], [-65504.0]]), "large": torch.tensor([[0.5], [65536.0]])}
    directory = RunDirectory(tmp_path)
    directory.write_outputs(SplitOutputs(split, torch.zeros(2, 2), features).stored(["a", "b"]))
    with np.load(tmp_path / "test_outputs.npz") as kept:
        assert kept["features_small"].dtype == np.float16
        assert kept["features_large"].dtype == np.float32
        assert kept["features_small"].tolist() == [[0.5], [-65504.0]]
        assert kept["features_large"].tolist() == [[0.5], [65536.0]]

"""`log` and `--log`: where the curves of a run go."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_line import Drcli, RecipeFile, Refused


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "toy" / "joint" / "seed0"


def test_an_unknown_logger_is_refused_with_the_known_ones(
    refused: Refused, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    message = refused("train", recipe_file(), "--log", "wandbb", "--out", tmp_path, code=2)
    assert "log[0] = wandbb   must be one of: tensorboard, wandb, mlflow, trackio. Did you mean wandb?" in message


def test_another_logger_makes_no_other_run(drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path, folder: Path) -> None:
    common = ("train", recipe_file(), "--out", tmp_path / "runs")
    drcli(*common, "training.epochs=1", "log=[]")
    assert not (folder / "tensorboard").exists()
    assert "stored result" in drcli(*common, "training.epochs=1", "--log", "tensorboard").stderr
    drcli(*common, "training.epochs=2")
    assert (folder / "tensorboard").is_dir()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_goes_to_several_loggers(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed: pip install 'drcli[wandb]'")
    pytest.importorskip("mlflow", reason="mlflow is not installed: pip install 'drcli[mlflow]'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    drcli("train", recipe_file(), "--log", "tensorboard,wandb,mlflow", "--out", tmp_path / "runs")
    wandb.teardown()
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 1
    assert (folder / "tensorboard").is_dir()
    assert len(list((tmp_path / "mlruns").glob("*/*/metrics/train/loss"))) == 1

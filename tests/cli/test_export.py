"""`drcli export`: an encoder for other programs, and back into a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from support.command_line import Drcli, RecipeFile, Refused
from torch import nn

import drcli as package
from drcli.models.weight_files import digest


@pytest.mark.slow
def test_an_exported_encoder_gives_the_same_features_in_a_plain_torch_module(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    """torchvision's resnet18, its first convolution of one channel, without its classifier."""
    from torchvision.models import resnet18

    wide = "modalities={audio: {backbone: resnet18}, visual: {backbone: resnet_small}}"
    drcli("train", recipe_file(), wide, "training.epochs=1", "--out", tmp_path / "runs", "--device", "cpu")
    run, out = tmp_path / "runs" / "toy" / "joint" / "seed0", tmp_path / "audio.safetensors"
    drcli("export", run, "--encoder", "audio", "--out", out)
    plain = resnet18()
    plain.conv1, plain.fc = nn.Conv2d(1, 64, 7, 2, 3, bias=False), nn.Identity()
    plain.load_state_dict(load_file(out))
    inputs = torch.randn(5, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = package.load(run).encoders["audio"](inputs)
        torch.testing.assert_close(plain.eval()(inputs), expected, rtol=0, atol=1e-6)
    assert float(expected.std()) > 0.01


def test_the_file_says_what_it_takes_to_use_the_encoder(drcli: Drcli, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "visual.safetensors"
    result = json.loads(drcli("export", finished, "--encoder", "visual", "--out", out, "--json").stdout)
    with safe_open(out, "pt") as opened:
        notes = opened.metadata()
    assert result == {
        "checkpoint": str(finished / "checkpoint.pt"), "encoder": "visual", "out": str(out), "metadata": notes,
    }  # fmt: skip
    assert notes["drcli"] == package.__version__
    assert (notes["backbone"], notes["modality"], notes["method"], notes["format"]) == (
        "tiny", "visual", "joint", "pt",
    )  # fmt: skip
    read = {key: json.loads(notes[key]) for key in ("settings", "classes", "input_shape", "input_mean", "seed")}
    assert read["settings"] == {}
    assert (read["classes"], read["input_shape"], read["seed"]) == (["a", "b", "c"], [1, 8, 8], 0)
    assert len(notes["recipe_digest"]) == 64
    assert notes["digest"] == digest(load_file(out))


def test_the_line_names_file_encoder_and_input(drcli: Drcli, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    shown = " ".join(drcli("export", finished / "last.pt", "--encoder", "audio", "--out", out).stdout.split())
    assert shown == (f"{out}: encoder audio of {finished / 'last.pt'}, epoch 1; backbone tiny, input [1, 8, 8]")


def test_what_cannot_be_exported_is_refused(refused: Refused, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    many = refused("export", finished, "--out", out, code=2)
    assert many == f"--encoder: name an encoder of {finished / 'checkpoint.pt'}; known: audio, visual.\n"
    assert "Did you mean audio?" in refused("export", finished, "--encoder", "audo", "--out", out, code=2)
    suffix = refused("export", finished, "--encoder", "audio", "--out", finished / "checkpoint.pt", code=2)
    assert suffix == f"--out {finished / 'checkpoint.pt'}: the name must end in .safetensors\n"
    nowhere = refused("export", finished, "--encoder", "audio", "--out", tmp_path / "none" / "a.safetensors", code=1)
    assert "cannot be written" in nowhere
    assert not out.exists()


@pytest.mark.parametrize("source", ["exported", "checkpoint"])
def test_a_recipe_starts_from_a_trained_encoder(
    source: str, drcli: Drcli, recipe_file: RecipeFile, finished: Path, tmp_path: Path
) -> None:
    """At a learning rate of nearly 0 the encoder stays what it was; the other one is new."""
    out = tmp_path / "a.safetensors"
    drcli("export", finished, "--encoder", "audio", "--out", out)
    given = str(out) if source == "exported" else f"{{file: {finished / 'checkpoint.pt'}, encoder: audio}}"
    drcli(
        *("train", recipe_file(), f"modalities.audio.weights={given}", "training.epochs=1"),
        *("training.optimizer={name: sgd, lr: 1e-30, momentum: 0.0}", "--out", tmp_path / "runs", "--device", "cpu"),
    )
    run = tmp_path / "runs" / "toy" / "joint" / "seed0"
    start, now = package.load(finished).encoders, package.load(run).encoders
    (was, other), (audio, visual) = ([next(e.parameters()) for e in found.values()] for found in (start, now))
    assert torch.equal(audio, was)
    assert not torch.equal(visual, other)
    noted = json.loads((run / "environment.json").read_text())["weights"]
    assert noted == {"audio": digest(start["audio"].state_dict())}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("CHECKPOINT", r"holds the encoders of audio, visual, name one: weights={file: CHECKPOINT, encoder: audio}"),
        ("{file: CHECKPOINT, encoder: text}", "none of 'text'; name one of them: weights="),
        ("nowhere.pt", "nowhere.pt: no such file of pre-trained weights"),
    ],
)
def test_weights_that_cannot_fit_are_refused_before_the_data_is_looked_for(
    given: str, message: str, refused: Refused, recipe_file: RecipeFile, finished: Path, tmp_path: Path
) -> None:
    path = str(finished / "checkpoint.pt")
    recipe = recipe_file(dataset={"name": "toy", "root": str(tmp_path / "no data")})
    shown = refused(
        *("train", recipe, f"modalities.audio.weights={given.replace('CHECKPOINT', path)}", "--out", tmp_path / "runs"),
        code=3,
    )
    assert message.replace("CHECKPOINT", path) in shown
    assert not (tmp_path / "no data").exists()
    assert not (tmp_path / "runs").exists()


def test_a_finished_run_is_shown_without_the_weights_that_it_started_from(
    drcli: Drcli, recipe_file: RecipeFile, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.safetensors"
    drcli("export", finished, "--encoder", "audio", "--out", out)
    command = (
        "train",
        recipe_file(),
        f"modalities.audio.weights={out}",
        "training.epochs=1",
        "--out",
        tmp_path / "runs",
    )
    drcli(*command, "--device", "cpu")
    out.unlink()
    assert "joint" in drcli(*command, "--device", "cpu").stdout

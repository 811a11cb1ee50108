"""`drcli diagnose`: the contract of its output, on a checkpoint and on features from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command_line import Drcli, RecipeFile, Refused, tree

from drcli.diagnosis import MeasureSettings, diagnose
from drcli.diagnosis.features_file import load_features
from drcli.models.multimodal import extract_features

FRACTIONS = ("purity_train", "purity_val", "gap", "gap_permuted", "strength")


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """A file of features of two modalities, one of which knows the training labels by heart."""
    generator = np.random.default_rng(0)
    train, val = np.arange(60) % 3, np.arange(30) % 3
    path = tmp_path / "FEATURES.npz"
    np.savez(
        path,
        labels_train=train,
        labels_val=val,
        audio_train=generator.normal(scale=0.1, size=(60, 8)) + 3 * np.eye(8)[train],
        audio_val=generator.normal(size=(30, 8)),
        visual_train=generator.normal(size=(60, 5)),
        visual_val=generator.normal(size=(30, 5)),
    )
    return path


def test_json_of_a_checkpoint_has_every_modality(drcli: Drcli, finished: Path) -> None:
    before = tree(finished)
    path = finished / "checkpoint.pt"
    found = json.loads(drcli("diagnose", path, "--json").stdout)
    stored = json.loads((finished / "summary.json").read_text())
    assert set(found) == {"checkpoint", "epoch", "lambda", "modalities"}
    assert (found["checkpoint"], found["epoch"], found["lambda"]) == (str(path), stored["selected_epoch"], 3.0)
    assert list(found["modalities"]) == ["audio", "visual"]
    for modality in found["modalities"].values():
        assert all(0 <= modality[key] <= 1 for key in FRACTIONS)
        assert modality["gap"] == pytest.approx(abs(modality["purity_train"] - modality["purity_val"]))
        assert modality["strength"] == pytest.approx(np.tanh(3.0 * modality["gap"]))
    assert tree(finished) == before


def test_json_of_features_is_what_the_library_says(drcli: Drcli, features: Path) -> None:
    found = json.loads(drcli("diagnose", features, "--json").stdout)
    assert (found["checkpoint"], found["epoch"], found["lambda"]) == (str(features), None, 3.0)
    loaded = load_features(features)
    expected = diagnose(
        loaded.features_train,
        loaded.labels_train,
        loaded.features_val,
        loaded.labels_val,
        num_classes=3,
        settings=MeasureSettings(),
        lambda_=3.0,
    )
    for m in ("audio", "visual"):
        assert {k: found["modalities"][m][k] for k in expected[m].to_dict()} == expected[m].to_dict()
    assert found["modalities"]["audio"]["purity_train"] == 1.0
    assert found["modalities"]["audio"]["reading"].startswith("over-trained: would be pulled back by 0.")


def test_settings_of_the_command_line_take_effect(drcli: Drcli, features: Path) -> None:
    asked = ("lambda=0.5", "restarts=1", "gap=signed", "scaler=from_train", "match_sizes=true")
    found = json.loads(drcli("diagnose", features, *asked, "--json").stdout)
    audio = found["modalities"]["audio"]
    assert found["lambda"] == 0.5
    assert audio["strength"] == pytest.approx(np.tanh(0.5 * audio["gap"]))
    assert (audio["num_train"], audio["num_val"]) == (30, 30)


def test_a_run_is_diagnosed_as_its_own_method_does_it(drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path) -> None:
    block = {"every": 1, "restarts": 1, "lambda": 0.25, "match_sizes": True}
    recipe = recipe_file(methods={"diagnose_relearn": block}, method="diagnose_relearn")
    drcli("train", recipe, "training.epochs=1", "--out", tmp_path / "runs")
    path = tmp_path / "runs/toy/diagnose_relearn/seed0/last.pt"
    found = json.loads(drcli("diagnose", path, "--json").stdout)
    assert found["lambda"] == 0.25
    assert found["modalities"]["audio"]["num_train"] == 48
    found = json.loads(drcli("diagnose", path, "lambda=2", "--json").stdout)
    assert found["lambda"] == 2.0
    assert found["modalities"]["audio"]["num_train"] == 48


def test_the_table_reads_each_modality(drcli: Drcli, features: Path) -> None:
    shown = " ".join(drcli("diagnose", features).stdout.split())
    for word in ("audio", "visual", "lambda 3", "over-trained:"):
        assert word in shown


def test_unequal_numbers_of_rows_are_said_unless_they_are_matched(drcli: Drcli, features: Path) -> None:
    said = "60 rows of train against 30 of validation: purity depends on their number, too; match_sizes=true"
    assert drcli("diagnose", features).stdout.count(said) == 1
    assert "match_sizes" not in drcli("diagnose", features, "match_sizes=true").stdout


def test_the_reading_is_whole_in_a_narrow_window(drcli: Drcli, features: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = drcli("diagnose", features).stdout
    assert "…" not in shown
    assert all(word in shown for word in ("over-trained:", "pulled back by", "permuted", "strength"))
    assert max(map(len, shown.splitlines()[1:])) <= 80


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_figure_is_drawn_beside_the_result(
    suffix: str, drcli: Drcli, features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if suffix != ".png":  # t-SNE takes a second, and is the same for all
        monkeypatch.setattr("drcli.report.embedding.tsne", lambda components: components[:, :2])
    figure = tmp_path / f"figure{suffix}"
    result = drcli("diagnose", features, "--figure", figure, "--json")
    assert json.loads(result.stdout)["figure"] == str(figure)
    assert result.stderr == f"written: {figure}\n"
    assert figure.read_bytes()[:4] in {b"\x89PNG", b"<?xm", b"%PDF"}
    assert {path.name for path in tmp_path.iterdir()} == {features.name, figure.name}


def test_an_unknown_setting_is_refused_with_the_nearest_spelling(refused: Refused, features: Path) -> None:
    message = refused("diagnose", features, "lamda=3", code=2)
    assert message.startswith("drcli diagnose: 1 problem\n")
    assert (
        "lamda = 3   unknown key; known: scaler, gap, restarts, match_sizes, sample, kmeans, lambda, strength."
        in message
    )
    assert "Did you mean lambda?" in message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lambda=-1", "lambda = -1   must be a mapping, such as {key: value}, or must be from 0 to 1,000,000"),
        ("lambda=.inf", "lambda = .inf   must be "),
        ("gap=absolute", "gap = absolute   must be one of: abs, signed"),
        ("restarts=0", "restarts = 0   must be from 1 to 10,000"),
        ("restarts", "override 'restarts': has no =; write KEY=VALUE"),
        ("training.epochs=3", "unknown key"),
    ],
)
def test_a_setting_with_a_wrong_value_is_refused(override: str, message: str, refused: Refused, finished: Path) -> None:
    assert message in refused("diagnose", finished / "checkpoint.pt", override, code=2)


def test_a_modality_that_is_constant_says_so_and_small_units_do_not_make_one(drcli: Drcli, features: Path) -> None:
    arrays = dict(np.load(features))
    whole = json.loads(drcli("diagnose", features, "--json").stdout)
    arrays |= {name: 1e-9 * arrays[name] for name in ("audio_train", "audio_val")}
    arrays |= {"visual_val": np.full((30, 5), 0.1)}
    np.savez(features, **arrays)
    found = json.loads(drcli("diagnose", features, "--json").stdout)
    assert found["modalities"]["audio"]["purity_train"] == whole["modalities"]["audio"]["purity_train"] == 1.0
    line = "visual: its features of val are constant; clusters of them say nothing about the classes"
    assert found["warnings"] == [line]
    assert line in drcli("diagnose", features).stdout


def test_of_a_checkpoint_only_the_rows_of_the_sample_are_encoded(
    drcli: Drcli, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """24 of 60 training rows, and of 48 validation rows."""
    seen: list[int] = []

    def noting(*arguments: Any) -> Any:
        found = extract_features(*arguments)
        seen.append(len(found[1]))
        return found

    monkeypatch.setattr("drcli.commands.diagnose.extract_features", noting)
    found = json.loads(drcli("diagnose", finished, "sample=24", "--json").stdout)
    assert seen == [24, 24]
    assert {(one["num_train"], one["num_val"]) for one in found["modalities"].values()} == {(24, 24)}

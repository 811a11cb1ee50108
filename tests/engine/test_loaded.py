"""A trained model for other code: the same outputs as evaluation, without the dataset on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.training import CPU, planned, trained

import drcli
from drcli import checkpoint
from drcli.data.batches import Batches
from drcli.data.format import ModalityInfo
from drcli.data.input import InputSettings
from drcli.data.plan import InputPlan, Transform
from drcli.data.prepared import PreparedDataset, Split, open_dataset
from drcli.engine.assemble import restore
from drcli.engine.evaluate import run_split
from drcli.engine.loaded import load
from drcli.engine.run import execute
from drcli.errors import CheckpointError, DataError, UsageError
from drcli.recipe.schema import Recipe
from drcli.watch.events import Listener


@pytest.fixture
def recipe(toy_recipe: Callable[..., Recipe]) -> Recipe:
    training = {"epochs": 1, "batch_size": 32, "optimizer": {"name": "sgd", "lr": 0.05}}
    return toy_recipe(method="multi_loss", methods={"multi_loss": {}}, training=training)


@pytest.fixture
def run(recipe: Recipe, toy_root: Path, tmp_path: Path) -> Path:
    """The folder of a finished run."""
    execute(planned(recipe, tmp_path / "run"), open_dataset(toy_root), device=CPU, listener=Listener())
    return tmp_path / "run"


def test_a_loaded_model_predicts_from_what_there_is(run: Path, toy_root: Path) -> None:
    """As `drcli eval --subsets audio` scores it; absent features are zeros."""
    found = drcli.load(run)
    (batch,) = (
        Batches(open_dataset(toy_root).split("test"), {m: t.plan for m, t in found.transforms.items()}, CPU)
        .take(torch.arange(6))
        .split(1)
    )
    outputs = found.predict({"audio": batch.inputs["audio"]})
    whole = found.predict(batch.inputs)
    assert torch.equal(outputs.features["audio"], whole.features["audio"])
    assert outputs.features["visual"].count_nonzero() == 0
    with torch.no_grad():
        assert torch.equal(outputs.logits, found.model.fusion(outputs.features))


@pytest.mark.parametrize("names", [(), ("smell",)])
def test_inputs_of_no_modality_of_the_model_are_refused(names: tuple[str, ...], run: Path) -> None:
    with pytest.raises(UsageError, match=r"inputs of (no modality|smell); known: audio, visual"):
        drcli.load(run).predict({m: torch.zeros(2, 1, 8, 8) for m in names})


def test_a_loaded_model_predicts_what_evaluation_predicts_without_opening_the_dataset(
    run: Path, toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run_split(restore(run / "checkpoint.pt", CPU).assembly, "test")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the dataset was looked for")

    monkeypatch.setattr("drcli.data.prepared.read_info", refuse)
    found = drcli.load(run)
    stored = {m: torch.from_numpy(np.load(toy_root / "test" / f"{m}.npy")) for m in found.encoders}
    inputs = {m: found.transforms[m](x) for m, x in stored.items()}
    assert all(torch.equal(found.transforms[m](x.numpy()), inputs[m]) for m, x in stored.items())
    outputs = found.predict(inputs)
    torch.testing.assert_close(outputs.logits, expected.logits, rtol=0, atol=1e-6)
    with torch.no_grad():
        for m, encoder in found.encoders.items():
            torch.testing.assert_close(encoder(inputs[m]), expected.features[m], rtol=0, atol=1e-6)
    assert found.classes == ("a", "b", "c")
    assert (found.path, found.epoch, found.recipe.method) == (run / "checkpoint.pt", 0, "multi_loss")
    assert not found.model.training


def test_a_run_folder_and_its_checkpoint_give_the_same_model(run: Path) -> None:
    one, other = load(str(run)), load(run / "checkpoint.pt")
    assert all(torch.equal(x, y) for x, y in zip(one.model.parameters(), other.model.parameters(), strict=True))


def test_arrays_of_another_shape_are_refused(run: Path) -> None:
    with pytest.raises(UsageError, match=r"arrays of shape \(B, 1, 8, 8\) expected, not \(2, 8, 8\)"):
        load(run).transforms["audio"](torch.zeros(2, 8, 8))


def _plan(kind: str, shape: tuple[int, ...], **settings: Any) -> InputPlan:
    count = shape[-1] if kind == "sequence" else shape[-3]
    mean, std = tuple(0.5 + i for i in range(count)), tuple(2.0 + i for i in range(count))
    return InputPlan(ModalityInfo(shape, "float32", mean, std, kind), InputSettings(**settings))


@pytest.mark.parametrize(
    "plan",
    [
        _plan("array", (1, 4, 4)),
        _plan("frames", (5, 3, 6, 7), frames=2, size=4, flip=True),
        _plan("flow", (3, 2, 4, 4)),
        _plan("sequence", (6, 3)),
    ],
)
def test_a_transform_makes_the_inputs_of_evaluation(plan: InputPlan) -> None:
    stored = torch.randn(3, *plan.info.shape, generator=torch.Generator().manual_seed(0))
    lengths = {"m": torch.tensor([2, 6, 0])} if plan.info.kind == "sequence" else {}
    rows = torch.arange(3)
    split = Split("test", {"m": stored}, torch.zeros(3, dtype=torch.int64), rows, torch.ones(3), lengths)
    (batch,) = Batches(split, {"m": plan}, CPU).in_order(3)
    kept = stored.clone()
    assert torch.equal(Transform(plan)(stored, lengths.get("m")), batch.inputs["m"])
    assert torch.equal(stored, kept)


def _resaved(run: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    path = run / "checkpoint.pt"
    state = checkpoint.load(path)
    change(state)
    state.pop("checkpoint_version")
    checkpoint.save(path, state)
    return path


def _without_data(state: dict[str, Any]) -> None:
    del state["dataset"]


def _without_audio(state: dict[str, Any]) -> None:
    del state["dataset"]["modalities"]["audio"]


def _huge(state: dict[str, Any]) -> None:
    state["dataset"]["modalities"]["audio"]["shape"] = [1, 2**20, 2**20]


def _no_classes(state: dict[str, Any]) -> None:
    state["dataset"]["classes"] = []


def _many_classes(state: dict[str, Any]) -> None:
    state["dataset"]["classes"] = [str(i) for i in range(100)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_data, "says nothing of its data, as checkpoints of earlier versions"),
        (_without_audio, r"dataset\.modalities has no 'audio'"),
        (_huge, r"dataset\.modalities\.audio\.shape is \[1, 1048576, 1048576\], more than"),
        (_no_classes, r"dataset: classes is \[\]; it must be a list of class names"),
        (_many_classes, "does not fit the model of its recipe"),
    ],
)
def test_a_checkpoint_that_describes_other_data_is_refused(
    change: Callable[[dict[str, Any]], Any], message: str, run: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load(_resaved(run, change))


def test_a_larger_model_than_the_weights_are_of_is_refused_before_memory_is_taken_for_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def widen(state: dict[str, Any]) -> None:
        state["recipe"]["modalities"]["audio"] = {"backbone": "resnet_small", "width": 4096}

    built: list[str] = []
    path = _resaved(run, widen)
    monkeypatch.setattr("drcli.models.build.BACKBONES", _Noting(built))
    with pytest.raises(CheckpointError, match="does not fit the model of its recipe"):
        load(path)
    assert set(built) == {"meta"}


class _Noting:
    """Notes on which device a backbone is built."""

    def __init__(self, devices: list[str]) -> None:
        self.devices = devices

    def load(self, name: str) -> Any:
        from drcli.names import BACKBONES

        self.devices.append(torch.get_default_device().type)
        return BACKBONES.load(name)


def test_a_checkpoint_of_before_its_data_was_kept_is_resumed_and_evaluated(
    recipe: Recipe, toy_dataset: PreparedDataset, tmp_path: Path
) -> None:
    trained(recipe, tmp_path / "run")
    path = _resaved(tmp_path / "run", _without_data)
    assert run_split(restore(path, CPU).assembly, "val").logits.shape == (48, 3)


def test_data_is_found_from_another_folder_where_the_run_noted_an_absolute_path(
    run: Path, toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def relative(state: dict[str, Any]) -> None:
        state["recipe"]["dataset"]["root"] = "data/toy"

    path = _resaved(run, relative)
    monkeypatch.chdir(tmp_path)
    assert restore(path, CPU).assembly.dataset.root == toy_root.absolute()
    alone = tmp_path / "checkpoint.pt"
    shutil.copy(path, alone)
    with pytest.raises(DataError, match=r"^data/toy: no prepared dataset here .*; name its folder with dataset\.root="):
        restore(alone, CPU)


def test_an_attribute_that_drcli_does_not_have_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'drcli' has no attribute 'loads'"):
        _ = drcli.loads  # type: ignore[attr-defined]

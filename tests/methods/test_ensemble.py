"""The ensemble: averaged probabilities of the unimodal runs' encoders, whatever the fusion is."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from reference.ensemble import slow_average
from support.training import bits, log, make_trainer, trained, weights
from torch import Tensor

from drcli.engine.assemble import restore
from drcli.engine.evaluate import run_split
from drcli.methods.ensemble import log_mean_softmax, mean_values
from drcli.models.multimodal import Teacher
from drcli.recipe.schema import Recipe

TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")


def random_logits(modalities: tuple[str, ...]) -> dict[str, Tensor]:
    stream = torch.Generator().manual_seed(0)
    return {m: 3 * torch.randn(7, 4, generator=stream) for m in modalities}


def test_numbers_worked_by_hand() -> None:
    """Softmaxes (3/4, 1/4) and (1/2, 1/2) average to (5/8, 3/8)."""
    logits = {"audio": torch.tensor([[math.log(3), 0.0]]), "visual": torch.tensor([[7.0, 7.0]])}
    torch.testing.assert_close(log_mean_softmax(logits).exp(), torch.tensor([[0.625, 0.375]]))


@pytest.mark.parametrize("modalities", [("audio",), TWO, THREE], ids=len)
def test_agrees_with_a_slow_reference(modalities: tuple[str, ...]) -> None:
    logits = random_logits(modalities)
    expected = torch.tensor(slow_average({m: z.tolist() for m, z in logits.items()}))
    found = log_mean_softmax(logits)
    torch.testing.assert_close(found.exp(), expected)
    torch.testing.assert_close(found.softmax(dim=1), expected)


def test_probabilities_are_averaged_and_not_logits() -> None:
    """A modality that is sure of class 0 outvotes two that are mildly for class 1, if logits are averaged."""
    logits = {"a": torch.tensor([[40.0, 0.0]]), "b": torch.tensor([[0.0, 4.0]]), "c": torch.tensor([[0.0, 4.0]])}
    assert int(torch.stack(list(logits.values())).mean(dim=0).argmax()) == 0
    assert int(log_mean_softmax(logits).argmax()) == 1


def test_the_order_of_the_modalities_does_not_matter() -> None:
    logits = random_logits(THREE)
    torch.testing.assert_close(log_mean_softmax(dict(reversed(logits.items()))), log_mean_softmax(logits))


def test_certain_predictions_stay_finite() -> None:
    logits = {m: torch.tensor([[1e4, -1e4]]) for m in TWO}
    assert torch.isfinite(log_mean_softmax(logits)).all()


@pytest.fixture
def unimodal(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., dict[str, tuple[Teacher, Tensor]]]:
    """Trains one unimodal run a modality: its teacher, and its logits on val."""

    def train(modalities: tuple[str, ...] = TWO) -> dict[str, tuple[Teacher, Tensor]]:
        found = {}
        for m in modalities:
            trainer = trained(toy_recipe((m,), method="unimodal"), tmp_path / "unimodal" / m, modality=m)
            found[m] = Teacher.of(trainer.assembly.model), run_split(trainer.assembly, "val").logits
        return found

    return train


def with_teachers(monkeypatch: pytest.MonkeyPatch, found: dict[str, tuple[Teacher, Tensor]]) -> None:
    teachers = {m: teacher for m, (teacher, _) in found.items()}
    monkeypatch.setattr("support.training.made_up_teachers", lambda recipe: teachers)


@pytest.mark.parametrize(
    ("modalities", "fusion"), [(("audio",), "concat"), (TWO, "sum"), (TWO, "mmtm"), (THREE, "concat"), (THREE, "mmtm")]
)
def test_predicts_what_the_unimodal_runs_predict_on_average(
    modalities: tuple[str, ...],
    fusion: str,
    unimodal: Callable[..., dict[str, tuple[Teacher, Tensor]]],
    toy_recipe: Callable[..., Recipe],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = unimodal(modalities)
    with_teachers(monkeypatch, found)
    recipe = toy_recipe(modalities, fusion=fusion, method="ensemble", methods={"ensemble": {}})
    trainer = trained(recipe, tmp_path / "ensemble")
    expected = torch.tensor(slow_average({m: logits.tolist() for m, (_, logits) in found.items()}))
    ours = run_split(trainer.assembly, "val").logits
    torch.testing.assert_close(ours.exp(), expected, rtol=1e-4, atol=1e-5)
    (line,) = log(trainer.directory.folder / "metrics.jsonl")
    assert line["selected"]
    restored = restore(trainer.directory.checkpoint, torch.device("cpu")).assembly
    assert bits(run_split(restored, "val").logits) == bits(ours)


def test_an_ensemble_takes_no_step_and_changes_no_weight(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    trainer = make_trainer(toy_recipe(method="ensemble", methods={"ensemble": {}}), tmp_path / "ensemble")
    before = bits(weights(trainer)), bits(trainer.assembly.extras.state_dict())
    trainer.train()
    assert (bits(weights(trainer)), bits(trainer.assembly.extras.state_dict())) == before
    assert trainer.ctx.step == 0


def test_values_are_averaged_over_the_modalities_that_a_row_has() -> None:
    values = {"a": torch.tensor([[1.0], [2.0]]), "b": torch.tensor([[3.0], [-4.0]]), "c": torch.tensor([[5.0], [8.0]])}
    assert mean_values(values).tolist() == [[3.0], [2.0]]
    present = {"b": torch.tensor([True, False])}
    assert mean_values(values, present).tolist() == [[3.0], [5.0]]

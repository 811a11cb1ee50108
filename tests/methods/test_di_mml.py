"""DI-MML: effective dimensions, contrasts, stages, weights of the prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.di_mml import slow_contrast, slow_effective, slow_prediction
from support.training import bits, make_trainer
from torch import Tensor

from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.di_mml import DIMML
from drcli.methods.parts.detached import FUSED, effective, lessons, one_way_contrast
from drcli.methods.parts.weighted import softmax_over
from drcli.recipe.schema import Recipe

pytestmark = pytest.mark.convolutions

TWO = ("audio", "visual")
THREE = ("audio", "text", "visual")
MOMENTUM = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of DI-MML before its first step."""

    def make(modalities: tuple[str, ...] = TWO, epochs: int = 4, fusion: str = "concat", **settings: Any) -> Trainer:
        recipe = toy_recipe(
            modalities,
            fusion=fusion,
            method="di_mml",
            methods={"di_mml": {"contrast_from": 1, "temperature": 2.0, **settings}},
            training={"epochs": epochs, "batch_size": 16, "optimizer": MOMENTUM},
        )
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return make


def method_of(trainer: Trainer) -> DIMML:
    method = trainer.assembly.method
    assert isinstance(method, DIMML)
    return method


@pytest.mark.parametrize(
    ("temperature", "expected"), [(1.0, [0.377978, 0.280013, 0.342009]), (3.0, [0.348183, 0.315049, 0.336768])]
)
def test_certainties_worked_by_hand(temperature: float, expected: list[float], trainer: Callable[..., Trainer]) -> None:
    """Largest probabilities .9, .6 and .8."""
    heads = method_of(trainer()).heads
    heads.fused.fill_(1.0)
    logits = {k: torch.tensor([[p, 1 - p]]).log() for k, p in (("audio", 0.9), ("visual", 0.6), (FUSED, 0.8))}
    found = heads.certainties(logits, temperature)
    assert [found[k].item() for k in logits] == pytest.approx(expected, abs=1e-6)


def test_the_fusion_weighs_nothing_before_it_is_trained(trainer: Callable[..., Trainer]) -> None:
    heads = method_of(trainer()).heads
    logits = {k: torch.tensor([[p, 1 - p]]).log() for k, p in (("audio", 0.9), ("visual", 0.6), (FUSED, 0.8))}
    found = heads.certainties(logits, 1.0)
    two = softmax_over({"audio": torch.tensor([0.9]), "visual": torch.tensor([0.6])})
    assert found[FUSED].item() == 0
    torch.testing.assert_close({k: found[k] for k in two}, two)


def test_effective_dimensions_agree_with_a_slow_reference() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (50,), generator=generator)
    features = torch.randn(50, 7, generator=generator, dtype=torch.float64)
    features[:, 2] += labels
    features[:, 5] -= 2 * labels
    found = effective(features, labels, 4)  # of a class that has no rows, too
    assert found.tolist() == slow_effective(features.tolist(), labels.tolist())
    assert bool(found[2])
    assert bool(found[5])


def test_dimensions_that_are_all_alike_are_none_of_them_effective() -> None:
    """Each is as good as the average, and not better."""
    column = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert effective(torch.stack([column] * 3, dim=1), torch.tensor([0, 0, 1, 1]), 2).tolist() == [False] * 3


def test_many_rows_are_looked_at_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    labels, features = torch.randint(3, (50,), generator=generator), torch.randn(50, 7, generator=generator)
    whole = effective(features, labels, 3)
    monkeypatch.setattr("drcli.methods.parts.detached.CHUNK", 8)
    assert torch.equal(effective(features, labels, 3), whole)


def test_a_modality_teaches_what_it_alone_masters() -> None:
    found = lessons({"audio": torch.tensor([True, True, False]), "visual": torch.tensor([False, True, False])})
    assert {pair: dims.tolist() for pair, dims in found.items()} == {("audio", "visual"): [True, False, False]}
    assert lessons({"audio": torch.tensor([True]), "visual": torch.tensor([True])}) == {}


def test_contrasts_agree_with_a_slow_reference() -> None:
    generator = torch.Generator().manual_seed(0)
    taught, teacher = (torch.randn(6, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    dimensions = torch.tensor([True, False, True, False, True])
    found = one_way_contrast(taught, teacher, dimensions, 0.5)
    assert found.item() == pytest.approx(slow_contrast(taught.tolist(), teacher.tolist(), [0, 2, 4], 0.5))


def test_a_contrast_moves_the_taught_one_alone_in_its_dimensions() -> None:
    taught, teacher = (torch.randn(6, 3, requires_grad=True) for _ in range(2))
    one_way_contrast(taught, teacher, torch.tensor([True, False, True]), 1.0).backward()
    assert teacher.grad is None
    assert taught.grad is not None
    assert (taught.grad.abs().sum(dim=0) > 0).tolist() == [True, False, True]


def gradient_of_audio(made: Trainer, visual: Tensor | None = None) -> list[Any]:
    """The gradients of encoder audio on a batch; `visual` replaces what is seen."""
    batch = next(made.ctx.train.in_order(16))
    if visual is not None:
        batch = replace(batch, inputs={**batch.inputs, "visual": visual})
    made.ctx.optimizer.zero_grad()
    method = method_of(made)
    method.backward(made.ctx, method.losses(made.ctx, method.forward(made.ctx, batch), batch))
    return [bits(parameter.grad) for parameter in made.ctx.model.encoders["audio"].parameters()]


@pytest.mark.parametrize(
    ("dimensions", "same"),
    [({}, True), ({("audio", "visual"): [0, 3]}, True), ({("visual", "audio"): [0, 3]}, False)],
    ids=["before contrasts", "it teaches", "it is taught"],
)
def test_what_another_modality_sees_reaches_an_encoder_only_as_what_it_is_taught(
    dimensions: dict[tuple[str, str], list[int]], same: bool, trainer: Callable[..., Trainer]
) -> None:
    made = trainer()
    width = made.ctx.model.fusion.widths["audio"]
    method_of(made).lessons = {p: torch.isin(torch.arange(width), torch.tensor(d)) for p, d in dimensions.items()}
    other = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert (gradient_of_audio(made) == gradient_of_audio(made, other)) == same


def test_the_losses_of_the_first_stage(trainer: Callable[..., Trainer]) -> None:
    made = trainer(THREE, weight=0.5, temperature=3.0)
    method, batch = method_of(made), next(made.ctx.train.in_order(8))
    width = made.ctx.model.fusion.widths["audio"]
    dims = {("audio", "text"): [0, 2], ("visual", "audio"): [1]}
    method.lessons = {p: torch.isin(torch.arange(width), torch.tensor(d)) for p, d in dims.items()}
    outputs = method.forward(made.ctx, batch)
    losses = method.losses(made.ctx, outputs, batch)
    cross_entropy = torch.nn.functional.cross_entropy
    assert list(losses) == [*THREE, "shared", "contrast"]
    for m in THREE:
        own = method.heads.own[m](outputs.features[m])
        torch.testing.assert_close(losses[m], cross_entropy(own, batch.labels))
    shared = [cross_entropy(method.heads.shared(h), batch.labels) for h in outputs.features.values()]
    torch.testing.assert_close(losses["shared"], 0.5 * torch.stack(shared).sum())
    rows = {m: h.tolist() for m, h in outputs.features.items()}
    expected = slow_contrast(rows["text"], rows["audio"], [0, 2], 3) + slow_contrast(
        rows["audio"], rows["visual"], [1], 3
    )
    assert losses["contrast"].item() == pytest.approx(expected, rel=1e-4)


def test_encoders_and_heads_are_trained_first_and_then_the_fusion_alone(trainer: Callable[..., Trainer]) -> None:
    made = trainer(fuse=2)
    changed = []
    for epoch in range(4):
        before = held(made)
        made._epoch(epoch)
        changed.append({name for name, value in held(made).items() if value != before[name]})
    assert changed == [{*TWO, "own", "shared"}] * 2 + [{"fusion"}] * 2


def held(trainer: Trainer) -> dict[str, Any]:
    model, heads = trainer.ctx.model, method_of(trainer).heads
    modules = {
        **dict(model.encoders.named_children()),
        "fusion": model.fusion,
        "own": heads.own,
        "shared": heads.shared,
    }
    return {name: bits(module.state_dict()) for name, module in modules.items()}


def test_predictions_agree_with_a_slow_reference(trainer: Callable[..., Trainer]) -> None:
    made = trainer(certainty=0.5, fuse=1)
    made.train()
    method, batch = method_of(made), next(made.ctx.val.in_order(8))
    made.ctx.model.eval()
    outputs = method.predict(made.ctx.model, batch)
    logits = {m: method.heads.own[m](h) for m, h in outputs.features.items()}
    logits[FUSED] = made.ctx.model.fusion(outputs.features)
    for i in range(8):
        expected = slow_prediction({k: z[i].tolist() for k, z in logits.items()}, 0.5)
        assert outputs.logits[i].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("dimensions", "epochs"), [("epoch", [1, 2]), ("once", [1])])
def test_dimensions_are_found_once_or_in_every_epoch(
    dimensions: str, epochs: list[int], trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trainer(dimensions=dimensions)
    found: list[int] = []

    def counted(features: Tensor, *_: Any) -> Tensor:
        found.append(made.ctx.epoch)
        return torch.arange(features.shape[1]) % 2 == len(found) % 2

    monkeypatch.setattr("drcli.methods.di_mml.effective", counted)
    for epoch in range(4):
        made.ctx.epoch = epoch
        method_of(made).on_epoch_start(made.ctx)
        if epoch in range(1, 3):
            assert set(method_of(made).lessons) == {TWO, TWO[::-1]}
    assert found == [epoch for epoch in epochs for _ in TWO]


@pytest.mark.slow
def test_dimensions_found_once_survive_a_checkpoint(trainer: Callable[..., Trainer]) -> None:
    whole = trainer(dimensions="once", epochs=5)
    whole.train()
    for epochs in (1, 2, 4):
        made = trainer(dimensions="once", epochs=5)
        for epoch in range(epochs):
            made._epoch(epoch)
        made.saver.flush()
        again = trainer(dimensions="once", epochs=5)
        again.directory = made.directory
        again.resume()
        again.train()
        assert bits(again.ctx.model.state_dict()) == bits(whole.ctx.model.state_dict())


@pytest.mark.parametrize(("epochs", "fuse", "last"), [(170, None, 150), (60, None, 53), (4, None, 3), (4, 2, 2)])
def test_when_the_fusion_is_trained(epochs: int, fuse: int | None, last: int, trainer: Callable[..., Trainer]) -> None:
    made = trainer(epochs=epochs, fuse=fuse)
    assert method_of(made).last_stage(made.ctx) == last


def test_a_run_without_contrasts_is_warned_of(trainer: Callable[..., Trainer]) -> None:
    made = trainer(contrast_from=3)
    assert list(method_of(made).warnings(made.ctx)) == [
        "no contrasts (contrast_from: 3, the fusion is trained from epoch 3 on)"
    ]
    assert list(method_of(trainer()).warnings(made.ctx)) == []


def test_what_does_not_fit_is_refused(trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(RecipeError, match=r"methods\.di_mml\.fuse = 4 +must be less than training\.epochs, 4"):
        trainer(fuse=4)
    with pytest.raises(RecipeError, match=r"fusion\.name = mmtm +must be concat or .* for di_mml: a late fusion"):
        trainer(fusion="mmtm")

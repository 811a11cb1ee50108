"""The classifier over encoders: shares of the logits, parameter groups, initial weights, features."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import bits, make_trainer, trained, weights
from torch import Tensor

from drcli.data.batches import Batch
from drcli.models.build import build_model
from drcli.models.fusion import Fusion
from drcli.models.multimodal import MultimodalModel, extract_features, over_rows
from drcli.names import FUSIONS
from drcli.recipe.schema import Recipe
from drcli.relearning.features import evaluating

WIDTHS = ({"audio": 5}, {"audio": 5, "visual": 3}, {"audio": 5, "visual": 3, "text": 7})
ADDITIVE = ("concat", "sum")


@pytest.fixture
def model(toy_recipe: Callable[..., Recipe]) -> Callable[..., MultimodalModel]:
    """Builds the model of a recipe over "toy"."""

    def make(modalities: tuple[str, ...], fusion: str = "concat", seed: int = 0) -> MultimodalModel:
        recipe = toy_recipe(modalities, fusion=fusion)
        shapes = dict.fromkeys(modalities, (1, 8, 8))
        return build_model(recipe.modalities, recipe.fusion, shapes=shapes, num_classes=3, seed=seed)

    return make


def fusion_of(name: str, widths: dict[str, int]) -> tuple[Fusion, dict[str, Tensor]]:
    torch.manual_seed(0)
    kind = FUSIONS.load(name)
    return kind(kind.Settings(), widths, 4), {m: torch.randn(6, width) for m, width in widths.items()}


@pytest.mark.parametrize("widths", WIDTHS, ids=len)
@pytest.mark.parametrize("name", ADDITIVE)
def test_shares_of_the_logits_add_up(name: str, widths: dict[str, int]) -> None:
    fusion, features = fusion_of(name, widths)
    shares = fusion.unimodal_logits(features, "slice")
    assert list(shares) == list(widths)
    assert all(share.shape == (6, 4) for share in shares.values())
    torch.testing.assert_close(torch.stack(list(shares.values())).sum(dim=0), fusion(features))


@pytest.mark.parametrize("name", ADDITIVE)
def test_a_share_depends_on_its_own_modality_alone(name: str) -> None:
    fusion, features = fusion_of(name, WIDTHS[2])
    before = fusion.unimodal_logits(features, "slice")
    after = fusion.unimodal_logits({**features, "visual": torch.zeros(6, 3)}, "slice")
    changed = {m: not torch.equal(before[m], after[m]) for m in before}
    assert changed == {"audio": False, "visual": True, "text": False}


@pytest.mark.parametrize("name", ADDITIVE)
def test_features_are_taken_by_name_and_not_by_position(name: str) -> None:
    fusion, features = fusion_of(name, WIDTHS[2])
    turned = dict(reversed(features.items()))
    assert torch.equal(fusion(features), fusion(turned))


def test_sliced_logits_by_hand() -> None:
    """W = [1 2 | 3], b = 4: z_audio = 1 + 2 + 4 / 2, z_visual = 3 + 4 / 2 for features of ones."""
    kind = FUSIONS.load("concat")
    fusion = kind(kind.Settings(), {"audio": 2, "visual": 1}, 1)
    fusion.linear.weight.data = torch.tensor([[1.0, 2.0, 3.0]])
    fusion.linear.bias.data = torch.tensor([4.0])
    shares = fusion.unimodal_logits({"audio": torch.ones(1, 2), "visual": torch.ones(1, 1)}, "slice")
    assert {m: share.item() for m, share in shares.items()} == {"audio": 5.0, "visual": 5.0}


@pytest.mark.parametrize("fusion", ADDITIVE)
def test_parameter_groups_are_disjoint_and_cover_the_model(fusion: str, model: Callable[..., MultimodalModel]) -> None:
    built = model(("audio", "visual", "text"), fusion)
    groups = built.parameter_groups()
    assert list(groups) == ["audio", "visual", "text", "fusion"]
    members = [id(parameter) for group in groups.values() for parameter in group]
    assert len(members) == len(set(members))
    assert set(members) == {id(parameter) for parameter in built.parameters()}


def test_an_encoder_starts_from_its_name_and_the_seed_alone(model: Callable[..., MultimodalModel]) -> None:
    joint = model(("audio", "visual"))
    turned, alone, summed = model(("visual", "audio")), model(("audio",)), model(("audio", "visual"), "sum")
    audio = bits(joint.encoders["audio"].state_dict())
    assert turned.modalities == ("visual", "audio")
    for other in (turned, alone, summed):
        assert bits(other.encoders["audio"].state_dict()) == audio
    assert bits(model(("audio",), seed=1).encoders["audio"].state_dict()) != audio
    assert bits(joint.encoders["visual"].state_dict()) != audio


def test_building_a_model_leaves_the_global_generator_alone(model: Callable[..., MultimodalModel]) -> None:
    state = torch.get_rng_state()
    model(("audio", "visual"))
    assert torch.equal(torch.get_rng_state(), state)


def test_joint_training_of_one_modality_is_unimodal_training(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """Also where the recipe of the unimodal run has a second modality."""
    mode = torch.get_deterministic_debug_mode()
    joint = trained(toy_recipe(("audio",), method="joint"), tmp_path / "joint")
    alone = trained(toy_recipe(("visual", "audio"), method="unimodal"), tmp_path / "alone", modality="audio")
    torch.set_deterministic_debug_mode(mode)
    assert bits(weights(alone)) == bits(weights(joint))


def test_features_are_those_of_evaluation_mode_and_leave_no_trace(
    toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    trainer = make_trainer(toy_recipe(), tmp_path)
    torch.set_deterministic_debug_mode("default")
    model, batches = trainer.assembly.model, trainer.ctx.train
    model.train()
    audio: Any = model.encoders["audio"]
    audio.stem.eval()  # a method may have frozen a layer
    modes = [layer.training for layer in model.modules()]
    before, state = bits(weights(trainer)), torch.get_rng_state()
    features, labels = extract_features(model, batches, 7)
    assert [layer.training for layer in model.modules()] == modes
    assert bits(weights(trainer)) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(labels, batches.split.labels)
    model.eval()
    whole = model.encode(next(batches.in_order(1000)).inputs)
    for m, found in features.items():
        assert not found.requires_grad
        torch.testing.assert_close(found, whole[m].detach())


def test_what_the_next_batch_overwrites_is_kept(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """A CUDA graph gives the same memory at every replay."""
    batches = make_trainer(toy_recipe(), tmp_path).ctx.train
    memory = torch.empty(7, 1)

    def replay(batch: Batch) -> dict[str, Tensor]:
        memory[: len(batch.index), 0] = batch.index
        return {"row": memory[: len(batch.index)]}

    assert over_rows(batches, 7, replay)["row"].flatten().tolist() == list(range(len(batches)))


def test_modes_come_back_when_an_evaluation_fails(model: Callable[..., MultimodalModel]) -> None:
    built = model(("audio",)).train()
    with suppress(ZeroDivisionError), evaluating(built):
        assert not built.training
        assert not torch.is_grad_enabled()
        raise ZeroDivisionError
    assert all(layer.training for layer in built.modules())
    assert torch.is_grad_enabled()

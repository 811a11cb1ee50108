"""SMV: values, copies, the rows of an epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.smv import slow_list, slow_shapley
from support.training import make_trainer
from torch import Tensor

from drcli.data.batches import Selection
from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.parts.shapley import coalitions
from drcli.methods.parts.valuation import contributions, right_coalitions
from drcli.methods.smv import SMV, copies, enlarged, weakest
from drcli.recipe.schema import Recipe
from drcli.world import World

TWO = ("audio", "visual")
THREE = ("audio", "text", "visual")


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of SMV before its first step."""

    def make(modalities: tuple[str, ...] = TWO, fusion: str = "concat", **settings: Any) -> Trainer:
        recipe = toy_recipe(modalities, fusion=fusion, method="smv", methods={"smv": {"warmup": 1, **settings}})
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return make


def method_of(trainer: Trainer) -> SMV:
    method = trainer.assembly.method
    assert isinstance(method, SMV)
    return method


def of_two(audio: bool, visual: bool, both: bool) -> dict[str, float]:
    """phi of one sample, from which subsets are right."""
    right = {frozenset({"audio"}): audio, frozenset({"visual"}): visual, frozenset(TWO): both}
    found = contributions({members: torch.tensor([correct]) for members, correct in right.items()})
    return {m: phi.item() for m, phi in found.items()}


@pytest.mark.parametrize(
    ("right", "phi"),
    [
        ((1, 1, 1), (1, 1)),
        ((1, 0, 1), (1.5, 0.5)),
        ((0, 1, 1), (0.5, 1.5)),
        ((0, 0, 1), (1, 1)),
        ((1, 1, 0), (0, 0)),
        ((1, 0, 0), (0.5, -0.5)),
        ((0, 1, 0), (-0.5, 0.5)),
        ((0, 0, 0), (0, 0)),
    ],
)
def test_values_worked_by_hand(right: tuple[int, int, int], phi: tuple[float, float]) -> None:
    """v is 1 for one modality that is right, 2 for both together."""
    found = of_two(*(bool(x) for x in right))
    assert (found["audio"], found["visual"]) == pytest.approx(phi, abs=1e-12)


def test_copies_by_value() -> None:
    values = torch.tensor([1.5, 1.0, 1 - 1e-12, 0.5, 0.4, 0.0, -0.1, -0.5], dtype=torch.float64)
    assert copies(values).tolist() == [0, 0, 0, 1, 1, 2, 2, 3]


def test_the_weakest_modality_worked_by_hand() -> None:
    """Means (.9, .3): gaps (.1, .7), p = 2/3 * .6 = .4."""
    cases = [
        ({"audio": 0.9, "visual": 0.3}, 1.0, "visual", 0.4),
        ({"audio": 0.3, "visual": 0.9}, 0.5, "audio", 0.2),
        ({"audio": 0.9, "text": 0.3, "visual": 0.6}, 1.0, "text", 0.3),
        ({"audio": 0.5, "visual": 0.5}, 1.0, "audio", 0.0),
    ]
    for means, alpha, modality, fraction in cases:
        found, part = weakest(means, alpha)
        assert found == modality
        assert part == pytest.approx(fraction)


def test_values_agree_with_a_slow_reference_and_add_up() -> None:
    members = list(coalitions(THREE))
    for case in product([False, True], repeat=len(members)):
        right = dict(zip(members, case, strict=True))
        found = contributions({key: torch.tensor([correct]) for key, correct in right.items()})
        expected = slow_shapley(right, THREE)
        assert {m: phi.item() for m, phi in found.items()} == pytest.approx(expected, abs=1e-9)
        assert sum(expected.values()) == pytest.approx(3 * right[frozenset(THREE)], abs=1e-9)


Listed = tuple[int, tuple[str, ...]]


def listed(selection: Selection, modalities: tuple[str, ...]) -> list[Listed]:
    assert selection.rows is not None
    seen = [tuple(m for m in modalities if selection.seen[m][i]) for i in range(len(selection.rows))]
    return sorted(zip(selection.rows.tolist(), seen, strict=True))


def test_the_list_agrees_with_a_slow_reference() -> None:
    values = [of_two(*case) for case in product([False, True], repeat=3)]
    columns = {m: torch.tensor([of_row[m] for of_row in values]) for m in TWO}
    selection = enlarged(8, {m: torch.repeat_interleave(copies(phi)) for m, phi in columns.items()})
    assert listed(selection, TWO) == slow_list(values)


def test_a_subset_is_right_with_the_other_features_at_0(trainer: Callable[..., Trainer]) -> None:
    made = trainer(THREE)
    features, labels = made.ctx.features("train")
    found = right_coalitions(made.ctx.model, features, labels, 7)
    made.ctx.model.eval()
    assert set(found) == set(coalitions(THREE))
    for members, right in found.items():
        masked = {m: x * (m in members) for m, x in features.items()}
        assert torch.equal(right, made.ctx.model.fusion(masked).argmax(dim=1) == labels)
    zero_others = made.ctx.model.unimodal_logits(features, "zero_others")
    assert torch.equal(found[frozenset({"text"})], zero_others["text"].argmax(dim=1) == labels)


def fixed_values(monkeypatch: pytest.MonkeyPatch, values: Mapping[str, Tensor]) -> None:
    monkeypatch.setattr("drcli.methods.smv.contributions", lambda _: {m: phi.double() for m, phi in values.items()})


def test_the_paper_trains_on_the_whole_list(trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainer(rows="enlarged")
    fixed_values(monkeypatch, {"audio": torch.ones(60), "visual": torch.tensor([0.5, 0.0, -0.5] * 20)})
    made.ctx.epoch = 1
    (selection,) = method_of(made).selections(made.ctx)
    found = Counter(listed(selection, TWO))
    assert found.total() == 60 + 20 * (1 + 2 + 3)
    assert [found[i, ("visual",)] for i in range(6)] == [1, 2, 3, 1, 2, 3]
    assert all(found[i, TWO] == 1 and found[i, ("audio",)] == 0 for i in range(60))


def test_an_equal_budget_draws_as_many_rows_from_the_list(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trainer()
    fixed_values(monkeypatch, {"audio": torch.ones(60), "visual": torch.full((60,), -0.5)})
    drawn = []
    for epoch in (1, 1, 2):
        made.ctx.epoch = epoch
        (selection,) = method_of(made).selections(made.ctx)
        drawn.append(listed(selection, TWO))
    assert [len(rows) for rows in drawn] == [60] * 3
    assert drawn[0] == drawn[1] != drawn[2]
    whole: Counter[Listed] = Counter([(i, TWO) for i in range(60)])
    whole.update([(i, ("visual",)) for i in range(60)] * 3)
    assert not Counter(drawn[0]) - whole


def test_the_modality_level_adds_rows_of_the_weakest(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every value is the same, so that any part of the rows has means (.9, .3): floor(.4 * 60) = 24 rows."""
    made = trainer(level="modality", rows="enlarged")
    fixed_values(
        monkeypatch,
        {"audio": torch.full((60,), 0.9, dtype=torch.float64), "visual": torch.full((60,), 0.3, dtype=torch.float64)},
    )
    made.ctx.epoch = 1
    (selection,) = method_of(made).selections(made.ctx)
    found = Counter(listed(selection, TWO))
    alone = {row: count for row, count in found.items() if row[1] != TWO}
    assert set(alone.values()) == {1}
    assert {members for _, members in alone} == {("visual",)}
    assert len(alone) == 24


def test_the_modality_level_looks_at_its_share_of_the_rows(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of values 0 and 1 one row gives a gap of 1 or none, p = 2/3 or 0, where all rows give 1/2 and 20 rows."""
    made = trainer(level="modality", rows="enlarged", share=1 / 60)
    visual = torch.ones(60, dtype=torch.float64)
    visual[::2] = 0
    fixed_values(monkeypatch, {"audio": torch.ones(60, dtype=torch.float64), "visual": visual})
    found = set()
    for epoch in range(1, 13):
        made.ctx.epoch = epoch
        (selection,) = method_of(made).selections(made.ctx)
        assert selection.rows is not None
        found.add(len(selection.rows) - 60)
    assert found == {0, 40}


def test_more_rows_than_there_are_come_round_again(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Means (1.5, -.5): p = 4/3, 80 rows of 60."""
    made = trainer(level="modality", rows="enlarged")
    fixed_values(monkeypatch, {"audio": torch.full((60,), 1.5), "visual": torch.full((60,), -0.5)})
    made.ctx.epoch = 1
    (selection,) = method_of(made).selections(made.ctx)
    found = Counter(listed(selection, TWO))
    counts = [found[i, ("visual",)] for i in range(60)]
    assert sum(counts) == 80
    assert set(counts) == {1, 2}


def test_warm_up_epochs_train_on_every_row_once(trainer: Callable[..., Trainer]) -> None:
    made = trainer(warmup=2)
    made.ctx.epoch = 1
    assert [selection.rows for selection in method_of(made).selections(made.ctx)] == [None]
    assert list(method_of(made).warnings(made.ctx)) == []
    late = trainer(warmup=4)
    assert list(method_of(late).warnings(late.ctx)) == [
        "no row is valued (warmup: 4, 4 epochs): this is joint training"
    ]


def test_intermediate_fusions_are_refused(trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(RecipeError, match=r"fusion\.name = mmtm +must be concat or .* for smv: a late fusion"):
        trainer(fusion="mmtm")


def test_a_whole_list_needs_one_device(trainer: Callable[..., Trainer]) -> None:
    made = trainer(rows="enlarged")
    made.ctx.world = World(0, 2)
    with pytest.raises(RecipeError, match=r"methods\.smv\.rows = enlarged: needs one device; use that, or equal"):
        method_of(made).setup(made.ctx)
    equal = trainer()
    equal.ctx.world = World(0, 2)
    method_of(equal).setup(equal.ctx)

"""Scores without modalities and under noise: against other ways to the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from support.training import made_up_teachers, make_trainer
from torch import Tensor, nn

from drcli.data.prepared import open_dataset
from drcli.engine.assemble import Assembly, assemble
from drcli.engine.conditions import Wanted, keeping, measure, training_means
from drcli.engine.evaluate import LOGITS, run_batches, run_split
from drcli.methods.parts.unimodal_scores import apply_heads
from drcli.metrics import score
from drcli.models.fusion import Concat
from drcli.recipe.schema import Recipe
from drcli.runs.conditions import Conditions
from drcli.runs.record import RecordError, parse

TWO = ("audio", "visual")
OWN = {
    "joint": {},
    "ensemble": {},
    "mla": {},
    "qmf": {},
    "pdf": {},
    "aug": {},
    "reconboost": {"hidden": 0},
    "di_mml": {},
    "mmcosine": {},
    "iprm": {},
}
METHODS = pytest.mark.parametrize("method", OWN)
LEAVING_OUT = ("iprm", "ensemble", "mla", "qmf", "pdf", "aug", "reconboost")


@pytest.fixture
def assembled(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Assembly]:
    """Builds a method over "toy" as it is before the first epoch."""

    def make(method: str = "joint", **blocks: Any) -> Assembly:
        own = {**OWN[method], "method": method}
        recipe = toy_recipe(TWO, method=method, methods={method: own}, **blocks)
        return make_trainer(recipe, tmp_path / method).assembly

    return make


def pair(found: Any) -> tuple[float, float]:
    return found.accuracy, found.macro_f1


def logits_with(assembly: Assembly, *subset: str) -> Tensor:
    """The logits of the test split with some modalities alone."""
    batches = assembly.batches("test")
    nobody = torch.zeros(len(batches), dtype=torch.bool)
    less = batches.without({m: nobody for m in assembly.modalities if m not in subset})
    return run_batches(assembly, less)[LOGITS]


@METHODS
def test_all_modalities_give_the_plain_scores_bit_for_bit(method: str, assembled: Callable[..., Assembly]) -> None:
    assembly = assembled(method)
    plain = run_split(assembly, "test")
    assert torch.equal(logits_with(assembly, *TWO), plain.logits)
    found = measure(assembly, "test", 0, Wanted(subsets=None).of(TWO)).subsets
    assert list(found) == ["audio", "visual", "audio+visual"]
    assert pair(found["audio+visual"]) == pair(plain.scores())
    assert found["audio+visual"].n == plain.scores().n


def test_a_modality_that_the_fusion_does_not_read_changes_nothing(assembled: Callable[..., Assembly]) -> None:
    assembly = assembled()
    fusion = cast("Concat", assembly.model.fusion)
    with torch.no_grad():
        fusion.readers()["visual"][0][:, fusion.readers()["visual"][1]] = 0
    torch.testing.assert_close(logits_with(assembly, "audio"), logits_with(assembly, *TWO), rtol=0, atol=0)
    found = measure(assembly, "test", 0, Wanted(subsets=None).of(TWO)).subsets
    assert found["audio"] == found["audio+visual"]


@pytest.mark.parametrize("modality", TWO)
def test_one_modality_of_the_ensemble_scores_as_its_unimodal_run(
    modality: str, assembled: Callable[..., Assembly], toy_recipe: Callable[..., Recipe]
) -> None:
    assembly = assembled("ensemble")
    recipe = toy_recipe(TWO, method="unimodal")
    alone = assemble(recipe.for_run("unimodal", 0), (modality,), open_dataset(recipe.dataset.root), assembly.device)
    teacher = made_up_teachers(assembly.recipe)[modality]
    alone.model.encoders[modality].load_state_dict(teacher.encoder)
    next(layer for layer in alone.model.fusion.modules() if isinstance(layer, nn.Linear)).load_state_dict(teacher.head)
    expected = run_split(alone, "test")
    torch.testing.assert_close(logits_with(assembly, modality), expected.logits.log_softmax(dim=1))
    found = measure(assembly, "test", 0, Wanted(subsets=None).of(TWO)).subsets[modality]
    assert pair(found) == pair(expected.scores())


@pytest.mark.parametrize(("method", "weight"), [("mla", 1.0), ("pdf", 1.0), ("aug", 0.5), ("qmf", None)])
def test_methods_that_weigh_modalities_count_those_that_are_there(
    method: str, weight: float | None, assembled: Callable[..., Assembly]
) -> None:
    assembly = assembled(method)
    h = run_split(assembly, "test").features
    with torch.no_grad():
        if hasattr(assembly.method, "all_logits"):
            own = assembly.method.all_logits(h)["audio"]
        else:
            own = assembly.model.unimodal_logits(h, "slice")["audio"]
    factor = own.logsumexp(dim=1, keepdim=True) / 10 if weight is None else weight
    torch.testing.assert_close(logits_with(assembly, "audio"), factor * own)


def test_reconboost_and_di_mml_count_the_heads_of_the_modalities_that_are_there(
    assembled: Callable[..., Assembly],
) -> None:
    boosted = assembled("reconboost")
    method: Any = boosted.method
    for m in TWO:
        method.boosted.join(m)
    h = run_split(boosted, "test").features
    with torch.no_grad():
        torch.testing.assert_close(logits_with(boosted, "audio"), method.boosted.rate * method.boosted.head(h["audio"]))
    detached = assembled("di_mml")
    heads: Any = detached.method
    h = run_split(detached, "test").features
    with torch.no_grad():  # before the fusion is trained, one head alone has all the weight
        torch.testing.assert_close(logits_with(detached, "audio"), apply_heads(heads.heads.own, h)["audio"])


@pytest.mark.parametrize(
    ("method", "fusion", "absent"),
    [
        *((name, "concat", "left_out") for name in LEAVING_OUT),
        ("joint", "concat", "mean"),
        ("joint", "sum", "mean"),
        ("joint", "late_transformer", "left_out"),
        ("di_mml", "concat", "mean"),
    ],
)
def test_what_stands_in_is_stated(method: str, fusion: str, absent: str, assembled: Callable[..., Assembly]) -> None:
    assembly = assembled(method, fusion=fusion)
    wanted = Wanted(subsets=[("audio",)], stand_in="mean").of(TWO)
    assert measure(assembly, "test", 0, wanted).absent == absent
    assert measure(assembly, "test", 0, Wanted(noise={"audio": [0.0]}, draws=1).of(TWO)).absent is None
    assert not assembly.model.stand_ins


def test_the_training_mean_stands_in_for_features(assembled: Callable[..., Assembly]) -> None:
    assembly = assembled()
    train, test = (run_split(assembly, split) for split in ("train", "test"))
    mean = train.features["visual"].double().mean(dim=0).float()
    torch.testing.assert_close(training_means(assembly)["visual"], mean)
    with torch.no_grad():
        h = {"audio": test.features["audio"], "visual": mean.expand_as(test.features["visual"])}
        expected = score(assembly.model.fusion(h), test.split.labels, test.split.weight)
    found = measure(assembly, "test", 0, Wanted(subsets=[("audio",)], stand_in="mean").of(TWO)).subsets["audio"]
    assert pair(found) == pair(expected)


def test_a_share_of_the_samples_loses_a_modality_in_all_of_its_rows(assembled: Callable[..., Assembly]) -> None:
    batches = assembled().batches("test")  # 30 samples of two rows
    kept = {share: keeping(batches, "audio", ["visual"], share, 0) for share in (0.3, 0.6, 1.0)}
    assert {share: int((~rows).sum()) for share, rows in kept.items()} == {0.3: 18, 0.6: 36, 1.0: 60}
    assert torch.equal(kept[0.3][::2], kept[0.3][1::2])
    assert not (kept[0.6] & ~kept[0.3]).any()  # who lacks it at 0.3 lacks it at 0.6
    assert torch.equal(kept[0.3], keeping(batches, "audio", ["visual"], 0.3, 0))
    assert not torch.equal(kept[0.3], keeping(batches, "audio", ["visual"], 0.3, 1))
    assert not torch.equal(kept[0.3], keeping(batches, "visual", ["audio"], 0.3, 0))


def test_no_sample_loses_the_only_modality_that_it_has(assembled: Callable[..., Assembly]) -> None:
    batches = assembled().batches("test")
    batches = batches.without({"visual": torch.arange(60) >= 20})  # ten samples without pictures
    kept = keeping(batches, "audio", ["visual"], 1.0, 0)
    assert torch.equal(kept, torch.arange(60) < 20)


def test_missing_samples_are_scored_as_mixtures_of_both_kinds_of_rows(assembled: Callable[..., Assembly]) -> None:
    assembly = assembled()
    found = measure(assembly, "test", 0, Wanted(missing={"audio": [0.5]}, draws=2).of(TWO)).missing["audio"]["0.5"]
    plain, split = run_split(assembly, "test"), assembly.batches("test").split
    alone, accuracies = logits_with(assembly, "visual"), []
    for draw in range(2):
        kept = keeping(assembly.batches("test"), "audio", ["visual"], 0.5, draw)
        logits = torch.where(kept[:, None], plain.logits, alone)
        accuracies.append(float(((logits.argmax(dim=1) == split.labels) * split.weight).sum() / split.weight.sum()))
    assert found.first == pytest.approx(sum(accuracies) / 2)
    assert found.spread == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
    assert (found.draws, found.n) == (2, 30)


def test_noise_is_what_a_recipe_with_it_has(
    assembled: Callable[..., Assembly], toy_recipe: Callable[..., Recipe]
) -> None:
    clean, noisy = assembled(), assembled(corrupt={"audio": {"snr_db": -10, "splits": ["test"]}})
    wanted = Wanted(noise={"audio": [20.0, -10.0]}, draws=1).of(TWO)
    found = measure(clean, "test", 0, wanted).noise["audio"]
    assert list(found) == ["20", "-10"]
    expected = run_split(noisy, "test")
    batches = clean.batches("test")
    assert torch.equal(run_batches(clean, batches.noisy("audio")(-10.0))[LOGITS], expected.logits)
    assert pair(found["-10"]) == pair(expected.scores())
    assert (found["-10"].draws, found["-10"].spread) == (1, None)


def test_a_draw_of_noise_is_the_same_at_every_ratio_and_another_than_the_next(
    assembled: Callable[..., Assembly],
) -> None:
    batches = assembled().batches("test")
    (clean,) = batches.in_order(60)

    def noise(draw: int, ratio: float) -> Tensor:
        (found,) = batches.noisy("audio", draw)(ratio).in_order(60)
        assert torch.equal(found.inputs["visual"], clean.inputs["visual"])
        return found.inputs["audio"] - clean.inputs["audio"]

    torch.testing.assert_close(noise(0, 0.0) * 10, noise(0, -20.0), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(noise(0, 0.0), noise(1, 0.0))
    powers = [x.square().flatten(1).mean(dim=1) for x in (clean.inputs["audio"], noise(1, 10.0))]
    assert float((powers[0] / powers[1]).mean()) == pytest.approx(10, rel=0.1)


def test_conditions_are_those_that_a_model_can_be_in() -> None:
    asked = Wanted([("visual", "audio"), ("text",)], {"audio": [0.3]}, {"text": [0.0], "audio": [5.0]})
    assert asked.of(TWO) == replace(asked, subsets=[("audio", "visual")], noise={"audio": [5.0]})
    alone = asked.of(("audio",))
    assert (alone.subsets, alone.missing, alone.noise) == ([], {}, {"audio": [5.0]})
    assert asked.of(("depth",)).is_empty
    assert Wanted(subsets=None).of(("a", "b", "c")).subsets == [
        *(("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c"))
    ]


def conditions(**changes: Any) -> Conditions:
    one = {"accuracy": 0.5, "macro_f1": 0.5, "n": 30}
    plain = {"split": "test", "epoch": 3, "absent": "zero", "subsets": {"audio": one}, "noise": {"audio": {"0": one}}}
    return Conditions.model_validate({**plain, **changes})


@pytest.mark.parametrize("name", ["loud", "nan", "1e999"])
def test_a_strength_that_is_no_number_is_no_record(name: str) -> None:
    with pytest.raises(RecordError, match=r"noise\.audio"):
        parse(
            Conditions,
            {"split": "test", "epoch": 3, "noise": {"audio": {name: {"accuracy": 1.0, "macro_f1": 1.0, "n": 3}}}},
        )


def test_later_scores_join_those_of_before() -> None:
    one = {"accuracy": 0.25, "macro_f1": 0.5, "n": 30}
    more = conditions(absent=None, subsets={}, noise={"audio": {"10": one}, "visual": {"0": one}})
    found = more.over(conditions())
    assert (found.absent, list(found.subsets)) == ("zero", ["audio"])
    assert {m: list(series) for m, series in found.noise.items()} == {"audio": ["0", "10"], "visual": ["0"]}
    assert more.over(None) == more
    assert more.over(conditions(epoch=2)) == more
    other = conditions(absent="mean", subsets={"visual": one}, noise={}).over(conditions())
    assert (list(other.subsets), list(other.noise)) == (["visual"], ["audio"])

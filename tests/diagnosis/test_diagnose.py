"""The whole diagnosis: against an independent computation, its floor, and what it must leave alone."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
import torch
from support.blobs import blobs
from support.slow_diagnosis import slow_diagnosis
from torch import Tensor

from drcli.diagnosis import MeasureSettings, ModalityDiagnosis, diagnose, diagnose_modality
from drcli.diagnosis.clustering import ENGINES

CLASSES = 5
Data = tuple[Tensor, Tensor, Tensor, Tensor]
KINDS: dict[str, dict[str, Any]] = {
    "random": {"signal": 0.0, "spread": 1.0, "width": 64},
    "structured": {"spread": 0.6},
    "tight": {"spread": 0.05},
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"scaler": "from_train"},
    {"gap": "signed"},
    {"restarts": 1},
    {"match_sizes": True},
    {"scaler": "from_train", "gap": "signed", "restarts": 3, "match_sizes": True},
]


def data(*, train: dict[str, Any], val: dict[str, Any] | None = None, sizes: tuple[int, int] = (240, 90)) -> Data:
    train_set = blobs(sizes[0], num_classes=CLASSES, seed=1, **train)
    return *train_set, *blobs(sizes[1], num_classes=CLASSES, seed=2, **(train if val is None else val))


def run(found: Data, **options: Any) -> ModalityDiagnosis:
    settings = MeasureSettings(**options)
    return diagnose_modality(*found, num_classes=CLASSES, settings=settings, lambda_=3.0)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_diagnosis_equals_a_slow_independent_computation(kind: str, options: dict[str, Any]) -> None:
    found = data(train=KINDS[kind])
    expected = slow_diagnosis(*found, num_classes=CLASSES, lambda_=3.0, options=options)
    diagnosis = run(found, **options).to_dict()
    assert {name: diagnosis[name] for name in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("kmeans", "purity"), [("torch", 1 / CLASSES), ("auto", 1.0), ("sklearn", 1.0)])
def test_the_settings_say_who_clusters(kmeans: str, purity: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES, "torch", lambda features, *_: torch.zeros(len(features), dtype=torch.int64))
    found = run(data(train=KINDS["tight"]), kmeans=kmeans)
    assert (found.purity_train, found.purity_val) == pytest.approx((purity, purity))


def test_separable_train_and_noisy_validation_pull_harder_than_separable_both() -> None:
    memorised = run(data(train=KINDS["tight"], val={"signal": 0.0, "spread": 1.0}))
    generalising = run(data(train=KINDS["tight"]))
    assert generalising.strength == 0.0
    assert memorised.strength > 0.8


def test_the_gap_of_random_features_is_about_the_floor() -> None:
    sizes, gaps, floors = (900, 300), [], []
    for seed in range(4):
        train, labels_train = blobs(sizes[0], num_classes=10, signal=0.0, width=64, seed=2 * seed)
        val, labels_val = blobs(sizes[1], num_classes=10, signal=0.0, width=64, seed=2 * seed + 1)
        found = diagnose_modality(
            train,
            labels_train,
            val,
            labels_val,
            num_classes=10,
            settings=MeasureSettings(restarts=2),
            lambda_=3.0,
        )
        gaps.append(found.gap)
        floors.append(found.gap_permuted)
    assert 0.02 < np.mean(floors) < 0.07
    assert abs(np.mean(gaps) - np.mean(floors)) < 0.02


def test_matching_sizes_lowers_the_floor() -> None:
    found = data(train=KINDS["random"], sizes=(1200, 60))
    plain, matched = run(found), run(found, match_sizes=True)
    assert (plain.num_train, matched.num_train, matched.num_val) == (1200, 60, 60)
    assert matched.gap_permuted < plain.gap_permuted / 2


def test_matching_sizes_leaves_a_smaller_train_set_alone() -> None:
    found = data(train=KINDS["structured"], sizes=(60, 90))
    assert run(found, match_sizes=True) == run(found)


def test_permuted_purities_explain_the_floor() -> None:
    found = run(data(train=KINDS["structured"]))
    apart = abs(found.purity_permuted_train - found.purity_permuted_val)
    assert 1 / CLASSES < found.purity_permuted_train < found.purity_train
    assert apart <= found.gap_permuted + 1e-12  # |mean| <= mean of | |


def test_all_modalities_see_the_same_permutations_and_rows() -> None:
    train, labels_train, val, labels_val = data(train=KINDS["structured"])
    found = diagnose(
        {"audio": train, "visual": train.clone(), "text": train[:, :3]},
        labels_train,
        {"audio": val, "visual": val.clone(), "text": val[:, :3]},
        labels_val,
        num_classes=CLASSES,
        settings=MeasureSettings(match_sizes=True),
        lambda_=3.0,
    )
    assert list(found) == ["audio", "visual", "text"]
    assert found["audio"] == found["visual"]
    assert found["text"] != found["audio"]


def test_another_seed_permutes_otherwise_and_the_same_seed_repeats() -> None:
    train, labels_train, val, labels_val = data(train=KINDS["random"])

    def floor(seed: int) -> float:
        settings = MeasureSettings(restarts=1)
        return diagnose_modality(
            train,
            labels_train,
            val,
            labels_val,
            num_classes=CLASSES,
            settings=settings,
            lambda_=3.0,
            seed=seed,
        ).gap_permuted

    assert floor(0) == floor(0) != floor(1)


def numpy_state() -> list[int]:
    """The state of numpy's global generator."""
    state: Any = np.random.get_state()  # noqa: NPY002
    return list(state[1])


def test_no_global_generator_is_advanced() -> None:
    before = torch.get_rng_state(), numpy_state(), random.getstate()
    run(data(train=KINDS["structured"]), match_sizes=True)
    after = torch.get_rng_state(), numpy_state(), random.getstate()
    assert torch.equal(after[0], before[0])
    assert after[1:] == before[1:]


def test_features_and_labels_stay_as_they_are() -> None:
    found = data(train=KINDS["structured"])
    copies = [tensor.clone() for tensor in found]
    run(found)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(found, copies, strict=True))


def test_a_collapsed_encoder_is_diagnosed() -> None:
    labels = torch.arange(40) % CLASSES
    found = run((torch.ones(40, 3), labels, torch.zeros(20, 3), labels[:20]))
    assert (found.purity_train, found.purity_val, found.strength) == (0.2, 0.2, 0.0)


def test_a_diagnosis_is_plain_numbers_for_json() -> None:
    found = run(data(train=KINDS["structured"])).to_dict()
    assert json.loads(json.dumps(found)) == found
    assert {"purity_train", "purity_val", "gap", "gap_permuted", "strength"} <= set(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {1: torch.zeros(3, dtype=torch.int64)},
            r"train: 240 rows of features need as many labels, got \(3,\)",
        ),
        ({3: torch.zeros(90, 1, dtype=torch.int64)}, r"validation: 90 rows .* got \(90, 1\)"),
        ({2: torch.full((90, 8), torch.nan)}, "features must be finite"),
        ({2: torch.zeros(4, 8), 3: torch.arange(4)}, "4 samples cannot make 5 clusters"),
    ],
)
def test_what_cannot_be_diagnosed_is_refused(change: dict[int, Tensor], message: str) -> None:
    found = list(data(train=KINDS["structured"]))
    for place, tensor in change.items():
        found[place] = tensor
    with pytest.raises(ValueError, match=message):
        run((found[0], found[1], found[2], found[3]))


def test_sets_with_different_modalities_are_refused() -> None:
    train, labels_train, val, labels_val = data(train=KINDS["structured"])
    with pytest.raises(ValueError, match=r"modalities differ: train \['audio'\], validation \['visual'\]"):
        diagnose(
            {"audio": train},
            labels_train,
            {"visual": val},
            labels_val,
            num_classes=CLASSES,
            settings=MeasureSettings(),
            lambda_=3.0,
        )


def test_arrays_are_as_good_as_tensors() -> None:
    generator = torch.Generator().manual_seed(3)
    train, val = torch.randn(40, 3, generator=generator), torch.randn(30, 3, generator=generator)
    labels_train, labels_val = torch.arange(40) % 3, torch.arange(30) % 3
    settings = MeasureSettings(restarts=1, match_sizes=True)
    tensors = diagnose_modality(train, labels_train, val, labels_val, num_classes=3, settings=settings, lambda_=3.0)
    given: Any = (array.numpy() for array in (train, labels_train, val, labels_val))
    assert diagnose_modality(*given, num_classes=3, settings=settings, lambda_=3.0) == tensors

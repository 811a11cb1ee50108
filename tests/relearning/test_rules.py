"""The rules from a diagnosis to strengths, on numbers worked by hand, and what they have in common."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import pytest

from drcli.diagnosis import ModalityDiagnosis
from drcli.relearning import RULES, strengths
from drcli.relearning.settings import Rule

BASE = ModalityDiagnosis(
    purity_train=0.9,
    purity_val=0.7,
    gap=0.2,
    gap_permuted=0.05,
    strength=0.0,
    purity_permuted_train=0.2,
    purity_permuted_val=0.25,
    purity_adjusted_train=0.875,
    purity_adjusted_val=0.6,
    gap_adjusted=0.275,
    num_train=900,
    num_val=300,
)
FOUND = {
    "audio": BASE,
    "visual": replace(BASE, gap=0.1, gap_adjusted=0.0),
    "text": replace(BASE, gap=0.03, gap_adjusted=0.01),
}
GAP = {"audio": 0.537050, "visual": 0.291313, "text": 0.089758}  # tanh(3 * 0.2), tanh(0.3), tanh(0.09)


def rule(name: Rule | float, lambda_: float = 3.0, seed: int = 0) -> dict[str, float]:
    return strengths(name, FOUND, lambda_=lambda_, seed=(seed, 0))


def test_every_rule_of_the_settings_is_there() -> None:
    assert set(get_args(Rule)) == set(RULES)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gap", GAP),
        ("above_floor", {"audio": 0.421899, "visual": 0.148885, "text": 0.0}),  # of 0.15, 0.05 and nothing
        ("relative", {"audio": 0.469945, "visual": 0.206966, "text": 0.0}),  # of 0.17, 0.07 and 0
        ("adjusted", {"audio": 0.677782, "visual": 0.0, "text": 0.029991}),
        (0.7, {"audio": 0.7, "visual": 0.7, "text": 0.7}),
    ],
)
def test_numbers_worked_by_hand(name: Rule | float, expected: dict[str, float]) -> None:
    assert rule(name) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_lambda_0_switches_a_rule_off(name: Rule) -> None:
    assert rule(name, lambda_=0.0) == dict.fromkeys(FOUND, 0.0)


@pytest.mark.parametrize("seed", range(20))
def test_shuffled_keeps_the_strengths_and_gives_each_to_another_modality(seed: int) -> None:
    shuffled = rule("shuffled", seed=seed)
    assert sorted(shuffled.values()) == pytest.approx(sorted(GAP.values()), abs=1e-6)
    assert all(abs(shuffled[m] - GAP[m]) > 0.01 for m in FOUND)


def test_two_modalities_exchange_their_strengths() -> None:
    two = {m: FOUND[m] for m in ("audio", "visual")}
    found = strengths("shuffled", two, lambda_=3.0)
    assert found == pytest.approx({"audio": GAP["visual"], "visual": GAP["audio"]}, abs=1e-6)
    assert strengths("shuffled", {"audio": BASE}, lambda_=3.0) == pytest.approx({"audio": GAP["audio"]}, abs=1e-6)


@pytest.mark.parametrize("lambda_", [1.0, 3.0, 30.0])
def test_random_strengths_have_the_mean_of_the_gaps_strengths(lambda_: float) -> None:
    mean = sum(math.tanh(lambda_ * one.gap) for one in FOUND.values()) / 3
    drawn = [a for seed in range(2000) for a in rule("random", lambda_, seed).values()]
    assert sum(drawn) / len(drawn) == pytest.approx(mean, abs=0.02)
    reach = min(mean, 1 - mean)
    assert min(drawn) >= mean - reach
    assert max(drawn) <= mean + reach
    assert max(drawn) - min(drawn) > 1.9 * reach


def test_what_is_drawn_depends_on_the_seed_and_the_event_alone() -> None:
    assert rule("random", seed=1) == rule("random", seed=1)
    assert rule("random", seed=1) != rule("random", seed=2)
    assert strengths("random", FOUND, lambda_=3.0, seed=(0, 0)) != strengths("random", FOUND, lambda_=3.0, seed=(0, 1))


@pytest.mark.parametrize("wrong", ["gaps", 1.5, -0.1])
def test_what_is_no_rule_is_refused(wrong: Rule | float) -> None:
    with pytest.raises(ValueError, match="strength must"):
        strengths(wrong, FOUND, lambda_=3.0)

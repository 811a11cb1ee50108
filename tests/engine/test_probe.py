"""The linear probe against a slow one, and what it must and must not see."""

from __future__ import annotations

import pytest
import torch
from reference.probe import slow_probe
from support.blobs import blobs
from torch import Tensor

from drcli.data.prepared import Split
from drcli.engine import probe
from drcli.engine.probe import STRENGTHS, concatenated, probe_accuracy
from drcli.errors import RunError

Pairs = dict[str, tuple[Tensor, Split]]
SIZES = {"train": 120, "val": 60, "test": 90}


def as_split(name: str, labels: Tensor) -> Split:
    return Split(name, {}, labels, torch.arange(len(labels)), torch.ones(len(labels), dtype=torch.float64))


def made(signal: float = 1.0, spread: float = 0.3) -> Pairs:
    pairs: Pairs = {}
    for seed, (name, size) in enumerate(SIZES.items()):
        features, labels = blobs(size, signal=signal, spread=spread, seed=seed)
        pairs[name] = (features, as_split(name, labels))
    return pairs


def with_column(pairs: Pairs, columns: dict[str, Tensor]) -> Pairs:
    return {name: (torch.cat([x, columns[name][:, None]], dim=1), split) for name, (x, split) in pairs.items()}


@pytest.mark.parametrize("spread", [1.0, 2.0, 4.0])
def test_equals_a_slow_independent_computation(spread: float) -> None:
    pairs = made(spread=spread)
    train = (pairs["train"][0], pairs["train"][1].labels)
    scores = []
    for strength in STRENGTHS:
        predicted = slow_probe(train, [pairs["val"][0], pairs["test"][0]], inverse_penalty=strength, num_classes=5)
        truth = (pairs["val"][1].labels, pairs["test"][1].labels)
        scores.append([float((p == y).double().mean()) for p, y in zip(predicted, truth, strict=True)])
    best = max(scores, key=lambda pair: pair[0])  # the first of equals
    assert probe_accuracy(pairs, "test") == pytest.approx(best[1], abs=1e-12)
    assert probe_accuracy(pairs, "val") == pytest.approx(best[0], abs=1e-12)


@pytest.mark.parametrize("spread", [1.0, 2.0, 4.0])
def test_is_within_a_sample_of_scikit_learns(spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every strength; scikit-learn stops as it does by default, short of the optimum."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pairs = {name: (x.numpy(), split.labels.numpy()) for name, (x, split) in made(spread=spread).items()}
    for strength in STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300)).fit(*pairs["train"])
        monkeypatch.setattr(probe, "STRENGTHS", (strength,))
        ours = probe_accuracy(made(spread=spread), "test")
        assert abs(ours - model.score(*pairs["test"])) * SIZES["test"] < 1.5


@pytest.mark.parametrize("split", SIZES)
def test_features_that_are_not_finite_are_refused(split: str) -> None:
    pairs = made()
    pairs[split][0][3, 2] = float("nan")
    with pytest.raises(RunError, match=f"^the features of split {split} are not finite; train with a lower"):
        probe_accuracy(pairs, "test")


def test_is_deterministic_and_leaves_the_generators_alone() -> None:
    pairs = made(spread=2.0)
    state = torch.get_rng_state()
    assert len({probe_accuracy(pairs, "test") for _ in range(3)}) == 1
    assert torch.equal(torch.get_rng_state(), state)


def _of_two(order: tuple[str, str]) -> dict[str, tuple[dict[str, Tensor], Split]]:
    """Five classes: one modality tells 0, 1, 2 apart, the other 2, 3, 4; only both together tell all."""
    pairs: dict[str, tuple[dict[str, Tensor], Split]] = {}
    for seed, (name, size) in enumerate(SIZES.items()):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(size) % 5
        centres = {"audio": labels.clamp(max=2), "visual": labels.clamp(min=2) - 2}
        features = {
            m: torch.nn.functional.one_hot(centres[m], 3) + 0.1 * torch.randn(size, 3, generator=generator)
            for m in ("audio", "visual")
        }
        pairs[name] = ({m: features[m] for m in order}, as_split(name, labels))
    return pairs


def test_the_fused_probe_reads_what_no_single_modality_tells() -> None:
    """Alone, three of five classes are one: about 3/5 of the samples at best. Its bits are the same in any order."""
    pairs = _of_two(("audio", "visual"))
    alone = [probe_accuracy({n: (x[m], split) for n, (x, split) in pairs.items()}, "test") for m in ("audio", "visual")]
    assert max(alone) < 0.7
    assert probe_accuracy(concatenated(pairs), "test") == 1.0
    other = concatenated(_of_two(("visual", "audio")))
    assert all(torch.equal(x, other[name][0]) for name, (x, _) in concatenated(pairs).items())


def test_separable_features_are_read() -> None:
    assert probe_accuracy(made(), "test") == 1.0


def test_noise_is_not_read() -> None:
    """90 rows, 5 classes: chance is 0.2, with a standard deviation of 0.042."""
    assert 0.08 < probe_accuracy(made(signal=0.0, spread=1.0), "test") < 0.33


def test_the_penalty_is_chosen_on_val_and_not_on_the_scored_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where val is train, the weakest penalty that fits it best wins, whatever test would prefer."""
    pairs = made(spread=4.0)
    alone = {}
    for strength in STRENGTHS:
        monkeypatch.setattr(probe, "STRENGTHS", (strength,))
        alone[strength] = (probe_accuracy(pairs, "val"), probe_accuracy(pairs, "test"))
    monkeypatch.undo()
    best_on_val = max(alone.values(), key=lambda pair: pair[0])
    assert len({val for val, _ in alone.values()}) > 1
    assert max(test for _, test in alone.values()) != best_on_val[1]
    assert probe_accuracy(pairs, "test") == best_on_val[1]


@pytest.mark.parametrize("value", [0.0, 0.1, -3e7], ids=["zero", "not representable", "large"])
def test_a_feature_that_is_constant_on_train_is_ignored(value: float) -> None:
    """Whatever it does elsewhere: its mean over train is off by rounding, its spread is nothing but that."""
    pairs = made(spread=2.0)
    columns = {name: torch.full((size,), value) for name, size in SIZES.items()}
    columns["val"], columns["test"] = torch.randn(60) * 100, torch.randn(90) * 100
    for split in ("val", "test"):
        assert probe_accuracy(with_column(pairs, columns), split) == probe_accuracy(pairs, split)


def test_features_are_standardised() -> None:
    pairs = made(spread=2.0)
    scale = torch.tensor([1e-6, 1e6, 1.0, 10.0, 0.1, 1e3, 1e-3, 5.0])
    scaled = {name: (x * scale + 7 * scale, split) for name, (x, split) in pairs.items()}
    assert probe_accuracy(scaled, "test") == pytest.approx(probe_accuracy(pairs, "test"), abs=0.03)


def test_a_sample_counts_once_however_often_it_is_drawn() -> None:
    """The first 30 of 90 samples are drawn three times."""
    pairs = made(spread=2.0)
    x, split = pairs["test"]
    draws = torch.tensor([3] * 30 + [1] * 60)
    labels = split.labels.repeat_interleave(draws)
    weight = (1.0 / draws.double()).repeat_interleave(draws)
    drawn = Split("test", {}, labels, torch.arange(90).repeat_interleave(draws), weight)
    even = Split("test", {}, labels, torch.arange(150), torch.ones(150, dtype=torch.float64))
    rows = x.repeat_interleave(draws, 0)
    expected = probe_accuracy(pairs, "test")
    assert probe_accuracy({**pairs, "test": (rows, drawn)}, "test") == pytest.approx(expected)
    assert probe_accuracy({**pairs, "test": (rows, even)}, "test") != pytest.approx(expected)

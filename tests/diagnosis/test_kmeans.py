"""Our K-means: against a literal one from the same starts, against scikit-learn's by what it is worth."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from reference.kmeans import slow_lloyd, slow_seeding
from support.blobs import blobs
from torch import Tensor

from drcli.diagnosis import cluster, clustering, purity, scale_features
from drcli.engine.device import set_determinism

DOUBLE = torch.float64
MIXTURES = [(900, 6, 1.5), (900, 31, 0.7)]  # rows, classes, spread: purity about 0.85 and 0.96


def inertia(features: Tensor, clusters: Tensor) -> float:
    """Sum of squared distances to the means of the clusters."""
    groups = [features[clusters == number].double() for number in clusters.unique()]
    return float(sum(((group - group.mean(0)) ** 2).sum() for group in groups))


def partition(clusters: Tensor) -> set[tuple[int, ...]]:
    """The clusters without their numbers."""
    return {tuple((clusters == number).nonzero().flatten().tolist()) for number in clusters.unique()}


def hard_mixture(size: int, num_classes: int, spread: float = 0.8) -> tuple[Tensor, Tensor]:
    """Overlapping classes as an encoder may give them: not negative, scaled as the diagnosis does."""
    features, labels = blobs(size, num_classes=num_classes, spread=spread, width=24)
    mixing = torch.randn(24, 64, generator=torch.Generator().manual_seed(7)) / 24**0.5
    return scale_features(torch.relu(features @ mixing)), labels


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Torch refuses whatever may differ between two runs."""
    before = torch.get_deterministic_debug_mode()
    set_determinism(True)
    yield
    torch.set_deterministic_debug_mode(before)


@pytest.mark.parametrize("seed", range(4))
def test_seeding_is_greedy_kmeans_plus_plus(seed: int) -> None:
    features = blobs(50, num_classes=6, spread=1.0, width=5, seed=seed)[0].double()
    draws = torch.rand(3, 6, 3, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    labels, gaps = clustering.seeding(clustering.Points.of(features), draws)
    for restart in range(3):
        starts = features[slow_seeding(features.numpy(), draws[restart].numpy())]
        distances = torch.cdist(features, starts, compute_mode="donot_use_mm_for_euclid_dist").square()
        torch.testing.assert_close(gaps[restart], distances.amin(dim=1))
        assert torch.equal(labels[restart], distances.argmin(dim=1))


@pytest.mark.parametrize("tolerance", [1e-4, 0.5])
@pytest.mark.parametrize("lost", [0, 1, 3], ids=lambda lost: f"{lost} starts near no row")
@pytest.mark.parametrize("seed", range(3))
def test_lloyd_from_given_starts_is_the_literal_one(
    seed: int, lost: int, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clustering, "TOLERANCE", tolerance)
    features = blobs(120, num_classes=6, spread=1.5, width=4, seed=seed)[0].double()
    rows = torch.randint(len(features), (4, 6), generator=torch.Generator().manual_seed(seed))
    starts = features[rows]
    starts[:, :lost] += 1000 * torch.arange(1, lost + 1)[:, None]
    nearest = torch.cdist(features.expand(4, -1, -1), starts).square().min(dim=2)
    found = clustering.lloyd(clustering.Points.of(features), nearest.indices, nearest.values, 6)
    expected = [slow_lloyd(features.numpy(), one.numpy(), tolerance) for one in starts]
    expected.sort(key=lambda result: result[1])
    order = found[1].argsort()
    assert found[1][order].tolist() == pytest.approx([worth for _, worth in expected])
    assert found[0][order].tolist() == [labels for labels, _ in expected]


@pytest.mark.parametrize(("size", "num_clusters", "spread"), MIXTURES)
def test_inertia_and_purity_are_those_of_scikit_learn(size: int, num_clusters: int, spread: float) -> None:
    features, labels = hard_mixture(size, num_clusters, spread)
    found = {
        engine: [cluster(features, num_clusters, seed=seed, engine=engine) for seed in range(10)]
        for engine in ("torch", "sklearn")
    }
    worth = {engine: np.mean([inertia(features, one) for one in runs]) for engine, runs in found.items()}
    pure = {engine: np.mean([purity(one, labels) for one in runs]) for engine, runs in found.items()}
    assert 0.4 < pure["sklearn"] < 0.98  # neither hopeless nor trivial
    assert worth["torch"] == pytest.approx(worth["sklearn"], rel=0.005)
    assert pure["torch"] == pytest.approx(pure["sklearn"], abs=0.01)


def test_more_restarts_are_never_worse() -> None:
    """The first restarts of many are those of few."""
    features, _ = hard_mixture(300, 12)
    worth = [inertia(features, clustering.kmeans(features, 12, restarts, 0)) for restarts in (1, 4, 16)]
    assert worth[0] > worth[2]
    assert worth[0] >= worth[1] >= worth[2]


@pytest.mark.parametrize("num_clusters", [3, 7, 20])
def test_copies_of_a_row_share_a_cluster(num_clusters: int) -> None:
    distinct = blobs(7, num_classes=7, width=64)[0] + 5
    copied = torch.arange(7).repeat(150)
    clusters = clustering.kmeans(distinct[copied], num_clusters, 3, 0)
    assert len(clusters.unique()) == min(num_clusters, 7)
    assert all(len(clusters[copied == number].unique()) == 1 for number in range(7))


@pytest.mark.parametrize("value", [0.0, 3.7])
def test_a_collapsed_encoder_makes_one_cluster(value: float) -> None:
    assert len(clustering.kmeans(torch.full((50, 16), value), 5, 2, 0).unique()) == 1


def test_one_cluster_holds_everything() -> None:
    assert clustering.kmeans(blobs(30)[0], 1, 2, 0).tolist() == [0] * 30


def test_as_many_clusters_as_rows_are_one_each() -> None:
    assert sorted(clustering.kmeans(blobs(30)[0], 30, 2, 0).tolist()) == list(range(30))


def test_an_offset_that_dwarfs_the_classes_does_no_harm() -> None:
    features, labels = blobs(200, num_classes=4, spread=0.05)
    assert purity(clustering.kmeans(features + 30_000, 4, 4, 0), labels) == 1.0


def test_a_row_is_at_no_distance_from_its_copies_alone() -> None:
    rows, _ = blobs(40, width=512)
    points = clustering.Points.of(torch.cat([rows, rows, 1.01 * rows]))
    distances = clustering._distances_to_rows(points, torch.arange(40))
    assert (distances == 0).nonzero().tolist() == [[i, j] for i in range(40) for j in (i, i + 40)]


def test_rows_are_drawn_by_their_weights() -> None:
    weights = torch.tensor([[0.0, 1.0, 0.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    draws = torch.tensor([[0.0, 0.249, 0.251, 1 - 2**-53]], dtype=DOUBLE).expand(2, -1)
    assert clustering._draw(weights, draws).tolist() == [[1, 1, 3, 3], [4, 4, 4, 4]]


def test_an_empty_cluster_takes_the_farthest_row() -> None:
    points = clustering.Points.of(torch.tensor([[1.0], [2.0], [3.0], [10.0]]))
    gaps = torch.tensor([[0.0, 4.0, 1.0, 9.0], [0.0, 4.0, 1.0, 9.0]])
    labels = torch.tensor([[2, 2, 2, 2], [0, 1, 2, 1]])
    filled = clustering._fill_empty(points, labels, gaps, 3)
    assert filled.tolist() == [[2, 1, 2, 0], [0, 1, 2, 1]]
    assert clustering._fill_empty(points, labels, torch.zeros_like(gaps), 3).tolist() == labels.tolist()


def test_both_ways_to_add_up_clusters_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one of the CPU and the one of CUDA, in one block or in many."""
    points = clustering.Points.of(blobs(100, width=6)[0].double())
    labels = torch.randint(5, (3, 100), generator=torch.Generator().manual_seed(0))
    counts = clustering._counts(labels, 6)  # the last one is empty
    assert counts.tolist() == [torch.bincount(row, minlength=6).tolist() for row in labels]
    assert (clustering._centres(points, labels, 6)[1].isinf() == (counts == 0)).all()
    expected = clustering._sums_in_order(points, labels, counts)
    torch.testing.assert_close(clustering._sums_by_product(points, labels, counts), expected)
    monkeypatch.setitem(clustering.BLOCK, "cpu", 18 * 7)
    torch.testing.assert_close(clustering._sums_by_product(points, labels, counts), expected)


def test_pieces_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    features = hard_mixture(400, 8)[0].double()
    whole = clustering.kmeans(features, 8, 5, 0)
    monkeypatch.setattr(clustering, "MEMORY", 2 * 400 * 4)  # two restarts at a time
    monkeypatch.setitem(clustering.BLOCK, "cpu", 1000)
    assert partition(clustering.kmeans(features, 8, 5, 0)) == partition(whole)


def test_looking_less_often_only_lowers_the_inertia(monkeypatch: pytest.MonkeyPatch) -> None:
    points = clustering.Points.of(hard_mixture(600, 10)[0])
    draws = torch.rand(6, 10, 4, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    often = clustering.lloyd(points, *clustering.seeding(points, draws), 10)[1]
    monkeypatch.setitem(clustering.LOOK_EVERY, "cpu", 4)
    seldom = clustering.lloyd(points, *clustering.seeding(points, draws), 10)[1]
    assert len(seldom) == len(often) == 6
    assert (seldom.sort().values <= often.sort().values * (1 + 1e-6)).all()


def test_a_run_that_never_rests_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    features, _ = hard_mixture(600, 10)
    rested = inertia(features, clustering.kmeans(features, 10, 2, 0))
    monkeypatch.setattr(clustering, "MAX_STEPS", 1)
    assert inertia(features, clustering.kmeans(features, 10, 2, 0)) > rested


def numpy_state() -> list[int]:
    """The state of numpy's global generator."""
    state: Any = np.random.get_state()  # noqa: NPY002
    return list(state[1])


def test_the_same_arguments_give_the_same_clusters_and_touch_no_generator(deterministic: None) -> None:
    features, _ = hard_mixture(300, 12)
    states = torch.get_rng_state(), numpy_state(), random.getstate()
    before = features.clone()
    first = clustering.kmeans(features, 12, 2, 3)
    assert torch.equal(clustering.kmeans(features, 12, 2, 3), first)
    assert not torch.equal(clustering.kmeans(features, 12, 2, 4), first)
    assert torch.equal(features, before)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert numpy_state() == states[1]
    assert random.getstate() == states[2]


def test_distances_are_exact_under_the_precision_settings_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    addmm = torch.addmm

    def watched(*arguments: Any, **options: Any) -> Tensor:
        result: Tensor = addmm(*arguments, **options)
        seen.append((torch.backends.cuda.matmul.fp32_precision, result.dtype))
        return result

    features, _ = hard_mixture(100, 4)
    expected = clustering.kmeans(features, 4, 2, 0)
    monkeypatch.setattr(torch, "addmm", watched)
    torch.set_float32_matmul_precision("high")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            found = clustering.kmeans(features, 4, 2, 0)
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen) == {("ieee", torch.float32)}
    assert torch.equal(found, expected)


def test_auto_is_scikit_learn_on_the_cpu() -> None:
    features, _ = hard_mixture(300, 12)
    assert torch.equal(cluster(features, 12, engine="auto"), cluster(features, 12, engine="sklearn"))
    assert not torch.equal(cluster(features, 12, engine="auto"), cluster(features, 12, engine="torch"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible here")
@pytest.mark.parametrize(("size", "num_clusters", "spread"), MIXTURES)
def test_cuda_repeats_itself_and_is_worth_what_the_cpu_is(
    size: int, num_clusters: int, spread: float, deterministic: None
) -> None:
    features, labels = hard_mixture(size, num_clusters, spread)
    on_cuda = [cluster(features.cuda(), num_clusters, seed=seed) for seed in range(10)]
    on_cpu = [cluster(features, num_clusters, seed=seed, engine="torch") for seed in range(10)]
    assert torch.equal(cluster(features.cuda(), num_clusters, seed=0, engine="torch"), on_cuda[0])
    assert on_cuda[0].device.type == "cpu"
    worth = [np.mean([inertia(features, one) for one in runs]) for runs in (on_cuda, on_cpu)]
    pure = [np.mean([purity(one, labels) for one in runs]) for runs in (on_cuda, on_cpu)]
    assert worth[0] == pytest.approx(worth[1], rel=0.005)
    assert pure[0] == pytest.approx(pure[1], abs=0.01)

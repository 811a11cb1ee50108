from __future__ import annotations

import numpy as np
import pytest

from data_prep.sources.pca import fit_reduction

VECTORS = np.random.default_rng(0).integers(0, 256, (5000, 3)).astype(np.uint8).repeat([3, 2, 1], axis=1)


@pytest.mark.parametrize("energy", [0.05, 0.25, 0.5, 0.9, 1.0])
def test_exactly_the_asked_share_of_variance_stays(energy: float) -> None:
    reduced = fit_reduction(VECTORS, energy).apply(VECTORS)
    assert reduced.var(axis=0).sum() / VECTORS.var(axis=0).sum() == pytest.approx(energy, rel=1e-6)
    np.testing.assert_allclose(reduced.mean(axis=0), VECTORS.mean(axis=0))


def test_no_more_components_are_kept_than_needed() -> None:
    # Three independent columns, repeated 3, 2 and 1 times: variances 3, 2 and 1 sixths of the total.
    assert [len(fit_reduction(VECTORS, energy).gains) for energy in (0.4, 0.7, 0.95)] == [1, 2, 3]


def test_the_leading_component_is_the_one_kept() -> None:
    reduced = fit_reduction(VECTORS, 0.4).apply(VECTORS)
    correlation = np.corrcoef(reduced[:, 0], VECTORS[:, 0])[0, 1]
    assert correlation > 0.99


def test_keeping_everything_changes_nothing() -> None:
    np.testing.assert_allclose(fit_reduction(VECTORS, 1.0).apply(VECTORS), VECTORS, atol=1e-3)


def test_a_pixel_that_is_always_zero_stays_zero_without_a_sign() -> None:
    reduced = fit_reduction(np.pad(VECTORS, ((0, 0), (0, 20))), 0.25).apply(np.pad(VECTORS, ((0, 0), (0, 20))))
    assert reduced[:, 6:].tobytes() == np.zeros((5000, 20)).tobytes()

"""The probe of a regression: against scikit-learn, and by the rows that choose its penalty."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error
from torch import Tensor

from drcli.data.prepared import Split
from drcli.engine.ridge import PENALTIES, probe_values, ridge_path
from drcli.errors import RunError


def split(name: str, labels: Tensor) -> Split:
    rows = torch.arange(len(labels))
    return Split(name, {}, labels, rows, torch.ones(len(labels), dtype=torch.float64))


@pytest.fixture
def features() -> dict[str, tuple[Tensor, Split]]:
    """Eight features, one of them constant, of which two make the target."""
    found = {}
    for seed, (name, rows) in enumerate({"train": 60, "val": 30, "test": 30}.items()):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(rows, 8, generator=generator)
        x[:, 7] = 4.0
        y = x[:, 0] - 2 * x[:, 1] + 0.5 * torch.randn(rows, generator=generator) + 1.5
        found[name] = (3 * x + 7, split(name, y))
    return found


def test_every_penalty_gives_scikit_learns_ridge(features: dict[str, tuple[Tensor, Split]]) -> None:
    x, y = features["train"][0].double(), features["train"][1].labels.double()
    x = x - x.mean(dim=0)
    for penalty, (weights, intercept) in zip(PENALTIES, ridge_path(x, y, PENALTIES), strict=True):
        model = Ridge(alpha=penalty * len(x)).fit(x.numpy(), y.numpy())
        np.testing.assert_allclose(weights, model.coef_, rtol=1e-8, atol=1e-10)
        assert float(intercept) == pytest.approx(model.intercept_)


def test_the_penalty_is_chosen_on_validation_and_test_is_scored_by_it(
    features: dict[str, tuple[Tensor, Split]],
) -> None:
    x = {name: found[0].double().numpy() for name, found in features.items()}
    y = {name: found[1].labels.double().numpy() for name, found in features.items()}
    mean, std = x["train"].mean(axis=0), x["train"].std(axis=0)
    scaled = {name: (one - mean)[:, :7] / std[:7] for name, one in x.items()}
    models = [Ridge(alpha=penalty * 60).fit(scaled["train"], y["train"]) for penalty in PENALTIES]
    errors = [mean_absolute_error(y["val"], model.predict(scaled["val"])) for model in models]
    best = models[int(np.argmin(errors))]
    found = probe_values(features, "test")
    assert found.mae == pytest.approx(mean_absolute_error(y["test"], best.predict(scaled["test"])))
    assert found.corr == pytest.approx(np.corrcoef(y["test"], best.predict(scaled["test"]))[0, 1])
    assert found.mae < 0.6


def test_features_that_say_nothing_give_the_mean_of_the_training_targets(
    features: dict[str, tuple[Tensor, Split]],
) -> None:
    constant = {name: (torch.ones(len(x), 3), of) for name, (x, of) in features.items()}
    found = probe_values(constant, "test")
    targets = features["test"][1].labels.double()
    mean = features["train"][1].labels.double().mean()
    assert found.mae == pytest.approx(float((targets - mean).abs().mean()))
    assert found.corr is None


def test_features_that_are_not_finite_are_refused(features: dict[str, tuple[Tensor, Split]]) -> None:
    features["val"][0][3, 2] = torch.nan
    with pytest.raises(RunError, match="the features of split val are not finite"):
        probe_values(features, "test")

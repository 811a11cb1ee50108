"""Logistic regression against scikit-learn at convergence, against its conditions of optimality, and by hand."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from support.blobs import blobs
from torch import Tensor
from torch.nn import functional

from drcli.engine import probe
from drcli.engine.probe import LinearClassifier, Problem, fit_path, minimise

PATH = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


def overlapping(size: int = 200, **options: float) -> tuple[Tensor, Tensor]:
    features, labels = blobs(size, **{"spread": 2.0, **options})  # type: ignore[arg-type]
    return features.double(), labels


def separable() -> tuple[Tensor, Tensor]:
    return overlapping(spread=0.1)


def collinear() -> tuple[Tensor, Tensor]:
    """Every feature twice, one with a spread of 1e-5 around it, and a constant."""
    x, y = overlapping()
    noise = 1e-5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=x.dtype)
    return torch.cat([x, x, x + noise, torch.zeros(len(x), 1, dtype=x.dtype)], dim=1), y


def wide() -> tuple[Tensor, Tensor]:
    """More features than rows."""
    return overlapping(size=40, width=90)


DATA = {"overlapping": overlapping, "separable": separable, "collinear": collinear, "wide": wide}


def fitted(features: Tensor, labels: Tensor, strength: float) -> LinearClassifier:
    return next(fit_path(features, labels, [strength]))


def logit_gap(one: LinearClassifier, other: LinearClassifier, features: Tensor) -> float:
    return float((one.probabilities(features) - other.probabilities(features)).abs().max())


@pytest.mark.parametrize("data", DATA)
def test_equals_scikit_learn_at_convergence(data: str) -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = DATA[data]()
    for strength, ours in zip(PATH, fit_path(x, y, PATH), strict=True):
        model = LogisticRegression(C=strength, tol=1e-9, max_iter=20000).fit(x.numpy(), y.numpy())
        theirs = torch.from_numpy(model.coef_).T
        assert float((ours.weights[:-1] - theirs).norm()) <= 1e-3 * float(theirs.norm())
        expected = torch.from_numpy(model.predict_proba(x.numpy()))
        torch.testing.assert_close(ours.probabilities(x), expected, rtol=0.0, atol=3e-4)


def test_two_classes_are_scikit_learns_at_half_its_strength() -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = overlapping(num_classes=2)
    model = LogisticRegression(C=0.2, tol=1e-9, max_iter=20000).fit(x.numpy(), y.numpy())
    expected = torch.from_numpy(model.predict_proba(x.numpy()))
    torch.testing.assert_close(fitted(x, y, 0.1).probabilities(x), expected, rtol=0.0, atol=3e-4)


@pytest.mark.parametrize("data", DATA)
def test_the_excess_over_the_minimum_is_within_the_tolerance(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times, because the excess is estimated from the last step."""
    x, y = DATA[data]()
    coarse = list(fit_path(x, y, PATH))
    monkeypatch.setattr(probe, "TOLERANCE", 1e-13)
    rows, wanted = torch.cat([x, torch.ones(len(x), 1)], dim=1), functional.one_hot(y).T.double()
    for strength, found, best in zip(PATH, coarse, fit_path(x, y, PATH), strict=True):
        problem = Problem(rows, wanted, 1 / (strength * len(x)))
        value, least = (problem.objective(k.weights)[0] for k in (found, best))
        assert value - least <= 1e-7 * least


def test_the_objective_is_that_of_the_docstring_and_its_gradient_autograds() -> None:
    x, y = overlapping(size=30)
    weights = torch.randn(9, 5, generator=torch.Generator().manual_seed(1), dtype=x.dtype).requires_grad_()
    rows = torch.cat([x, torch.ones(30, 1)], dim=1)
    expected = functional.cross_entropy(rows @ weights, y) + 0.15 * weights[:-1].square().sum()
    expected.backward()
    value, gradient = Problem(rows, functional.one_hot(y).T.double(), 0.3).objective(weights.detach())
    assert value == pytest.approx(float(expected.detach()))
    torch.testing.assert_close(gradient, weights.grad)


@pytest.mark.parametrize(("num_classes", "scale"), [(5, 0.0), (2, 1.0)], ids=["at zero", "two classes"])
def test_the_curvature_is_exact_at_zero_and_for_two_classes(num_classes: int, scale: float) -> None:
    """Along directions whose classes add up to zero, compared with differences of the gradient."""
    x, y = overlapping(size=40, num_classes=num_classes)
    rows = torch.cat([x, torch.ones(40, 1)], dim=1)
    problem = Problem(rows, functional.one_hot(y).T.double(), 0.3)
    generator = torch.Generator().manual_seed(2)
    at, along = torch.randn(2, 9, num_classes, generator=generator, dtype=x.dtype)
    at, along = scale * at, along - along.mean(dim=1, keepdim=True)
    ahead, behind = (problem.objective(at + sign * 1e-5 * along)[1] for sign in (1, -1))
    torch.testing.assert_close(problem.curvature(at) @ along, (ahead - behind) / 2e-5, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("data", DATA)
def test_the_way_there_does_not_matter(data: str) -> None:
    x, y = DATA[data]()
    for strength, on_the_path in zip(PATH, fit_path(x, y, PATH), strict=True):
        assert logit_gap(on_the_path, fitted(x, y, strength), x) < 3e-4


@pytest.mark.slow
def test_the_same_bits_come_back_and_other_threads_differ_by_rounding() -> None:
    x, y = overlapping(size=2000, width=64)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one, again = fitted(x, y, 1.0), fitted(x, y, 1.0)
        torch.set_num_threads(2)
        two = fitted(x, y, 1.0)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one.weights, again.weights)
    assert logit_gap(one, two, x) < 3e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible here")
def test_cuda_finds_what_the_cpu_finds() -> None:
    x, y = overlapping(size=500, width=64)
    for here, there in zip(fit_path(x, y, PATH), fit_path(x.cuda(), y.cuda(), PATH), strict=True):
        torch.testing.assert_close(there.probabilities(x.cuda()).cpu(), here.probabilities(x), rtol=0.0, atol=3e-4)


def test_labels_are_those_that_occur() -> None:
    x, y = overlapping()
    renamed = torch.tensor([7, 0, 3, 12, 4])[y]
    found, plain = fitted(x, renamed, 0.1), fitted(x, y, 0.1)
    assert found.classes.tolist() == [0, 3, 4, 7, 12]
    assert torch.equal(found.predict(x), torch.tensor([7, 0, 3, 12, 4])[plain.predict(x)])


def test_a_single_class_is_always_predicted() -> None:
    x, _ = overlapping(size=6)
    assert fitted(x, torch.full((6,), 3), 1.0).predict(x).tolist() == [3] * 6


def test_the_intercept_bears_no_penalty() -> None:
    """Features that say nothing leave the intercept alone, which then gives the classes' shares: 1/4 and 3/4."""
    x, y = torch.zeros(8, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 1, 0, 1, 1, 1])
    torch.testing.assert_close(
        fitted(x, y, 1e-4).probabilities(x[:1]), torch.tensor([[0.25, 0.75]]).double(), rtol=0.0, atol=1e-4
    )


def test_a_step_that_leads_beyond_the_minimum_is_halved() -> None:
    """x^4 / 4 + 1 from 10: the first step is the gradient, 1000 long. An excess of 1e-8 is at |x| = 0.014."""
    seen: list[float] = []

    def quartic(x: Tensor) -> tuple[float, Tensor]:
        seen.append(float(x))
        return float(x.pow(4).sum() / 4 + 1), x.pow(3)

    found = minimise(quartic, torch.tensor([10.0], dtype=torch.float64))
    assert seen[:3] == [10.0, -990.0, -490.0]
    assert abs(float(found)) < 0.03


def test_a_search_that_finds_no_descent_stays_where_it_is() -> None:
    def broken(x: Tensor) -> tuple[float, Tensor]:
        return (1.0, torch.ones_like(x)) if float(x) == 0.5 else (math.nan, torch.ones_like(x))

    assert minimise(broken, torch.tensor([0.5])).tolist() == [0.5]


@pytest.mark.slow
def test_neither_scikit_learn_nor_the_compiler_is_imported() -> None:
    code = (
        "import sys, torch; from drcli.engine.probe import fit_path; y = torch.arange(60) % 3; "
        "list(fit_path(torch.randn(60, 4).double(), y, [0.1, 1.0])); "
        "print({'sklearn', 'scipy', 'torch._dynamo'} & {*sys.modules})"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"

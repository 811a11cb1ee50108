"""The linear probes' logistic regression against scikit-learn's at an equal optimum: seconds, and how near both are.

    python benchmarks/probes.py [--device auto] [--repeats 3] [--cases cremad,...] [--json FILE]

The sets of benchmarks/kmeans.py, standardised, in float64, and the path of six penalties that a probe takes. An
equal optimum means what tests/engine/test_logistic.py asks: weights within 1e-3 of the optimum's norm, probabilities
within 3e-4. scikit-learn is given the loosest tolerance, a power of ten, that reaches it at every penalty: found
before the clock runs. It starts each fit where ours does. Both take turns, and the ratio is that of a turn. The
optimum itself comes from ours at a ten-thousandth of its tolerance.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

import torch
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import kmeans
from benchmarks.kmeans import CASES, Case, features_of
from benchmarks.measuring import in_turns, parser_of, polite, ratio, table_of, write_report
from drcli.engine import probe
from drcli.engine.device import resolve_device, set_determinism
from drcli.engine.probe import STRENGTHS, LinearClassifier, fit_path, standardise

TOLERANCES = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
"""Of the largest component of the gradient: what scikit-learn's `tol` is, 1e-4 by default."""

WEIGHTS, PROBABILITIES = 1e-3, 3e-4
"""How far from the optimum still counts as equal to it."""

SKLEARN = "scikit-learn"
Fits = list[LinearClassifier]


@dataclass(frozen=True)
class Distance:
    """The largest distance of a path of fits from the optima.

    Attributes:
        weights: norm of the difference without intercepts, as a share of the optimum's.
        probabilities: of any row and class.
    """

    weights: float
    probabilities: float

    @property
    def equal(self) -> bool:
        """Whether it counts as none."""
        return self.weights <= WEIGHTS and self.probabilities <= PROBABILITIES


@dataclass(frozen=True)
class Found:
    """What one engine did with one case.

    Attributes:
        case: name of the case.
        engine: name of the engine.
        tolerance: what it was given.
        repeats: seconds of each turn, for the whole path.
        distance: from the optimum.
    """

    case: str
    engine: str
    tolerance: float
    repeats: list[float]
    distance: Distance


def ours(features: Tensor, labels: Tensor) -> Fits:
    """The path as a probe fits it."""
    return list(fit_path(features, labels, STRENGTHS))


def optima(features: Tensor, labels: Tensor) -> Fits:
    """The same, beyond what is compared."""
    with patch.object(probe, "TOLERANCE", 1e-4 * probe.TOLERANCE):
        return ours(features, labels)


def theirs(features: Tensor, labels: Tensor, tolerance: float) -> Fits:
    """The path by scikit-learn, on as many threads as torch has."""
    with threadpool_limits(torch.get_num_threads()):
        return list(_their_fits(features, labels, tolerance))


def _their_fits(features: Tensor, labels: Tensor, tolerance: float) -> Iterator[LinearClassifier]:
    model = LogisticRegression(tol=tolerance, max_iter=10**5, warm_start=True)
    before = weights = features.new_zeros(features.shape[1] + 1, len(set(labels.tolist())))
    for strength in STRENGTHS:
        start = 2 * weights - before
        model.coef_, model.intercept_ = start[:-1].T.numpy().copy(), start[-1].numpy().copy()
        model.set_params(C=strength).fit(features.numpy(), labels.numpy())
        found = torch.cat([torch.from_numpy(model.coef_).T, torch.from_numpy(model.intercept_)[None]])
        before, weights = weights, found.clone()
        yield LinearClassifier(weights, torch.from_numpy(model.classes_))


def distance(found: Fits, best: Fits, features: Tensor) -> Distance:
    """How far a path is from the optima, at the penalty where it is farthest."""
    pairs = [(one.weights.cpu(), other.weights) for one, other in zip(found, best, strict=True)]
    shares = [float((w[:-1] - b[:-1]).norm() / b[:-1].norm()) for w, b in pairs]
    return Distance(max(shares), max(_difference(w, b, features) for w, b in pairs))


def _difference(one: Tensor, other: Tensor, features: Tensor) -> float:
    a, b = ((features @ w[:-1] + w[-1]).softmax(dim=1) for w in (one, other))
    return float((a - b).abs().max())


def loosest(features: Tensor, labels: Tensor, best: Fits) -> tuple[float, Distance]:
    """The tolerance with which scikit-learn is equal, or the tightest, and how far it then is."""
    for tolerance in TOLERANCES:
        apart = distance(theirs(features, labels, tolerance), best, features)
        if apart.equal:
            break
    return tolerance, apart


def measure(case: Case, device: torch.device, repeats: int) -> list[Found]:
    """Ours and scikit-learn's on one case."""
    raw, labels = features_of(case)
    features = standardise({"train": raw.double()})["train"]
    there, labels_there = features.to(device), labels.to(device)
    best = optima(features, labels)
    tolerance, their_distance = loosest(features, labels, best)
    own_distance = distance(ours(there, labels_there), best, features)
    works: dict[str, Callable[[], object]] = {
        f"drcli, {device.type}": lambda: ours(there, labels_there),
        SKLEARN: lambda: theirs(features, labels, tolerance),
    }
    seconds = in_turns(works, device, warmup=0, repeats=repeats)
    about = ((probe.TOLERANCE, own_distance), (tolerance, their_distance))
    return [
        Found(case.name, name, given, seconds[name], apart) for name, (given, apart) in zip(works, about, strict=True)
    ]


def show(case: Case, found: Sequence[Found]) -> None:
    """Print one case, one row per engine."""
    own = found[0]
    rows = [
        (
            one.engine,
            f"{one.tolerance:.0e}",
            f"{statistics.median(one.repeats):.2f}",
            "" if one is own else f"{ratio(one.repeats, own.repeats):.2f} x",
            f"{one.distance.weights:.0e}",
            f"{one.distance.probabilities:.0e}",
        )
        for one in found
    ]
    columns = ("engine", "tolerance", "seconds", "drcli is faster", "weights off by", "probabilities off by")
    shape = f"{case.rows} x {kmeans.WIDTH}, {case.classes} classes"
    table_of(f"{case.name}: {shape}, {torch.get_num_threads()} threads", columns, rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print one table per case, write JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="timed turns; the median counts")
    parser.add_argument(
        "--cases", default=",".join(case.name for case in CASES), help="which sets, with commas between"
    )
    asked = parser.parse_args(argv)
    found: list[Found] = []
    with polite():
        device = resolve_device(asked.device)
        set_determinism(True)  # as recipes have it by default
        for case in CASES:
            if case.name in asked.cases.split(","):
                rows = measure(case, device, asked.repeats)
                show(case, rows)
                found += rows
    write_report(asked.json, device, {"results": [asdict(one) for one in found]})


if __name__ == "__main__":
    main()

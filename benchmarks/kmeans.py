"""K-means of the diagnosis on a device against scikit-learn's: seconds, inertia, purity.

    python benchmarks/kmeans.py [--device auto] [--repeats 3] [--seeds 10] [--cases NAME,NAME] [--json FILE]

Three made-up sets of the size of real ones: overlapping classes behind a ReLU, scaled as the diagnosis
scales features; 10 restarts. scikit-learn runs on one thread, as `kmeans: sklearn` does, and on every
core. Each engine is warmed up, seconds are the median over repeats of wall-clock time with the device
synchronised before each reading, the engines take turns, and features start where they are used. Other
work on the machine shows. Inertia and purity are means over seeds, computed here in float64.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import now, parser_of, polite, ratio, table_of, write_report
from drcli.diagnosis import clustering, purity, scale_features
from drcli.engine.device import resolve_device, set_determinism

RESTARTS = 10
WIDTH = 512
ALL_CORES = "scikit-learn, all cores"
Engine = Callable[[int], Tensor]
"""Clusters, (N,) on any device, by the seed."""


@dataclass(frozen=True)
class Case:
    """A set of features.

    Attributes:
        name: the dataset whose training set has this size.
        rows: N.
        classes: K.
        spread: deviation of a class around its centre, in deviations of the centres.
    """

    name: str
    rows: int
    classes: int
    spread: float


CASES = (
    Case("cremad", 5954, 6, 3.0),
    Case("kinetics_sounds", 14799, 31, 1.5),
    Case("ucf101", 9537, 101, 1.2),
)


@dataclass(frozen=True)
class Found:
    """What one engine did with one case.

    Attributes:
        case: name of the case.
        engine: name of the engine.
        seconds: median of the repeats.
        repeats: seconds of each.
        inertia: mean over seeds; None for every core, which ends where one thread does.
        purity: the same.
    """

    case: str
    engine: str
    seconds: float
    repeats: list[float]
    inertia: float | None
    purity: float | None


def features_of(case: Case) -> tuple[Tensor, Tensor]:
    """Features (N, 512) in [-1, 1] and labels (N,): Gaussian classes in 32 dimensions, mixed, cut at 0."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(case.classes, (case.rows,), generator=generator)
    centres = torch.randn(case.classes, 32, generator=generator)
    latent = centres[labels] + case.spread * torch.randn(case.rows, 32, generator=generator)
    mixed = latent @ torch.randn(32, WIDTH, generator=generator) / 32**0.5
    return scale_features(torch.relu(mixed + 0.5 * torch.randn(mixed.shape, generator=generator))), labels


def engines_of(case: Case, features: Tensor, device: torch.device) -> dict[str, Engine]:
    """The engines by name, each over features that lie where it computes."""
    there, matrix = features.to(device), features.numpy()

    def every_core(seed: int) -> Tensor:
        model = KMeans(case.classes, n_init=RESTARTS, random_state=seed).fit(matrix)
        return torch.from_numpy(model.labels_).long()

    def one_thread(seed: int) -> Tensor:
        with threadpool_limits(1):
            return every_core(seed)

    return {
        f"drcli, {device.type}": lambda seed: clustering.kmeans(there, case.classes, RESTARTS, seed),
        "scikit-learn, 1 thread": one_thread,
        ALL_CORES: every_core,
    }


def inertia(features: Tensor, clusters: Tensor, classes: int) -> float:
    """Sum of squared distances to the means of the clusters."""
    rows = features.double()
    sums = rows.new_zeros(classes, rows.shape[1]).index_add_(0, clusters, rows)
    means = sums / clusters.bincount(minlength=classes).clamp_min(1)[:, None]
    return float((rows - means[clusters]).square().sum())


def measure(case: Case, device: torch.device, repeats: int, seeds: int) -> list[Found]:
    """Every engine on one case; the first `repeats` seeds are timed."""
    features, labels = features_of(case)
    engines = engines_of(case, features, device)
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    clusters: dict[str, list[Tensor]] = {name: [] for name in engines}
    for engine in engines.values():
        engine(0)
    for seed in range(max(repeats, seeds)):
        for name, engine in engines.items():
            if name != ALL_CORES or seed < repeats:
                started = now(device)
                result = engine(seed)
                seconds[name].append(now(device) - started)
                clusters[name].append(result.cpu())
                print(f"{case.name}, {name}: {seconds[name][-1]:.3f} s (seed {seed})", file=sys.stderr)
    return [
        Found(
            case=case.name,
            engine=name,
            seconds=statistics.median(seconds[name][:repeats]),
            repeats=seconds[name][:repeats],
            inertia=mean(name, lambda found: inertia(features, found, case.classes), clusters[name]),
            purity=mean(name, lambda found: purity(found, labels), clusters[name]),
        )
        for name in engines
    ]


def mean(engine: str, worth: Callable[[Tensor], float], clusters: list[Tensor]) -> float | None:
    """Mean worth of the clusters over seeds, None for the engine that did not run all of them."""
    return None if engine == ALL_CORES else statistics.mean(map(worth, clusters))


def show(case: Case, found: Sequence[Found]) -> None:
    """Print one case, one row per engine, against the first of scikit-learn's."""
    ours, reference = found[0], found[1]
    rows = [
        (
            one.engine,
            f"{one.seconds:.3f}",
            "" if one is ours else f"{ratio(one.repeats, ours.repeats):.1f} x",
            "" if one.inertia is None or reference.inertia is None else f"{one.inertia / reference.inertia:.4f}",
            "" if one.purity is None else f"{one.purity:.4f}",
        )
        for one in found
    ]
    columns = ("engine", "seconds", "drcli is faster", "inertia / 1 thread", "purity")
    table_of(f"{case.name}: {case.rows} x {WIDTH}, K = {case.classes}", columns, rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print one table per case, write JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each engine; the median counts")
    parser.add_argument("--seeds", type=int, default=10, help="runs that inertia and purity are averaged over")
    parser.add_argument(
        "--cases", default=",".join(case.name for case in CASES), help="which sets, separated by commas"
    )
    parser.add_argument("--rows", type=int, help="at most so many rows of each set")
    asked = parser.parse_args(argv)
    chosen = [case for case in CASES if case.name in asked.cases.split(",")]
    cases = [replace(case, rows=min(case.rows, asked.rows or case.rows)) for case in chosen]
    found: list[Found] = []
    with polite():
        device = resolve_device(asked.device)
        set_determinism(True)  # as recipes have it by default
        for case in cases:
            rows = measure(case, device, asked.repeats, asked.seeds)
            show(case, rows)
            found += rows
    report = {"cases": [asdict(case) for case in cases], "results": [asdict(one) for one in found]}
    write_report(asked.json, device, report)


if __name__ == "__main__":
    main()

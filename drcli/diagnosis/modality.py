"""The diagnosis of a modality: purity of its clusters, gap of two purities, strength of the pull, and all in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from drcli.diagnosis.clustering import cluster, in_precision, scale_features
from drcli.diagnosis.sampling import stratified_rows
from drcli.diagnosis.settings import MARGIN, MeasureSettings, Slopes, above_floor, at_floor, slope_of

PERMUTATIONS = 20  # label permutations that the floor is averaged over

# Clusters follow the classes if they close this share of the way from permuted labels to purity 1.
FOLLOWS = 0.1


def purity(assignments: Tensor | ArrayLike, labels: Tensor | ArrayLike) -> float:
    """Return the share of samples that belong to the most frequent class of their cluster.

        P = (1/N) * sum over clusters k of max over classes j of |{i : c_i = k, y_i = j}|

    Invariant under renaming clusters and under renaming classes.

    Args:
        assignments: cluster c_i of each sample, (N,), any integers.
        labels: class y_i of each sample, (N,), any integers.

    Returns:
        A number in [frequency of the commonest class, 1].

    Raises:
        ValueError: the lengths differ, there are no samples, or an argument is not one-dimensional.
    """
    clusters, num_clusters = _renumber(assignments, "assignments")
    classes, num_classes = _renumber(labels, "labels")
    if len(clusters) != len(classes):
        raise ValueError(f"assignments and labels differ in length: {len(clusters)} and {len(classes)}")
    cells = torch.bincount(clusters * num_classes + classes, minlength=num_clusters * num_classes)
    return int(cells.view(num_clusters, num_classes).amax(dim=1).sum()) / len(clusters)


def _renumber(values: Tensor | ArrayLike, name: str) -> tuple[Tensor, int]:
    """Return the values as 0..K-1 in a tensor (N,) on the CPU, and K."""
    tensor = torch.as_tensor(values).detach().cpu()
    if tensor.ndim != 1 or len(tensor) == 0:
        raise ValueError(f"{name} must have the shape (N,) with N > 0, got {tuple(tensor.shape)}")
    distinct, renumbered = torch.unique(tensor, return_inverse=True)
    return renumbered, len(distinct)


def purity_gap(purity_train: float, purity_val: float, kind: str = "abs") -> float:
    """Return how far apart train and validation cluster, in [0, 1].

        abs:     g = |P_train - P_val|              (the paper's)
        signed:  g = max(P_train - P_val, 0)        (nothing if validation clusters better)

    Args:
        purity_train: purity of the training set, in [0, 1].
        purity_val: purity of the validation set, in [0, 1].
        kind: "abs" or "signed".

    Raises:
        ValueError: a purity lies outside [0, 1], or `kind` is neither.
    """
    for name, value in (("purity_train", purity_train), ("purity_val", purity_val)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} must lie in [0, 1], got {value}")
    if kind == "abs":
        return abs(purity_train - purity_val)
    if kind == "signed":
        return max(purity_train - purity_val, 0.0)
    raise ValueError(f'kind must be "abs" or "signed", got {kind!r}')


def adjusted_purity(purity: float, permuted: float) -> float:
    """Return a purity corrected for chance, as the Rand index is adjusted (Hubert, Arabie 1985): at most 1.

        P' = (P - P_perm) / (1 - P_perm)

    0 is what the same clusters have under permuted labels, 1 is perfect, less than 0 worse than permuted labels. Where
    all samples are of one class both are 1, and P' is 0.

    Args:
        purity: P, in [0, 1].
        permuted: P_perm, the mean purity of the same clusters under permuted labels.
    """
    return (purity - permuted) / (1.0 - permuted) if permuted < 1.0 else 0.0


def unequal_shares(labels_train: Tensor, labels_val: Tensor) -> float | None:
    """Return how far apart the class shares of two splits are; None where that is little, or chance explains it."""
    apart, chance = share_difference(labels_train, labels_val)
    return apart if apart > max(MARGIN, 2 * chance) else None


def share_difference(labels_train: Tensor, labels_val: Tensor) -> tuple[float, float]:
    """Return how far apart the class shares of two splits are, and how far chance alone would put them.

    The first is the total variation distance, half the sum over classes of |share in train - share in validation|,
    in [0, 1]. The second is its expectation, by the normal approximation, for two samples of one distribution.

    Args:
        labels_train: (N,) integers.
        labels_val: (M,) integers.
    """
    both = torch.cat([labels_train.cpu(), labels_val.cpu()])
    classes = torch.unique(both)
    sizes = (len(labels_train), len(labels_val))
    train, val, shares = (
        (labels.cpu()[:, None] == classes).double().mean(dim=0) for labels in (labels_train, labels_val, both)
    )
    spread = (2 / math.pi * shares * (1 - shares) * sum(1 / size for size in sizes)).sqrt()
    return float((train - val).abs().sum() / 2), float(spread.sum() / 2)


def strength(gap: float, lambda_: float) -> float:
    """Return how strongly an encoder is pulled towards its initial weights, in [0, 1].

        a = tanh(lambda * g)

    Args:
        gap: purity gap g, in [0, 1].
        lambda_: slope; 0 switches re-learning off.

    Raises:
        ValueError: the gap lies outside [0, 1], or lambda is negative or not finite.
    """
    if not 0.0 <= gap <= 1.0:
        raise ValueError(f"gap must lie in [0, 1], got {gap}")
    if not 0.0 <= lambda_ < math.inf:
        raise ValueError(f"lambda must be finite and not negative, got {lambda_}")
    return math.tanh(lambda_ * gap)


@dataclass(frozen=True)
class ModalityDiagnosis:
    """What the diagnosis found in one modality; all but the counts are fractions in [0, 1].

    Attributes:
        purity_train: purity of the training set's clusters.
        purity_val: purity of the validation set's clusters.
        gap: gap of the two, of the kind that the settings ask for.
        gap_permuted: the floor: mean gap of the same clusters under permuted labels.
        strength: tanh(lambda * gap), how far the encoder is pulled towards its initial weights.
        purity_permuted_train: mean purity of the training set's clusters under permuted labels.
        purity_permuted_val: the same of the validation set.
        purity_adjusted_train: purity of the training set's clusters, corrected for chance.
        purity_adjusted_val: the same of the validation set.
        gap_adjusted: gap of the two corrected purities, of the kind that the settings ask for.
        num_train: training rows that were clustered.
        num_val: validation rows that were clustered.
    """

    purity_train: float
    purity_val: float
    gap: float
    gap_permuted: float
    strength: float
    purity_permuted_train: float
    purity_permuted_val: float
    purity_adjusted_train: float
    purity_adjusted_val: float
    gap_adjusted: float
    num_train: int
    num_val: int

    @property
    def gap_above_floor(self) -> float:
        """What of the gap permuted labels do not explain; 0 where they explain all of it."""
        return above_floor(self.gap, self.gap_permuted)

    @property
    def is_at_floor(self) -> bool:
        """Whether permuted labels have a gap as large, give or take what another start of K-means changes."""
        return at_floor(self.gap, self.gap_permuted)

    def to_dict(self) -> dict[str, float]:
        """Return the numbers by name."""
        return asdict(self)


def diagnose(
    features_train: Mapping[str, Tensor],
    labels_train: Tensor | Mapping[str, Tensor],
    features_val: Mapping[str, Tensor],
    labels_val: Tensor | Mapping[str, Tensor],
    *,
    num_classes: int,
    settings: MeasureSettings,
    lambda_: Slopes,
    seed: int = 0,
) -> dict[str, ModalityDiagnosis]:
    """Return the diagnosis of every modality; nothing is changed, no global generator advanced.

    Args:
        features_train: {m: (N, D_m)}, the encoders' outputs on the training set.
        labels_train: (N,) integers; or {m: (N_m,)} where modalities have rows of their own, see `present_only`.
        features_val: {m: (M, D_m)} of the same modalities on the validation set.
        labels_val: the same of the M rows.
        num_classes: number of clusters, at most N and M.
        settings: how purities and gap are measured.
        lambda_: slope from gap to strength, not negative; or {m: slope of m}.
        seed: seed of K-means, of the label permutations and of `match_sizes`; all modalities share them.

    Raises:
        ValueError: modalities differ between the sets, or `lambda_` lacks one, or what `diagnose_modality` raises.
    """
    if features_train.keys() != features_val.keys():
        raise ValueError(f"modalities differ: train {[*features_train]}, validation {[*features_val]}")
    return {
        m: diagnose_modality(
            features_train[m],
            _labels_of(m, labels_train),
            features_val[m],
            _labels_of(m, labels_val),
            num_classes=num_classes,
            settings=settings,
            lambda_=slope_of(lambda_, m),
            seed=seed,
        )
        for m in features_train
    }


def _labels_of(modality: str, labels: Tensor | Mapping[str, Tensor]) -> Tensor:
    return labels[modality] if isinstance(labels, Mapping) else labels


def diagnose_modality(
    train: Tensor,
    labels_train: Tensor,
    val: Tensor,
    labels_val: Tensor,
    *,
    num_classes: int,
    settings: MeasureSettings,
    lambda_: float,
    seed: int = 0,
) -> ModalityDiagnosis:
    """Return the diagnosis of one modality.

    Each set is scaled and clustered on its own into as many clusters as there are classes (arXiv
    2407.09705); purities, gap and strength follow. The floor is what the same clusters give when labels
    are permuted: purity rises as a set shrinks, so sets of different sizes have a gap even if the
    representation knows nothing.

    Args:
        train: (N, D), the encoder's outputs on the training set.
        labels_train: (N,) integers.
        val: (M, D) on the validation set.
        labels_val: (M,) integers.
        num_classes: number of clusters, at most N and M.
        settings: how purities and gap are measured.
        lambda_: slope from gap to strength, not negative.
        seed: seed of K-means, of the label permutations, of `sample` and of `match_sizes`.

    Raises:
        ValueError: lengths or shapes do not fit, features are not finite, or a set has fewer rows than
            there are classes.
    """
    train, labels_train, val, labels_val = map(torch.as_tensor, (train, labels_train, val, labels_val))
    _check_length("train", train, labels_train)
    _check_length("validation", val, labels_val)
    if settings.sample is not None:
        train, labels_train = _sampled(train, labels_train, max(settings.sample, num_classes), seed)
        val, labels_val = _sampled(val, labels_val, max(settings.sample, num_classes), seed)
    if settings.match_sizes and len(train) > len(val):
        rows = _subsample(len(train), len(val), seed).to(train.device)
        train, labels_train = train[rows], labels_train[rows.to(labels_train.device)]
    clusters_train, clusters_val = _clusters(train, val, num_classes, settings, seed)
    purity_train, purity_val = purity(clusters_train, labels_train), purity(clusters_val, labels_val)
    gap = purity_gap(purity_train, purity_val, settings.gap)
    permuted = _permuted_purities(clusters_train, labels_train, clusters_val, labels_val, seed)
    gaps = [purity_gap(on_train, on_val, settings.gap) for on_train, on_val in permuted]
    permuted_train, permuted_val = (float(mean) for mean in np.mean(permuted, axis=0))
    adjusted_train = adjusted_purity(purity_train, permuted_train)
    adjusted_val = adjusted_purity(purity_val, permuted_val)
    gap_adjusted = adjusted_train - adjusted_val
    return ModalityDiagnosis(
        purity_train=purity_train,
        purity_val=purity_val,
        gap=gap,
        gap_permuted=float(np.mean(gaps)),
        strength=strength(gap, lambda_),
        purity_permuted_train=permuted_train,
        purity_permuted_val=permuted_val,
        purity_adjusted_train=adjusted_train,
        purity_adjusted_val=adjusted_val,
        gap_adjusted=min(abs(gap_adjusted) if settings.gap == "abs" else max(gap_adjusted, 0.0), 1.0),
        num_train=len(train),
        num_val=len(val),
    )


def _check_length(split: str, features: Tensor, labels: Tensor) -> None:
    if labels.ndim != 1 or len(features) != len(labels):
        raise ValueError(f"{split}: {len(features)} rows of features need as many labels, got {tuple(labels.shape)}")


def _sampled(features: Tensor, labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return some rows of features and labels, drawn by class."""
    rows = stratified_rows(labels, count, seed)
    return features[rows.to(features.device)], labels[rows.to(labels.device)]


def _subsample(size: int, count: int, seed: int) -> Tensor:
    """Return `count` of `size` rows in ascending order."""
    rows = np.random.default_rng([seed, 0]).choice(size, count, replace=False)
    return torch.from_numpy(np.sort(rows))


def _clusters(
    train: Tensor, val: Tensor, num_classes: int, settings: MeasureSettings, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the clusters of train and of validation, each found on its own."""
    train, val = (in_precision(x, settings.kmeans) for x in (train, val))
    reference = train if settings.scaler == "from_train" else None
    found = [
        cluster(scaled, num_classes, restarts=settings.restarts, seed=seed, engine=settings.kmeans)
        for scaled in (scale_features(train), scale_features(val, reference))
    ]
    return found[0], found[1]


def _permuted_purities(
    clusters_train: Tensor, labels_train: Tensor, clusters_val: Tensor, labels_val: Tensor, seed: int
) -> list[tuple[float, float]]:
    """Return the purities of train and validation under each permutation of the labels."""
    generator = np.random.default_rng([seed, 1])
    train, val = labels_train.cpu().numpy(), labels_val.cpu().numpy()
    return [
        (
            purity(clusters_train, generator.permutation(train)),
            purity(clusters_val, generator.permutation(val)),
        )
        for _ in range(PERMUTATIONS)
    ]


def reading(diagnosis: ModalityDiagnosis) -> str:
    """Return one line that says in which learning state a modality is.

    - "over-trained": train clusters better than validation, by more than the floor of permuted labels
      explains. "Would be pulled back by a" means: re-learning would move every weight of the encoder the
      share a of its way back to the initial value (a is the strength; 0 nothing, 1 all of it).
    - "little to re-learn from": purities of both sets are about those of permuted labels.
    - "clusters better on validation": the gap is real but not over-training; the setting `gap: signed`
      leaves such a modality alone.
    - "generalises": none of these; D&R has no threshold and would pull all the same.
    """
    is_apart = not diagnosis.is_at_floor
    pull = f"would be pulled back by {diagnosis.strength:.2f}"
    if is_apart and diagnosis.purity_train > diagnosis.purity_val:
        return f"over-trained: {pull}"
    if not _follows_classes(diagnosis):
        return "little to re-learn from: its clusters hardly follow the classes"
    if is_apart:
        return f"clusters better on validation than on train: {pull}"
    return f"generalises: train and validation cluster alike; {pull}"


def _follows_classes(diagnosis: ModalityDiagnosis) -> bool:
    """Whether the clusters of train or of validation are clearly better than under permuted labels."""
    splits = (
        (diagnosis.purity_train, diagnosis.purity_permuted_train),
        (diagnosis.purity_val, diagnosis.purity_permuted_val),
    )
    return any(found - permuted > FOLLOWS * (1.0 - permuted) for found, permuted in splits)

"""The diagnosis: purity of train and validation clusters, their gap, and the strength it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from drcli.diagnosis.clustering import cluster, scale_features
from drcli.diagnosis.clusters import purity
from drcli.diagnosis.gap import purity_gap, strength
from drcli.diagnosis.settings import MeasureSettings

PERMUTATIONS = 20  # label permutations that the floor is averaged over


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
    num_train: int
    num_val: int

    def to_dict(self) -> dict[str, float]:
        """Return the numbers by name."""
        return asdict(self)


def diagnose(
    features_train: Mapping[str, Tensor],
    labels_train: Tensor,
    features_val: Mapping[str, Tensor],
    labels_val: Tensor,
    *,
    num_classes: int,
    settings: MeasureSettings,
    lambda_: float,
    seed: int = 0,
) -> dict[str, ModalityDiagnosis]:
    """Return the diagnosis of every modality; nothing is changed, no global generator advanced.

    Args:
        features_train: {m: (N, D_m)}, the encoders' outputs on the training set.
        labels_train: (N,) integers.
        features_val: {m: (M, D_m)} of the same modalities on the validation set.
        labels_val: (M,) integers.
        num_classes: number of clusters, at most N and M.
        settings: how purities and gap are measured.
        lambda_: slope from gap to strength, not negative.
        seed: seed of K-means, of the label permutations and of `match_sizes`; all modalities share them.

    Raises:
        ValueError: modalities differ between the sets, or what `diagnose_modality` raises.
    """
    if features_train.keys() != features_val.keys():
        raise ValueError(f"modalities differ: train {[*features_train]}, validation {[*features_val]}")
    return {
        m: diagnose_modality(
            features_train[m],
            labels_train,
            features_val[m],
            labels_val,
            num_classes=num_classes,
            settings=settings,
            lambda_=lambda_,
            seed=seed,
        )
        for m in features_train
    }


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
        seed: seed of K-means, of the label permutations and of `match_sizes`.

    Raises:
        ValueError: lengths or shapes do not fit, features are not finite, or a set has fewer rows than
            there are classes.
    """
    train, labels_train, val, labels_val = map(torch.as_tensor, (train, labels_train, val, labels_val))
    _check_length("train", train, labels_train)
    _check_length("validation", val, labels_val)
    if settings.match_sizes and len(train) > len(val):
        rows = _subsample(len(train), len(val), seed).to(train.device)
        train, labels_train = train[rows], labels_train[rows.to(labels_train.device)]
    clusters_train, clusters_val = _clusters(train, val, num_classes, settings, seed)
    purity_train, purity_val = purity(clusters_train, labels_train), purity(clusters_val, labels_val)
    gap = purity_gap(purity_train, purity_val, settings.gap)
    permuted = _permuted_purities(clusters_train, labels_train, clusters_val, labels_val, seed)
    gaps = [purity_gap(on_train, on_val, settings.gap) for on_train, on_val in permuted]
    permuted_train, permuted_val = np.mean(permuted, axis=0)
    return ModalityDiagnosis(
        purity_train=purity_train,
        purity_val=purity_val,
        gap=gap,
        gap_permuted=float(np.mean(gaps)),
        strength=strength(gap, lambda_),
        purity_permuted_train=float(permuted_train),
        purity_permuted_val=float(permuted_val),
        num_train=len(train),
        num_val=len(val),
    )


def _check_length(split: str, features: Tensor, labels: Tensor) -> None:
    if labels.ndim != 1 or len(features) != len(labels):
        raise ValueError(f"{split}: {len(features)} rows of features need as many labels, got {tuple(labels.shape)}")


def _subsample(size: int, count: int, seed: int) -> Tensor:
    """Return `count` of `size` rows in ascending order."""
    rows = np.random.default_rng([seed, 0]).choice(size, count, replace=False)
    return torch.from_numpy(np.sort(rows))


def _clusters(
    train: Tensor, val: Tensor, num_classes: int, settings: MeasureSettings, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the clusters of train and of validation, each found on its own."""
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

"""A diagnosis in words."""

from __future__ import annotations

from drcli.diagnosis.modality import ModalityDiagnosis

# A gap must exceed the floor of permuted labels by this much to mean anything: another start of K-means
# or other samples move purities by a few hundredths.
MARGIN = 0.05
# Clusters follow the classes if they close this share of the way from permuted labels to purity 1.
FOLLOWS = 0.1


def reading(diagnosis: ModalityDiagnosis) -> str:
    """Return one line that says in which learning state a modality is.

    - "over-trained": train clusters better than validation, by more than the floor of permuted labels
      explains. "Would be pulled back by a" means: re-learning would move every weight of the encoder the
      share a of its way back to the initial value (a is the strength; 0 nothing, 1 all of it).
    - "little to re-learn from": purities of both sets are about those of permuted labels.
    - "clusters better on validation": the gap is real but not over-training; the setting `gap: signed`
      leaves such a modality alone.
    - "generalises": none of these.
    """
    is_apart = diagnosis.gap > diagnosis.gap_permuted + MARGIN
    pull = f"would be pulled back by {diagnosis.strength:.2f}"
    if is_apart and diagnosis.purity_train > diagnosis.purity_val:
        return f"over-trained: {pull}"
    if not _follows_classes(diagnosis):
        return "little to re-learn from: its clusters hardly follow the classes"
    if is_apart:
        return f"clusters better on validation than on train: {pull}"
    return "generalises: train and validation cluster alike"


def _follows_classes(diagnosis: ModalityDiagnosis) -> bool:
    """Whether the clusters of train or of validation are clearly better than under permuted labels."""
    splits = (
        (diagnosis.purity_train, diagnosis.purity_permuted_train),
        (diagnosis.purity_val, diagnosis.purity_permuted_val),
    )
    return any(found - permuted > FOLLOWS * (1.0 - permuted) for found, permuted in splits)

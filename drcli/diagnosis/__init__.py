"""Diagnosing & Re-learning as pure functions: purity, gap, strength, soft re-initialisation.

Wei, Li, Feng, Hu, "Diagnosing and Re-learning for Balanced Multimodal Learning", ECCV 2024, arXiv
2407.09705. Nothing here needs the rest of drcli; in any PyTorch program::

    initial = {m: snapshot(encoder) for m, encoder in encoders.items()}  # before the first step
    ...                                                                  # after some epochs:
    found = diagnose(train, labels_train, val, labels_val,               # {m: (N, D_m)}, (N,), ...
                     num_classes=10, settings=MeasureSettings(), lambda_=3.0)
    for m, encoder in encoders.items():
        soft_reinitialise(encoder, initial[m], found[m].strength)

Names are imported at their first use: the settings alone need no torch, and scikit-learn comes with the first
clustering.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drcli.diagnosis.clustering import cluster, scale_features
    from drcli.diagnosis.modality import (
        ModalityDiagnosis,
        diagnose,
        diagnose_modality,
        purity,
        purity_gap,
        reading,
        share_difference,
        strength,
        unequal_shares,
    )
    from drcli.diagnosis.reinitialise import snapshot, soft_reinitialise
    from drcli.diagnosis.settings import DiagnosisSettings, GapSettings, MeasureSettings

_MODULES = {
    "clustering": ("cluster", "scale_features"),
    "modality": (
        "ModalityDiagnosis", "diagnose", "diagnose_modality", "purity", "purity_gap", "reading",
        "share_difference", "strength", "unequal_shares",
    ),
    "reinitialise": ("snapshot", "soft_reinitialise"),
    "settings": ("DiagnosisSettings", "GapSettings", "MeasureSettings"),
}  # fmt: skip

__all__ = [
    "DiagnosisSettings",
    "GapSettings",
    "MeasureSettings",
    "ModalityDiagnosis",
    "cluster",
    "diagnose",
    "diagnose_modality",
    "purity",
    "purity_gap",
    "reading",
    "scale_features",
    "share_difference",
    "snapshot",
    "soft_reinitialise",
    "strength",
    "unequal_shares",
]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

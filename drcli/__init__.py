"""Experiment runner for Diagnosing & Re-learning and the methods it is compared with.

    import drcli

    result = drcli.train("digits", {"training.epochs": 5}, method="all", seeds=[0])

Importing this package imports nothing heavy: torch, pydantic and scikit-learn are loaded by the modules that use
them, when a name is used first. `drcli.api` has what plug-ins and scripts need beside these functions. The types are
in `__init__.pyi`.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_MODULES = {
    "Relearner": "drcli.relearning",
    "compare": "drcli.functions",
    "diagnose": "drcli.functions",
    "evaluate": "drcli.functions",
    "evaluate_runs": "drcli.functions",
    "load": "drcli.api",
    "prepare": "drcli.preparation",
    "prepare_from": "drcli.preparation",
    "train": "drcli.functions",
}

__all__ = [
    "Relearner",
    "__version__",
    "compare",
    "diagnose",
    "evaluate",
    "evaluate_runs",
    "load",
    "prepare",
    "prepare_from",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'drcli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})

"""Experiment runner for Diagnosing & Re-learning and the methods it is compared with.

Importing this package imports nothing heavy: torch, pydantic and scikit-learn are loaded by the
modules that use them. `drcli.load` is that of `drcli.api`, which has everything else for other code, too.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drcli.relearning import Relearner

__version__ = "0.1.0"

_MODULES = {"Relearner": "drcli.relearning", "load": "drcli.api"}

__all__ = ["Relearner", "__version__", "load"]

load: Any


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'drcli' has no attribute {name!r}")

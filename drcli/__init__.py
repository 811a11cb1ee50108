"""Experiment runner for Diagnosing & Re-learning and the methods it is compared with.

Importing this package imports nothing heavy: torch, pydantic and scikit-learn are loaded by the
modules that use them. `drcli.load` is that of `drcli.api`, which has everything else for other code, too.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_FROM_API = ("load",)


def __getattr__(name: str) -> Any:
    if name not in _FROM_API:
        raise AttributeError(f"module 'drcli' has no attribute {name!r}")
    return getattr(import_module("drcli.api"), name)

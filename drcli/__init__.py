"""Experiment runner for Diagnosing & Re-learning and the methods it is compared with.

Importing this package imports nothing heavy: torch, pydantic and scikit-learn are loaded by the
modules that use them.
"""

__version__ = "0.1.0"

"""Which device a command uses, and whether it computes the same bits every time."""

from __future__ import annotations

import os

import torch

from drcli.errors import UsageError


def resolve_device(name: str) -> torch.device:
    """Return the device of "auto", "cpu" or "cuda"; auto is a GPU where there is one.

    Raises:
        UsageError: cuda is requested and there is none, or the name is unknown.
    """
    if name not in {"auto", "cpu", "cuda"}:
        raise UsageError(f"--device {name}: must be auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: no CUDA device is visible here; use --device cpu, or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def set_determinism(deterministic: bool) -> None:
    """Make torch repeat itself bit for bit on one device and thread count, or stop insisting on it."""
    if deterministic:
        # cuBLAS reads this when it is first used; without it torch refuses deterministic mode.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # The same switch as use_deterministic_algorithms, which would import torch's compiler: seconds.
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    # Filling memory that no result reads costs time and changes nothing.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic

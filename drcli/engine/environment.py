"""What the bits of a run depend on beside recipe and seed, as it is noted in the run directory."""

from __future__ import annotations

import hashlib
import inspect
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from drcli import __version__
from drcli.names import METHODS
from drcli.recipe.schema import Recipe
from drcli.runs.records import FORMAT, Environment

PACKAGES = ("torch", "numpy", "scikit-learn", "scipy")


def environment(recipe: Recipe, fingerprint: str, device: torch.device, devices: int = 1) -> Environment:
    """Return what is to be noted of this process.

    Args:
        recipe: of the run.
        fingerprint: of the data.
        device: where the run is trained.
        devices: how many processes train it together.
    """
    return Environment(
        format=FORMAT,
        drcli=__version__,
        python=sys.version.split()[0],
        packages={name: version(name) for name in PACKAGES},
        platform=platform.platform(),
        device=device.type,
        devices=devices,
        accelerator=torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        threads=torch.get_num_threads(),
        cores=os.cpu_count(),
        dataset_fingerprint=fingerprint,
        command=[*sys.argv],
        method_source=source_of(recipe),
    )


def source_of(recipe: Recipe) -> str:
    """Return a digest of the file that a run's method is written in; "" where there is none."""
    path = inspect.getsourcefile(METHODS.load(recipe.methods[recipe.method].method))
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] if path is not None else ""

"""Facts about the device: what it is, and how fast its memory and its matrix products are.

    python benchmarks/gpu/facts.py [--device auto] [--side 8192] [--json FILE]

Bandwidth counts bytes read and written. Each figure is the best of five.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.compute_only import PRODUCT, peak  # noqa: E402
from benchmarks.measuring import parser_of, polite, seconds_of, table_of, write_report  # noqa: E402
from drcli.engine.device import resolve_device  # noqa: E402

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "scipy", "pydantic")
SHARED_MEMORY = Path("/dev/shm")


def shared_memory() -> int | None:
    """Return the bytes that are free where worker processes hand over batches; None where there is no such place."""
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else None


def bandwidth(work: Callable[[], object], nbytes: int, device: torch.device) -> float:
    """Bytes per second of a copy, the best of five."""
    return nbytes / min(seconds_of(work, device) for _ in range(6))


def facts(device: torch.device, side: int) -> dict[str, Any]:
    """Return what can be said of a device."""
    rates = {
        "fp32": peak(device, torch.float32, side),
        "tf32": peak(device, torch.float32, side, tf32=True),
        "bf16": peak(device, torch.bfloat16, side),
    }
    elements = 4 * side * side
    source, target = torch.zeros(elements, device=device), torch.empty(elements, device=device)
    found: dict[str, Any] = {
        "products": rates,
        "copy": bandwidth(lambda: target.copy_(source), 2 * source.nbytes, device),
        "packages": {name: version(name) for name in PACKAGES},
        "memory_gb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
        "shared_memory_gb": (shared_memory() or 0) / 1e9,
    }
    return found | (of_gpu(device, source) if device.type == "cuda" else {})


def of_gpu(device: torch.device, like: torch.Tensor) -> dict[str, Any]:
    """Return what only a GPU has."""
    pinned = torch.zeros(like.shape, pin_memory=True)
    properties = torch.cuda.get_device_properties(device)
    return {
        "name": properties.name,
        "device_memory_gb": properties.total_memory / 1e9,
        "multiprocessors": properties.multi_processor_count,
        "capability": f"{properties.major}.{properties.minor}",
        "from_host": bandwidth(lambda: like.copy_(pinned, non_blocking=True), like.nbytes, device),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver": driver(),
    }


def driver() -> str | None:
    """Return the version of the GPU's driver, where the system tells it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return said.splitlines()[0].strip() if said.strip() else None


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("--side", type=int, help="side of the matrices")
    asked = parser.parse_args(argv)
    with polite():
        device = resolve_device(asked.device)
        found = facts(device, asked.side or PRODUCT[device.type])
    rows = [(name, str(value)) for name, value in found.items()]
    table_of(f"facts about {found.get('name', device.type)}", ("", "found"), rows)
    write_report(asked.json, device, found)


if __name__ == "__main__":
    main()

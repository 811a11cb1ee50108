"""The interpreter that the steps run in: wheels for what it lacks, and a digest of the code that is measured.

Nothing but the standard library is imported here: it runs before anything else is there.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MEASURED = ("drcli", "data_prep", "benchmarks", "recipes", "tests")
"""Folders whose files make up the code that is measured."""

PACKAGES = Path(__file__).with_name("packages.txt")
TORCH = ("torch", "torchvision", "torchaudio", "numpy")


def source() -> str:
    """Return a digest of the code that is measured: results of other code are not resumed from."""
    found = hashlib.sha256()
    for path in sorted(path for folder in MEASURED for path in (ROOT / folder).rglob("*.*")):
        if path.suffix in {".py", ".yaml"}:
            found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def commit() -> str | None:
    """Return the commit of the checkout, with "+" where files differ from it; None outside a repository."""
    said = [_git("rev-parse", "--short=12", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")]
    return None if said[0] is None else said[0] + ("+" if said[1] else "")


def _git(*arguments: str) -> str | None:
    try:
        found = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def packages() -> list[str]:
    """Return the names in packages.txt."""
    lines = PACKAGES.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def is_there(name: str) -> bool:
    """Whether this interpreter has a package."""
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def missing(names: Iterable[str]) -> list[str]:
    """Return which packages this interpreter lacks."""
    return [name for name in names if not is_there(name)]


def fits(wheel: Path) -> bool:
    """Whether a wheel is for this version of Python, by its name; of the platform the user has to think."""
    python, abi = wheel.stem.split("-")[-3:-1]
    here = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return any(tag in {"py3", here} or (abi == "abi3" and tag.startswith("cp3")) for tag in python.split("."))


def unpack(wheels: Path, site: Path) -> list[str]:
    """Unpack those wheels of a folder that this interpreter lacks and can use, and return the names of them all.

    A wheel is a zip archive of what is to be imported; pip is not needed. Packages that are there already are used.

    Args:
        wheels: folder of .whl files; one that does not exist holds none.
        site: folder to unpack into.
    """
    found = []
    for wheel in sorted(wheels.glob("*.whl")):
        name = normalised(wheel.name.split("-")[0])
        if not fits(wheel) or is_there(name):
            continue
        mark = site / f".{wheel.name}"
        if not mark.exists():
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
            mark.touch()
        found.append(name)
    return found


def normalised(name: str) -> str:
    """Return a package's name as registries write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def environment(site: Path) -> dict[str, str]:
    """Return the environment variables of the steps: this checkout, then what was unpacked."""
    own = os.environ.get("PYTHONPATH", "")
    path = [str(ROOT), *([own] if own else []), str(site)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}


def complaints(unpacked: Iterable[str]) -> Iterator[str]:
    """Yield what the interpreter lacks, with the remedy, a line each."""
    without = missing(TORCH)
    if without:
        yield f"{sys.executable}: has no {', '.join(without)}; name another interpreter with PYTHON=..."
    lacking = [name for name in missing(packages()) if name not in set(unpacked)]
    if lacking:
        yield (
            f"{sys.executable}: has no {', '.join(lacking)}, and the folder of wheels none of them that fits; where "
            f'there is a network: make gpu-wheels GPU_PACKAGES="{" ".join(lacking)}"'
        )

"""An interpreter that has torch, torchvision, torchaudio and numpy with what these bring, and wheels of the rest."""

from __future__ import annotations

import os
import re
import sys
import venv
import zipfile
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

OUTSIDE = {"..", "__pycache__"}


def interpreter(folder: Path) -> Path:
    """This version of Python in a new virtual environment, without any packages."""
    venv.create(folder, symlinks=True, with_pip=False)
    return folder / "bin" / "python"


def brought(names: Iterable[str]) -> list[Distribution]:
    """Packages, and all that they need and is here."""
    found: dict[str, Distribution] = {}
    pending = list(names)
    while pending:
        name = re.sub(r"[-_.]+", "-", pending.pop()).lower()
        try:
            own = found.setdefault(name, distribution(name))
        except PackageNotFoundError:
            continue
        needs = [line for line in own.requires or [] if "extra ==" not in line]
        pending += [need for line in needs if (need := re.split(r"[^\w.-]", line, maxsplit=1)[0]) not in found]
    return list(found.values())


def link(packages: Iterable[Distribution], folder: Path) -> None:
    """Make packages importable from a folder without copying them."""
    folder.mkdir()
    for package in packages:
        for top in {path.parts[0] for path in package.files or []} - OUTSIDE:
            there = Path(str(package.locate_file(top)))
            if there.exists() and not (folder / top).exists():
                (folder / top).symlink_to(there)


def wheel(package: Distribution, folder: Path) -> None:
    """Pack an installed package as a wheel of this version of Python."""
    name = package.metadata["Name"].replace("-", "_")
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    with zipfile.ZipFile(folder / f"{name}-{package.version}-{tag}-{tag}-any.whl", "w") as archive:
        for path in package.files or []:
            there = Path(str(package.locate_file(path)))
            if not OUTSIDE.intersection(path.parts) and there.is_file():
                archive.write(there, str(path))


def variables(packages: Path) -> dict[str, str]:
    """Environment variables of an interpreter that has one folder of packages, and one thread."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    return kept | {"PYTHONPATH": str(packages), "PYTHONNOUSERSITE": "1", "OMP_NUM_THREADS": "1"}

"""The wheel, installed into another environment, trains from another folder."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


def call(*command: str | Path, cwd: Path) -> str:
    """Run a command that must succeed, outside this checkout, and return its standard output."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of an environment that holds the wheel and sees this one's other packages.

    Where hatchling is not installed, pip fetches it for the build.
    """
    folder = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", folder, cwd=folder)
    python = folder / "bin" / "python"
    inside = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(call(python, "-c", inside, cwd=folder).strip())
    # A folder named in a .pth file is searched last, and its own .pth files (an editable drcli) are not read.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    here = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    call(python, "-m", "pip", "wheel", "--no-deps", *here, "--wheel-dir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("drcli-*.whl")
    call(python, "-m", "pip", "install", "--no-deps", "--no-index", "--ignore-installed", wheel, cwd=folder)
    found = call(python, "-c", "import drcli, data_prep; print(drcli.__file__, data_prep.__file__)", cwd=folder)
    assert all(path.startswith(str(packages)) for path in found.split())
    return folder / "bin"


def test_the_shipped_recipes_are_found(scripts: Path, tmp_path: Path) -> None:
    listed = call(scripts / "drcli", "ls", "recipes", cwd=tmp_path)
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        assert recipe.stem in listed
    assert "epochs: 3" in call(scripts / "drcli", "show", "digits", "training.epochs=3", cwd=tmp_path)


def test_digits_train_from_another_folder(scripts: Path, tmp_path: Path) -> None:
    call(scripts / "drcli", "prepare", "digits", "--limit", "150", cwd=tmp_path)
    small = ("training.epochs=2", "modalities.audio.width=4", "modalities.visual.width=4")
    found = json.loads(
        call(scripts / "drcli", "train", "digits", *small, "--method", "joint", "--seeds", "0", "--json", cwd=tmp_path)
    )
    (run,) = found["runs"]
    assert (run["method"], run["epochs"], set(run["unimodal"])) == ("joint", 2, {"audio", "visual"})
    assert (tmp_path / run["checkpoint"]).is_file()

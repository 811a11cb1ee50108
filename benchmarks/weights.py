"""SHA-256 over the final weights of every method of a recipe: a refactoring must leave this list as it was.

    python benchmarks/weights.py > before.txt      # then change the code
    python benchmarks/weights.py | diff before.txt -

One thread, seed 0, three epochs, on the CPU. The list holds for one machine and one version of torch.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

RECIPES = ("digits", "digits_mmtm")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def main() -> None:
    """Train, and print one line per run: digest, recipe, method, seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    for recipe in arguments.recipes:
        with tempfile.TemporaryDirectory() as out:
            train(recipe, Path(out), arguments.epochs)
            for line in digests(Path(out)):
                print(line, flush=True)


def train(recipe: str, out: Path, epochs: int) -> None:
    """Train every method of a recipe with seed 0 on one thread."""
    command = [sys.executable, "-m", "drcli", "train", recipe, "--method", "all", "--seeds", "0", "--device", "cpu"]
    command += ["--out", str(out), f"training.epochs={epochs}"]
    subprocess.run(command, env={**os.environ, **ONE_THREAD}, stdout=subprocess.DEVNULL, check=True)


def digests(out: Path) -> Iterator[str]:
    """Yield the digest and the folder of each run below a folder, in the order of their names."""
    for path in sorted(out.rglob("last.pt")):
        state = torch.load(path, map_location="cpu", weights_only=True)
        weights = {f"{part}/{name}": tensor for part in ("model", "extras") for name, tensor in state[part].items()}
        yield f"{digest(weights)}  {path.parent.relative_to(out)}"


def digest(weights: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over the names and the bytes of tensors, in the order of the names."""
    found = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        data = tensor.detach().cpu().contiguous().numpy().tobytes()
        found.update(name.encode() + b"\0" + str(tensor.dtype).encode() + data)
    return found.hexdigest()


if __name__ == "__main__":
    main()

"""The full experiment on CREMA-D with D&R, on made-up arrays of the true size.

    python benchmarks/cremad_size.py [--device auto] [--clips 5954] [--epochs 90] [--audio stft]
        [--scratch DIR] [--json FILE] [KEY=VALUE ...]

5,954 / 744 / 744 clips of six 256 x 340 frames in 8 bits and a float16 spectrogram (stft: 257 x 188;
fbank: 128 x 1,024), as `drcli prepare cremad` stores them; the recipe `cremad` with diagnose_relearn: two
frames at 224 x 224, ResNet-18 twice, 90 epochs, 3 diagnoses. One run, cold, as a user has it: start,
compilation where the recipe asks for it (training.compile=default), test and probes are in the total.
Making and opening the arrays is not, and is shown separately. With `--epochs` the run is shorter, with one event
if there are 3 epochs or more, and the whole run is projected from it; fewer clips are never projected.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.datasets import add_arrays, made_or_kept, root_of  # noqa: E402
from benchmarks.generated import CREMAD_AUDIO, CREMAD_CLIPS, cremad_like  # noqa: E402
from benchmarks.measuring import parser_of, peak_memory, polite, write_report  # noqa: E402
from benchmarks.profiling import profile, schedule_of, shortened, show  # noqa: E402
from drcli.engine.assemble import prepare_settings  # noqa: E402
from drcli.engine.device import resolve_device  # noqa: E402
from drcli.recipe.load import load_recipe  # noqa: E402
from drcli.recipe.shipped import find_recipe  # noqa: E402


def measure(asked: argparse.Namespace, device: torch.device, folder: Path) -> dict[str, Any]:
    """Make the arrays, do the run, print the table and return the numbers."""
    root = root_of(asked, folder, asked.audio)
    own = [f"dataset.root={root}", f"dataset.prepare.audio={asked.audio}"]
    recipe = load_recipe(find_recipe("cremad"), [*own, *asked.overrides])
    made = cremad_like(asked.clips, asked.audio, prepare_settings(recipe))
    print(f"making {made.nbytes / 1e9:.2f} GB of arrays in {root}, unless they are there", file=sys.stderr)
    started = time.perf_counter()
    dataset = made_or_kept(root, made, folder)
    making = time.perf_counter() - started
    found = profile(shortened(recipe, asked.epochs), dataset, device, folder / "run")
    whole, memory = schedule_of(recipe), peak_memory(device)
    clips = " / ".join(f"{rows:,}" for rows in made.rows.values())
    show(found, whole, f"CREMA-D's size: {clips} clips, {asked.audio}, on {device.type}")
    on_device = "" if memory["device"] is None else f", {memory['device']:.0f} MiB on the device"
    print(f"peak memory: {memory['process']:.0f} MiB with the memory maps{on_device}; arrays made in {making:.0f} s")
    return {
        "clips": dict(made.rows),
        "bytes": made.nbytes,
        "audio": asked.audio,
        "overrides": asked.overrides,
        "making_seconds": making,
        "projected": found.schedule != whole,
        "seconds": found.seconds_of(whole),
        "diagnosis_share": found.diagnosis_share(whole),
        "probe_share": found.probe_share(whole),
        "peak_mib": memory,
        "run": found.to_dict(),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("--clips", type=int, default=CREMAD_CLIPS["train"], help="training clips")
    parser.add_argument("--epochs", type=int, help="shorten the run to so many")
    parser.add_argument("--audio", choices=tuple(CREMAD_AUDIO), default="stft")
    parser.add_argument("--scratch", type=Path, help="folder for the arrays and the run")
    add_arrays(parser)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="fields of the recipe")
    asked = parser.parse_intermixed_args(argv)
    with ExitStack() as stack:
        stack.enter_context(polite())
        device = resolve_device(asked.device)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=asked.scratch)))
        found = measure(asked, device, folder)
    write_report(asked.json, device, found)


if __name__ == "__main__":
    main()

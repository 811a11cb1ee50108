"""What share of a run the diagnosis with re-learning takes, and the linear probes.

    python benchmarks/diagnosis.py [--recipe digits] [--epochs N] [--repeats 3] [--device auto] [--json FILE]
        [KEY=VALUE ...]

Trains the recipe with `diagnose_relearn` as `drcli train` does, and notes where the time goes. With
`--epochs` the run is shorter and has one event, after the last epoch but one; the whole run is projected
from it, and says so. The first run warms up and is not counted; the repeat with the median time is shown.
Its epochs still differ from later ones where the device's clock or memory have to settle.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median_low

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402

from benchmarks.measuring import parser_of, polite, write_report  # noqa: E402
from benchmarks.profiling import Profile, profile, schedule_of, shortened, show  # noqa: E402
from drcli.commands.train import open_or_prepare  # noqa: E402
from drcli.engine.device import resolve_device  # noqa: E402
from drcli.recipe.load import load_recipe  # noqa: E402
from drcli.recipe.shipped import find_recipe  # noqa: E402

WARMUP_EPOCHS = 3


def middle(found: Sequence[Profile]) -> Profile:
    """The run with the median time."""
    total = median_low(one.total for one in found)
    return next(one for one in found if one.total == total)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--epochs", type=int, help="epochs of a shortened run; with 3 or more it has one event")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="fields of the recipe")
    asked = parser.parse_intermixed_args(argv)
    with polite():
        device = resolve_device(asked.device)
        recipe = load_recipe(find_recipe(asked.recipe), asked.overrides)
        dataset = open_or_prepare(recipe, Console(stderr=True))
        found = []
        for repeat in range(asked.repeats + 1):
            run = shortened(recipe, asked.epochs if repeat else WARMUP_EPOCHS)
            with tempfile.TemporaryDirectory() as folder:
                found.append(profile(run, dataset, device, Path(folder)))
            print(f"run {repeat} of {asked.repeats}: {found[-1].total:.2f} s", file=sys.stderr)
    chosen, whole = middle(found[1:]), schedule_of(recipe)
    show(chosen, whole, f"{asked.recipe}: a run of D&R on {device.type}, {torch.get_num_threads()} threads")
    report = {
        "recipe": asked.recipe,
        "overrides": asked.overrides,
        "whole": {"epochs": whole.epochs, "events": whole.events, "seconds": chosen.seconds_of(whole)},
        "diagnosis_share": chosen.diagnosis_share(whole),
        "probe_share": chosen.probe_share(whole),
        "runs": [one.to_dict() for one in found[1:]],
    }
    write_report(asked.json, device, report)


if __name__ == "__main__":
    main()

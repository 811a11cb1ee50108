"""What each method costs beside joint training: seconds of an epoch and passes over the data.

    python benchmarks/methods.py [--recipe digits] [--epochs 20] [--repeats 1] [--json FILE]

Trains every label of a recipe for some epochs in one process, labels taking turns where repeats are
requested. Seconds are those of a whole epoch, evaluation and diagnosis included, and the median of the
repeats is taken: seconds of the processor on a CPU, where other programs do not count, and of the clock on
a GPU. Passes are rows that went through an encoder, divided by rows times modalities, those with gradients
and those without. Both are given relative to joint training. A short run has the share of a whole one's work:
epochs at which a method begins or ends something are moved in proportion and re-learning is done fewer times,
while periods stay as they are. Choose a number of epochs that holds them whole times.
What a method needs beforehand (unimodal runs) is not in its row: a unimodal run costs what its row says.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias, TypeVar

import torch
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.ours import with_epochs  # noqa: E402
from drcli.commands.train import open_or_prepare  # noqa: E402
from drcli.data.prepared import PreparedDataset  # noqa: E402
from drcli.engine.assemble import Assembly, assemble  # noqa: E402
from drcli.engine.device import resolve_device, set_determinism  # noqa: E402
from drcli.engine.trainer import Trainer  # noqa: E402
from drcli.methods.aug import AUG  # noqa: E402
from drcli.methods.base import Method  # noqa: E402
from drcli.models.backbone import Backbone  # noqa: E402
from drcli.models.multimodal import Teacher  # noqa: E402
from drcli.names import FUSIONS, METHODS, TEACHERS  # noqa: E402
from drcli.recipe.load import load_recipe  # noqa: E402
from drcli.recipe.schema import FusionBlock, Recipe  # noqa: E402
from drcli.recipe.shipped import find_recipe  # noqa: E402
from drcli.runs.planned import PlannedRun  # noqa: E402
from drcli.watch.events import Listener  # noqa: E402

SEAMS = (
    "build", "setup", "stage", "on_epoch_start", "on_epoch_end", "selections", "training_step", "forward", "losses",
    "backward", "modulate", "predict",
)  # fmt: skip
IN_PROPORTION = ("starts", "ends", "warmup", "contrast_from", "times")
"""Settings of methods, and of re-learning, that are moved with the length of a run."""

Settings = TypeVar("Settings", bound=BaseModel)
Run: TypeAlias = tuple[str, str, tuple[str, ...]]
"""Name, label and modalities of what is measured."""


@dataclass
class Passes:
    """Rows that went through encoders, with gradients and without."""

    trained: int = 0
    looked: int = 0


@dataclass(frozen=True)
class Cost:
    """What a run cost.

    Attributes:
        seconds: of an epoch.
        trained: passes over the training rows with gradients, per epoch.
        looked: passes without.
    """

    seconds: float
    trained: float
    looked: float


@contextmanager
def counted(assembly: Assembly) -> Iterator[Passes]:
    """Count the rows that enter the encoders while the body runs."""
    passes = Passes()
    kinds = {type(encoder) for encoder in assembly.model.encoders.values()}
    originals = {kind: kind.begin for kind in kinds if issubclass(kind, Backbone)}

    def counting(original: Any) -> Any:
        def begin(self: Any, x: Any, lengths: Any = None) -> Any:
            if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self.parameters()):
                passes.trained += len(x)
            else:
                passes.looked += len(x)
            return original(self, x, lengths)

        return begin

    for kind, original in originals.items():
        kind.begin = counting(original)  # type: ignore[method-assign]
    try:
        yield passes
    finally:
        for kind, original in originals.items():
            kind.begin = original  # type: ignore[method-assign]


def shortened(recipe: Recipe, label: str, epochs: int) -> Recipe:
    """The recipe of one run of a label, over few epochs that are like the average epoch of a whole run."""
    run = recipe.for_run(label, recipe.seeds[0])
    block = run.methods[label]
    settings = in_proportion(block.settings, run.training.epochs, epochs)
    relearn = block.relearn and in_proportion(block.relearn, run.training.epochs, epochs)
    return with_epochs(replace(run, methods={label: replace(block, settings=settings, relearn=relearn)}), epochs)


def in_proportion(settings: Settings, whole: int, epochs: int) -> Settings:
    """Settings for `whole` epochs, as they are for fewer; the period of `aug`, a tenth of the run, stays as long."""
    changes = {
        name: round(getattr(settings, name) * epochs / whole) for name in IN_PROPORTION if hasattr(settings, name)
    }
    if isinstance(settings, AUG.Settings):
        changes["every"] = settings.period(whole)
    return settings.model_copy(update=changes)


def cost(recipe: Recipe, modalities: tuple[str, ...], dataset: PreparedDataset, device: torch.device) -> Cost:
    """Train a run in a folder that is thrown away."""
    assembly = assemble(recipe, modalities, dataset, device)
    needed = TEACHERS in type(assembly.method).requires
    teachers = {m: teacher(recipe, m, dataset, device) for m in modalities} if needed else {}
    with tempfile.TemporaryDirectory() as folder, counted(assembly) as passes:
        trainer = Trainer(PlannedRun(recipe, modalities, Path(folder)), assembly, Listener(), teachers)
        clock = time.perf_counter if device.type == "cuda" else time.process_time
        started = clock()
        trainer.train()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = clock() - started
    epochs = recipe.training.epochs if assembly.method.trains else 1
    rows = len(assembly.batches("train")) * len(modalities) * epochs
    return Cost(seconds / epochs, passes.trained / rows, passes.looked / rows)


def teacher(recipe: Recipe, modality: str, dataset: PreparedDataset, device: torch.device) -> Teacher:
    """An encoder that was not trained: what it costs to start from it does not depend on what it knows."""
    concat = FusionBlock("concat", FUSIONS.load("concat").Settings())
    return Teacher.of(assemble(replace(recipe, fusion=concat), (modality,), dataset, device).model)


def runs_of(recipe: Recipe, labels: Sequence[str]) -> list[Run]:
    """Return what is measured."""
    runs: list[Run] = []
    for label in labels:
        alone = METHODS.load(recipe.methods[label].method).per_modality
        if alone:
            runs += [(f"{label}:{m}", label, (m,)) for m in recipe.modalities]
        else:
            runs.append((label, label, tuple(recipe.modalities)))
    return runs


def seams(method: type[Method]) -> list[str]:
    """Return what a method overrides of joint training."""
    return [name for name in SEAMS if getattr(method, name) is not getattr(Method, name)]


def with_base_again(runs: Sequence[Run]) -> list[Run]:
    """The runs, with the first one, which all others are divided by, again after every tenth."""
    return [run for start in range(0, len(runs), 10) for run in (runs[0], *runs[max(start, 1) : start + 10])]


def measure(recipe: Recipe, epochs: int, repeats: int, device: torch.device) -> dict[str, dict[str, Any]]:
    """Return the costs by name; joint training is measured first, and again after every tenth run."""
    import sklearn.cluster  # noqa: F401 - the diagnosis imports it, which is paid once per process

    dataset = open_or_prepare(recipe, Console(stderr=True))
    set_determinism(recipe.training.deterministic)
    joint = [label for label, block in recipe.methods.items() if block.method == "joint"][:1]
    runs = runs_of(recipe, [*joint, *(label for label in recipe.methods if label not in joint)])
    costs: dict[str, list[Cost]] = {name: [] for name, _, _ in runs}
    for turn in range(repeats + 1):  # the first turn warms up
        for name, label, modalities in with_base_again(runs) if turn else runs:
            found = cost(shortened(recipe, label, epochs if turn else 1), modalities, dataset, device)
            if turn:
                costs[name].append(found)
                print(f"{name}: {found.seconds:.2f} s per epoch", file=sys.stderr)
    base = median(found.seconds for found in costs[runs[0][0]])
    return {
        name: {
            "method": recipe.methods[label].method,
            "seams": seams(METHODS.load(recipe.methods[label].method)),
            "seconds_per_epoch": median(found.seconds for found in costs[name]),
            "relative": median(found.seconds for found in costs[name]) / base,
            "passes_trained": costs[name][0].trained,
            "passes_looked": costs[name][0].looked,
        }
        for name, label, _ in runs
    }


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    asked = parser.parse_args()
    recipe = load_recipe(find_recipe(asked.recipe), asked.overrides)
    found = measure(recipe, asked.epochs, asked.repeats, resolve_device(asked.device))
    table = Table(title=f"{asked.recipe}: an epoch, {torch.get_num_threads()} threads", title_justify="left")
    for name in ("label", "seams", "s / epoch", "of joint", "passes with gradient", "passes without"):
        table.add_column(name)
    for name, row in found.items():
        numbers = [f"{row[key]:.2f}" for key in ("seconds_per_epoch", "relative", "passes_trained", "passes_looked")]
        table.add_row(name, ", ".join(row["seams"]) or "-", *numbers)
    Console(width=160).print(table)
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

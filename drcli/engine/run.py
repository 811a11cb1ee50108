"""One run from its plan to its test scores, whatever was done of it before."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from drcli import checkpoint
from drcli.data.prepared import PreparedDataset
from drcli.engine.assemble import Assembly, assemble, check_identity, load_weights, restore
from drcli.engine.compiling import compile_forward
from drcli.engine.device import set_determinism
from drcli.engine.evaluate import evaluate_split
from drcli.engine.listener import Listener
from drcli.engine.outputs import SplitOutputs
from drcli.engine.plan import PlannedRun
from drcli.engine.rundir import RunDirectory
from drcli.engine.trainer import Trainer
from drcli.errors import PeerError, RunError
from drcli.files import locked, make_folder, write_json
from drcli.models.pretrained import digest, load_pretrained
from drcli.models.teacher import Teacher
from drcli.world import ALONE, World

CHANGED = "the file of its method has changed since the run was begun; --fresh trains it as it is now"
LESS_MEMORY = (
    "lower training.batch_size, or set training.accumulate=2, training.eval_batch_size, or training.data=stream"
)


def execute(
    run: PlannedRun,
    dataset: PreparedDataset,
    *,
    device: torch.device,
    listener: Listener,
    fresh: bool = False,
    world: World = ALONE,
) -> dict[str, Any]:
    """Train a run, or what is left of it, and return its summary with test scores.

    A finished run is not trained again; an unfinished one goes on where it was. Where several processes
    train it together, all of them call this, the main one writes the files, and the others read them.

    Args:
        run: what to train, and where.
        dataset: the prepared dataset.
        device: where to train.
        listener: who is told.
        fresh: start over, whatever is there.
        world: the processes that train it together.

    Raises:
        UsageError: the run directory cannot be written.
        RecipeError: another recipe was trained there.
        RunError: another process is training there, or the run failed.
        PeerError: this process failed, and the others wait for it.
    """
    directory = RunDirectory(run.folder)

    def claim() -> dict[str, Any] | None:
        make_folder(run.folder, remedy="choose another folder with --out")
        held.enter_context(locked(run.folder))
        directory.sweep()
        if fresh:
            directory.clear()
        directory.claim(run.recipe, dataset.info.fingerprint, device, devices=world.size)
        return directory.read_summary()

    with ExitStack() as held:
        summary = world.on_main(claim)
        stored = summary is not None
        if directory.source_changed(run.recipe):
            listener.note(f"{run.folder}: {CHANGED}")
        if summary is None:
            with _enough_memory(run, device, world):
                summary = _train(run, dataset, directory, device, listener, world)
        summary = {**summary, "run_dir": str(run.folder), "checkpoint": str(directory.checkpoint)}
        listener.run_finished(run, summary, stored=stored)
        return summary


@contextmanager
def _enough_memory(run: PlannedRun, device: torch.device, world: World) -> Iterator[None]:
    """End with the remedy where a GPU's memory does not do, for data, steps or evaluation."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        kind = RunError if world.size == 1 else PeerError
        raise kind(f"{run.folder}: out of memory on {device}; {LESS_MEMORY}") from error


def _train(
    run: PlannedRun,
    dataset: PreparedDataset,
    directory: RunDirectory,
    device: torch.device,
    listener: Listener,
    world: World,
) -> dict[str, Any]:
    set_determinism(run.recipe.training.deterministic)
    assembly = assemble(run.recipe, run.modalities, dataset, device, world)
    wanted = {m: run.recipe.modalities[m].input.weights for m in run.modalities}
    digests = load_pretrained(assembly.model, {m: weights for m, weights in wanted.items() if weights is not None})
    teachers = {m: load_teacher(folder, dataset) for m, folder in run.teachers.items()}
    digests |= {f"teacher {m}": digest(teacher.encoder) for m, teacher in teachers.items()}
    world.on_main(lambda: directory.claim_weights(digests))
    world.broadcast([*assembly.model.state_dict().values(), *assembly.extras.state_dict().values()])
    trainer = Trainer(assembly, directory, listener, teachers)
    trainer.resume()
    train = trainer.ctx.train
    listener.run_started(run, first_epoch=trainer.next_epoch, rows=len(train), data=train.rows.describe())
    for warning in [*assembly.method.warnings(trainer.ctx), compile_forward(trainer.ctx, assembly.method)]:
        if warning is not None:
            listener.note(f"{run.name}: {warning}")
    try:
        trainer.train()
    except RunError as error:
        raise RunError(f"{run.folder}: {error}\n  {_left(directory)}") from error
    return _finish(run, assembly, directory, trainer.seconds)


def _left(directory: RunDirectory) -> str:
    """Say what a run that failed has left behind."""
    if not directory.checkpoint.exists():
        return "no epoch was finished, so there is no checkpoint"
    return f"{directory.checkpoint} holds epoch {checkpoint.load(directory.checkpoint)['epoch']}"


def load_teacher(folder: Path, dataset: PreparedDataset) -> Teacher:
    """Return what a finished unimodal run has learnt.

    Raises:
        RunError: the run is not finished.
    """
    directory = RunDirectory(folder)
    if directory.read_summary() is None:
        raise RunError(f"{folder}: this unimodal run is needed first, and is not finished; train it, or mend it")
    restored = restore(directory.checkpoint, torch.device("cpu"), root=dataset.root)
    return Teacher.of(restored.assembly.model)


def _finish(run: PlannedRun, assembly: Assembly, directory: RunDirectory, seconds: float) -> dict[str, Any]:
    """Touch the test split: once, with the selected epoch."""
    started = time.perf_counter()
    state = checkpoint.load(directory.checkpoint)
    check_identity(assembly, state, directory.checkpoint)
    load_weights(assembly, state, directory.checkpoint)
    outputs, probes = evaluate_split(assembly, "test")
    epoch, seconds = int(state["epoch"]), seconds + time.perf_counter() - started
    return assembly.world.on_main(
        lambda: _conclude(run, assembly, directory, outputs, probes, epoch=epoch, seconds=seconds)
    )


def _conclude(
    run: PlannedRun,
    assembly: Assembly,
    directory: RunDirectory,
    outputs: SplitOutputs,
    probes: Mapping[str, Mapping[str, float]],
    *,
    epoch: int,
    seconds: float,
) -> dict[str, Any]:
    """Write the test outputs and the summary of a run, and return the latter."""
    directory.write_outputs(outputs, assembly.dataset.info.classes)
    training = run.recipe.training
    summary = {
        "method": run.recipe.method,
        **({"modality": run.modality} if run.modality is not None else {}),
        "seed": run.seed,
        "selection": run.recipe.selection,
        "monitor": run.recipe.monitor,
        "selected_epoch": epoch,
        "epochs": training.epochs if assembly.method.trains else 0,
        "seconds": seconds,
        "events": directory.count_events("relearn"),
        **({"teacher_seconds": _seconds_of(run.teachers.values())} if run.teachers else {}),
        "test": outputs.scores().to_dict(),
        "unimodal": probes,
    }
    write_json(directory.summary, summary)
    return summary


def _seconds_of(folders: Iterable[Path]) -> float:
    """Return how long finished runs took together."""
    summaries = [RunDirectory(folder).read_summary() for folder in folders]
    return sum(float(summary["seconds"]) for summary in summaries if summary is not None)

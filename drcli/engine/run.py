"""One run from its plan to its test scores, resumed where it was stopped before."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from drcli import checkpoint
from drcli.amounts import counted
from drcli.data.prepared import PreparedDataset
from drcli.engine.assemble import Assembly, assemble, check_identity, load_weights, restore
from drcli.engine.cores import going_on, using
from drcli.engine.device import PeakMemory, compile_forward, environment, set_determinism, source_of
from drcli.engine.evaluate import Evaluation, evaluate_split, num_parameters
from drcli.engine.trainer import Trainer
from drcli.errors import DrcliError, OutOfMemoryError, PeerError, RunError
from drcli.files import locked, make_folder
from drcli.metrics import Scores as Measured
from drcli.metrics import ValueScores as MeasuredValues
from drcli.models.multimodal import Teacher
from drcli.models.weight_files import digest
from drcli.models.weights import load_pretrained
from drcli.reading import is_memory_shortage, one_line
from drcli.recipe.schema import Recipe
from drcli.runs.directory import RunDirectory
from drcli.runs.longer import is_longer
from drcli.runs.measures import Cost
from drcli.runs.planned import PlannedRun
from drcli.runs.records import FORMAT, Environment, Failure, Summary
from drcli.runs.scores import AnyScores, Scores, ValueScores
from drcli.watch.events import Listener, Note, RunFinished, RunStarted
from drcli.world import ALONE, World

CHANGED = "the file of its method has changed since the run was begun; --fresh trains it as it is now"
OTHER_BITS = "its results can differ from those of an unbroken run, since sums round differently"
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
    threads: int | None = None,
) -> Summary:
    """Train a run, or what is left of it, and return its summary with test scores.

    A finished run is not trained again; an unfinished one is resumed. Where several processes
    train it together, all of them call this, the main one writes the files, and the others read them.
    A run to which the test split is closed (`run.opens_test`) ends with its scores on validation alone.

    Args:
        run: what to train, and where.
        dataset: the prepared dataset.
        device: where to train.
        listener: receives its events.
        fresh: start over, whatever the folder holds.
        world: the processes that train it together.
        threads: of torch, as the user asks for them, which then has so many; None: on a CPU those that the run was
            begun with, since bits depend on them, else those that torch has.

    Raises:
        UsageError: the run directory cannot be written.
        RecipeError: another recipe was trained there.
        RunError: another process is training there, or the run failed.
        PeerError: this process failed, and the others wait for it.
    """
    directory = RunDirectory(run.folder)

    def claim() -> Summary | None:
        begun = not fresh and directory.check(run.recipe, dataset.info.fingerprint)
        if begun and directory.is_finished(run.recipe):
            summary = directory.summary()
            if summary is not None and _is_over(run, summary):  # shown even where nothing can be written
                return summary
        make_folder(run.folder, remedy="choose another folder with --out")
        directory.lock = held.enter_context(locked(run.folder))
        directory.sweep()
        if fresh:
            directory.clear()
        lengthen(directory, run.recipe)
        noted = environment(run.recipe, dataset.info.fingerprint, device, world.size)
        directory.claim(run.recipe, noted.model_copy(update={"labels": list(run.labels)}))
        summary = directory.summary()
        return summary if summary is not None and _is_over(run, summary) else None

    with ExitStack() as held:
        summary = world.on_main(claim)
        stored = summary is not None
        if directory.environment().method_source not in {"", source_of(run.recipe)}:
            listener.on(Note(f"{run.folder}: {CHANGED}"))
        if summary is None:
            held.enter_context(_same_threads(run, directory.environment(), device, threads, listener))
            with _noted_failure(run, directory, world), _enough_memory(run, device, world):
                summary = _train(run, dataset, directory, device, listener, world)
        listener.on(RunFinished(run, summary, stored))
        return summary


@contextmanager
def _same_threads(
    run: PlannedRun, begun: Environment, device: torch.device, asked: int | None, listener: Listener
) -> Iterator[None]:
    """Go on with the number of threads that the run was begun with on a CPU; say so where torch has another."""
    before = begun.threads if device.type == begun.device == "cpu" else None
    now, here = going_on(before, asked), torch.get_num_threads()
    if before is not None and now != before:
        listener.on(Note(f"{run.folder}: was begun with {counted(before, 'thread')}, goes on with {now}; {OTHER_BITS}"))
    elif now != here:
        listener.on(Note(f"{run.folder}: goes on with {counted(now, 'thread')}, as it was begun"))
    with using(now):
        yield


def _is_over(run: PlannedRun, summary: Summary) -> bool:
    return summary.tested is not None or not run.opens_test


def lengthen(directory: RunDirectory, recipe: Recipe) -> None:
    """Let a run that was begun with fewer epochs go on to those of a recipe, if that is all that differs.

    The result goes last but one, the recipe last: killed before, this is done again.
    """
    if not is_longer(directory.changes(recipe)):
        return
    for path in (directory.checkpoint, directory.last):
        checkpoint.save(path, {**checkpoint.load(path), "recipe": recipe.to_dict()})
    directory.reopen(recipe)


@contextmanager
def _enough_memory(run: PlannedRun, device: torch.device, world: World) -> Iterator[None]:
    """End with the remedy where a GPU's memory is not enough, for data, steps or evaluation."""
    try:
        yield
    except Exception as error:
        if not (isinstance(error, torch.OutOfMemoryError) or is_memory_shortage(error)):
            raise
        kind = OutOfMemoryError if world.size == 1 else PeerError
        raise kind(f"{run.folder}: out of memory on {device}; {LESS_MEMORY}") from error


@contextmanager
def _noted_failure(run: PlannedRun, directory: RunDirectory, world: World) -> Iterator[None]:
    """Keep in the run directory what ends the run; a bug becomes a message that says where it is."""
    try:
        yield
    except DrcliError as error:
        if world.is_main:
            _keep_failure(directory, failure_of(run, error))
        raise
    except (Exception, SystemExit) as error:
        if world.size > 1:  # the others wait for this process: it must end
            raise
        failure = failure_of(run, error)
        _keep_failure(directory, failure)
        raise RunError(failure.message) from error


def _keep_failure(directory: RunDirectory, failure: Failure) -> None:
    with suppress(RunError):  # a full disk may be what ends the run
        directory.write_failure(failure)


def failure_of(run: PlannedRun, error: BaseException) -> Failure:
    """Return what ended a run as a record."""
    known: dict[str, Any] = {
        "recipe": run.recipe.name,
        "name": run.name,
        "seed": run.seed,
        "kind": type(error).__name__,
    }
    if isinstance(error, DrcliError):
        return Failure(**known, message=str(error), exit_code=error.exit_code)
    place = traceback.extract_tb(error.__traceback__)[-1]
    message = (
        f"{run.folder}: {type(error).__name__} in {place.filename}, line {place.lineno}: {one_line(error)}; "
        f"its traceback is in {RunDirectory(run.folder).failure_file.name}"
    )
    return Failure(**known, message=message, trace="".join(traceback.format_exception(error)))


def _train(
    run: PlannedRun,
    dataset: PreparedDataset,
    directory: RunDirectory,
    device: torch.device,
    listener: Listener,
    world: World,
) -> Summary:
    set_determinism(run.recipe.training.deterministic)
    memory = PeakMemory(device)
    opened = dataset if run.opens_test else dataset.without("test")
    assembly = assemble(run.recipe, run.modalities, opened, device, world)
    wanted = {m: run.recipe.modalities[m].input.weights for m in run.modalities}
    digests = load_pretrained(assembly.model, {m: weights for m, weights in wanted.items() if weights is not None})
    teachers = {m: load_teacher(folder, dataset) for m, folder in run.teachers.items()}
    digests |= {f"teacher {m}": digest(teacher.encoder) for m, teacher in teachers.items()}
    world.on_main(lambda: directory.claim_weights(digests))
    world.broadcast([*assembly.model.state_dict().values(), *assembly.extras.state_dict().values()])
    trainer = Trainer(run, assembly, listener, teachers, directory)
    trainer.resume()
    train = trainer.ctx.train
    listener.on(RunStarted(run, trainer.next_epoch, len(train), train.rows.describe()))
    for warning in [*trainer.warnings(), compile_forward(trainer.ctx, assembly.method)]:
        if warning is not None:
            listener.on(Note(f"{run.name}: {warning}"))
    try:
        trainer.train()
    except RunError as error:
        raise type(error)(f"{run.folder}: {error}\n  {_left(directory)}") from error
    if not run.opens_test:
        return world.on_main(lambda: _validated(run, directory, trainer))
    return _finish(run, assembly, directory, trainer.seconds, memory)


def _left(directory: RunDirectory) -> str:
    """Return what is left of a run that failed, in words."""
    if not directory.checkpoint.exists():
        return "no epoch was finished, so there is no checkpoint"
    return f"{directory.checkpoint} holds epoch {checkpoint.load(directory.checkpoint)['epoch']}"


def load_teacher(folder: Path, dataset: PreparedDataset) -> Teacher:
    """Return what a finished unimodal run has learnt.

    Raises:
        RunError: the run is not finished.
    """
    directory = RunDirectory(folder)
    if directory.summary() is None:
        raise RunError(f"{folder}: this unimodal run is needed first, and is not finished; train it")
    restored = restore(directory.checkpoint, torch.device("cpu"), root=dataset.root)
    return Teacher.of(restored.assembly.model)


def _finish(
    run: PlannedRun, assembly: Assembly, directory: RunDirectory, trained: float, memory: PeakMemory
) -> Summary:
    """Use the test split: once, with the selected epoch."""
    started = time.perf_counter()
    state = checkpoint.load(directory.checkpoint)
    check_identity(assembly, state, directory.checkpoint)
    load_weights(assembly, state, directory.checkpoint)
    found = evaluate_split(assembly, "test")
    epoch, seconds = int(state["epoch"]), trained + time.perf_counter() - started
    cost = Cost(
        parameters=num_parameters(assembly),
        seconds_per_epoch=trained / run.epochs if run.epochs else None,
        seconds_per_1000=found.seconds_per_1000,
        peak_memory=memory.of_process(),
        peak_gpu_memory=memory.of_gpu(),
    )
    known: dict[str, Any] = {"selected_epoch": epoch, "seconds": seconds, "cost": cost}
    return assembly.world.on_main(lambda: _conclude(run, assembly, directory, found, known))


def _conclude(
    run: PlannedRun, assembly: Assembly, directory: RunDirectory, found: Evaluation, known: dict[str, Any]
) -> Summary:
    """Write the test outputs and the summary of a run, of which some is known, and return the latter."""
    dataset = assembly.dataset
    directory.write_outputs(found.outputs.stored(dataset.info.classes, dataset.ids("test")))
    summary = _summary(
        run,
        directory,
        val=_record(found.val.scores()),
        test=_record(found.outputs.scores()),
        unimodal=found.probes,
        fused_probe=found.fused_probe,
        measures=found.measures(dataset.info.contents),
        **known,
    )
    directory.write_summary(summary)
    return summary


def _validated(run: PlannedRun, directory: RunDirectory, trainer: Trainer) -> Summary:
    """Write the summary of a run that never opens the test split, and return it: its scores are those of validation."""
    epoch = trainer.selected.epoch
    kind = Scores if run.recipe.task == "classification" else ValueScores
    found = kind.model_validate(directory.epochs()[epoch].val.model_dump(exclude={"loss"}))
    summary = _summary(run, directory, selected_epoch=epoch, seconds=trainer.seconds, val=found, unimodal={})
    directory.write_summary(summary)
    return summary


def _summary(run: PlannedRun, directory: RunDirectory, **scores: Any) -> Summary:
    """Return a run's summary: its scores and their epoch, and what recipe and files say."""
    return Summary(
        format=FORMAT,
        method=run.recipe.method,
        modality=run.modality,
        seed=run.seed,
        selection=run.recipe.selection,
        monitor=run.recipe.monitor,
        epochs=run.epochs,
        teacher_seconds=_seconds_of(run.teachers.values()),
        events=directory.count_events("relearn"),
        first_event=directory.first_event("relearn"),
        **scores,
    )


def _record(scores: Measured | MeasuredValues) -> AnyScores:
    return (Scores if isinstance(scores, Measured) else ValueScores).model_validate(scores.to_dict())


def _seconds_of(folders: Iterable[Path]) -> float:
    """Return how long finished runs took together."""
    summaries = [RunDirectory(folder).summary() for folder in folders]
    return sum((summary.seconds for summary in summaries if summary is not None), 0.0)

"""The training loop: every method, every dataset, every device runs through this one."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import nn

from drcli import checkpoint
from drcli.amounts import counted
from drcli.averages import Averages
from drcli.diagnosis import ModalityDiagnosis
from drcli.diagnosis.settings import Slopes
from drcli.engine.assemble import Assembly, load_training
from drcli.engine.evaluate import SplitOutputs, run_split
from drcli.engine.scalars import ScalarLog, diverged
from drcli.errors import DivergedError, RunError, StoppedError
from drcli.methods.base import Event, Method, Stage
from drcli.methods.context import Context
from drcli.models.layers import rates_of
from drcli.models.multimodal import Teacher, rest_frozen
from drcli.optim import LossScaler, Warmup, build_optimizer, is_fused, learning_rate, set_learning_rates
from drcli.recipe.schema import RELEARN, Recipe
from drcli.runs.directory import RunDirectory
from drcli.runs.planned import PlannedRun
from drcli.runs.records import EpochRecord, LearningState, Purities
from drcli.runs.records import Event as EventRecord
from drcli.runs.scores import EpochScores, ScoresAndLoss, ValueScoresAndLoss
from drcli.runs.wording import percent
from drcli.seeding import generator, seed_global
from drcli.task import TASKS
from drcli.watch.events import Diagnosed, EpochFinished, Listener, RowsDone

NO_TEACHERS: Mapping[str, Teacher] = MappingProxyType({})


@dataclass(frozen=True)
class Selected:
    """The epoch that `selection` prefers so far.

    Attributes:
        epoch: its index, -1 before the first.
        merit: the accuracy it was selected by, or the MAE with the other sign: the greatest is the best.
    """

    epoch: int
    merit: float


class Trainer:
    """Trains one run, epoch by epoch, and keeps its files.

    At the end of an epoch: evaluation, `checkpoint.pt` if the epoch is selected, the method's
    `on_epoch_end`, the log lines, and last `last.pt`. Everything random in an epoch derives from
    (seed, epoch), so a run that is resumed from `last.pt` computes what it would have computed.

    Args:
        run: what is trained, and where.
        assembly: its parts.
        listener: receives its events.
        teachers: trained encoders by modality, where the method requires them.
        directory: its files; None for those of the run's folder.
    """

    def __init__(
        self,
        run: PlannedRun,
        assembly: Assembly,
        listener: Listener,
        teachers: Mapping[str, Teacher] = NO_TEACHERS,
        directory: RunDirectory | None = None,
    ) -> None:
        self.run = run
        self.assembly = assembly
        self.directory = directory or RunDirectory(run.folder)
        self.listener = listener
        self.recipe = assembly.recipe
        self.seed = self.recipe.seeds[0]
        self.ctx = self._context(teachers)
        self.next_epoch = 0
        first = TASKS[self.recipe.task].first
        self.selected = Selected(-1, first.merit(first.worst))
        self.seconds = 0.0
        self.rows = len(self.ctx.train)  # of the present epoch
        self.saver = checkpoint.Saver(self.directory.guard)
        assembly.method.setup(self.ctx)
        if assembly.relearning is not None:  # after the method: it may give encoders the weights of others
            assembly.relearning.setup(self.ctx)
        if self.recipe.training.ema is not None:
            self.ctx.averages = Averages(self.recipe.training.ema, self._modules())

    def _modules(self) -> dict[str, nn.Module]:
        return {"model": self.assembly.model, "extras": self.assembly.extras}

    def _context(self, teachers: Mapping[str, Teacher]) -> Context:
        assembly, training = self.assembly, self.recipe.training
        model = assembly.model
        parameters = [*model.parameters(), *assembly.extras.parameters()]
        trainable = [parameter for parameter in parameters if parameter.requires_grad]
        rates = rates_of(self.recipe, dict(model.encoders.items()), model.fusion)
        return Context(
            model=model,
            optimizer=build_optimizer(
                training.optimizer, trainable, fused=is_fused(training, assembly.device), rates=rates
            ),
            trainable=trainable,
            train=assembly.batches("train"),
            val=assembly.batches("val"),
            num_classes=len(assembly.dataset.info.classes),
            eval_batch_size=assembly.eval_batch_size,
            seed=self.seed,
            device=assembly.device,
            training=training,
            teachers=teachers,
            label=self.recipe.method,
            world=assembly.world,
            loss=self.recipe.loss,
            scaler=LossScaler(assembly.device) if model.precision == "fp16" else None,
        )

    def warnings(self) -> list[str]:
        """Return what the user should know before the first epoch, one line each."""
        relearning = self.assembly.relearning
        own = [] if relearning is None else relearning.warnings(self.ctx)
        return [*self.assembly.method.warnings(self.ctx), *own]

    def train(self) -> None:
        """Train the epochs that are still to be done.

        Raises:
            RunError: a loss is not finite (DivergedError), a file cannot be written, or the run is behind what it was
                given to reach (StoppedError).
        """
        try:
            for epoch in range(self.next_epoch, num_epochs(self.assembly.method, self.recipe)):
                self._stop_behind(epoch)
                self._epoch(epoch)
        except BaseException:
            with suppress(RunError):  # what stops the run is the news
                self.saver.flush()
            raise
        self.ctx.world.on_main(self.saver.flush)

    def _stop_behind(self, epochs: int) -> None:
        """End a run that is behind after so many epochs; before the next one, so that it ends again if resumed."""
        floor = self.run.floors[epochs - 1] if self.run.floors and epochs else 0.0
        if floor > 0:
            best = max(record.val.first for record in self.directory.epochs())  # accuracies: no regression is stopped
            if best < floor:
                raise StoppedError(
                    f"stopped after {counted(epochs, 'epoch')}: the best accuracy on validation is {percent(best)}, "
                    f"and the median of earlier trials {percent(floor)}"
                )

    def _epoch(self, epoch: int) -> None:
        started = time.perf_counter()
        ctx, method = self.ctx, self.assembly.method
        ctx.epoch = epoch
        ctx.weights_changed()
        seed_global(self.seed, "epoch", epoch, *ctx.world.stream)
        rate = learning_rate(
            self.recipe.training.schedule,
            self.recipe.training.optimizer.lr,
            epoch,
            self.recipe.training.epochs,
        )
        set_learning_rates(ctx.optimizer, self.recipe.training.schedule, epoch, self.recipe.training.epochs)
        ctx.train.pair_anew(generator(self.seed, "pairs", epoch))
        ctx.model.train()
        self.assembly.extras.train()
        begin_stage(self.assembly, ctx, method.stage(ctx))
        method.on_epoch_start(ctx)
        train = self._train_rows() if method.trains else self._score_train()
        trained = time.perf_counter()
        scores = self._evaluate()
        selected = self._select(scores)
        done = (self._monitor(), self._relearn(), method.on_epoch_end(ctx))
        events = [event_record(epoch, event) for event in done if event is not None]
        seconds = time.perf_counter() - started
        self.seconds += seconds
        record = EpochRecord(
            epoch=epoch,
            lr=rate,
            train=train,
            val=scores["val"],
            test=scores.get("test"),
            selected=selected,
            seconds=seconds,
            samples_per_second=self.rows / (trained - started),
        )
        ctx.world.on_main(lambda: self._write_down(record, events))

    def _train_rows(self) -> dict[str, float]:
        """Train on the rows that the method selects and return the means of the step's scalars."""
        ctx, method = self.ctx, self.assembly.method
        log = ScalarLog(ctx.epoch)
        order, augment = (generator(self.seed, name, ctx.epoch) for name in ("order", "augment"))
        warmup, skipped = Warmup(ctx.optimizer, ctx.training, ctx.epoch, len(ctx.train)), self._skipped()
        for selection in method.selections(ctx):
            for batch in ctx.train.shuffled(ctx.training.batch_size, order, augment, selection):
                rows = len(batch.whole.labels)
                warmup.step(rows)
                log.add(method.training_step(ctx, batch), rows)
                self.listener.on(RowsDone(rows))
        warmup.end()
        self.rows = sum(log.sizes)
        left_out = {} if ctx.scaler is None else {"skipped_steps": float(self._skipped() - skipped)}
        return {**log.means(), **left_out}

    def _skipped(self) -> int:
        """Return how many steps were left out so far, their gradients being beyond half precision."""
        return 0 if self.ctx.scaler is None else self.ctx.scaler.skipped

    def _score_train(self) -> dict[str, float]:
        """Loss and accuracy, or MAE, on the training rows, of a method that takes no steps."""
        found = self._scores("train", run_split(self.assembly, "train"))
        return {"loss": found.loss, found.task.first.key: found.first}

    def _evaluate(self) -> dict[str, EpochScores]:
        """Score val, and test where the recipe asks for test curves; averages of the weights, if there are any."""
        with self._averaged():
            val = run_split(self.assembly, "val")
            found = {"val": val}
            if "test" in {self.recipe.selection, self.recipe.monitor}:
                found["test"] = run_split(self.assembly, "test")
        if self.ctx.averages is None:  # else the features of the weights themselves are others
            self.ctx.remember("val", (val.features, val.split.labels))
        return {split: self._scores(split, outputs) for split, outputs in found.items()}

    def _averaged(self) -> AbstractContextManager[object]:
        """Within it, the model has the averages of its weights, where the recipe asks for them."""
        return nullcontext() if self.ctx.averages is None else self.ctx.averages.applied()

    def _scores(self, split: str, outputs: SplitOutputs) -> EpochScores:
        scores = outputs.scores(self.recipe.loss)
        if not math.isfinite(scores.loss):
            name = {"val": "validation", "train": "training"}.get(split, split)
            raise DivergedError(diverged(f"epoch {self.ctx.epoch}: the {name} loss is {scores.loss}"))
        kind = ScoresAndLoss if self.recipe.task == "classification" else ValueScoresAndLoss
        return kind.model_validate({**scores.to_dict(), "loss": scores.loss})

    def _monitor(self) -> Event | None:
        """Measure the learning state where `diagnosis.monitor_every` asks for it; nothing changes."""
        settings = self.recipe.diagnosis
        if settings.monitor_every == 0 or self.ctx.epoch % settings.monitor_every != 0:
            return None
        return Event("monitor", self.ctx.diagnose(settings, settings.lambda_), lambda_=settings.lambda_)

    def _relearn(self) -> Event | None:
        """Re-learn where the recipe asks for it; before the method, which may measure the encoders as they are then."""
        relearning = self.assembly.relearning
        return None if relearning is None else relearning.on_epoch_end(self.ctx)

    def _select(self, scores: Mapping[str, EpochScores]) -> bool:
        """Keep the epoch's weights if `selection` prefers them to what there is; the first of equals stays."""
        found = scores["test" if self.recipe.selection == "test" else "val"]
        merit = found.task.first.merit(found.first)
        if self.recipe.selection != "last" and merit <= self.selected.merit:
            return False
        selected = Selected(self.ctx.epoch, merit)
        self.ctx.world.on_main(lambda: self.saver.save(self.directory.checkpoint, self.state(selected)))
        self.selected = selected
        return True

    def _write_down(self, record: EpochRecord, events: list[EventRecord]) -> None:
        self.directory.log_epoch(record)
        self.listener.on(EpochFinished(self.run, record))
        for event in events:
            self.directory.log_event(event)
            self.listener.on(Diagnosed(self.run, event))
        self.saver.save(self.directory.last, self.state())

    def state(self, selected: Selected | None = None) -> dict[str, Any]:
        """All that a run needs to be resumed from the end of this epoch.

        Where weights are averaged, those of the model are the averages, and "ema" holds what is trained.

        Args:
            selected: the epoch selected so far; by default the one that is noted.
        """
        relearning = self.assembly.relearning
        return {
            "recipe": self.recipe.to_dict(),
            "modalities": list(self.assembly.modalities),
            "dataset_fingerprint": self.assembly.dataset.info.fingerprint,
            "dataset": self.assembly.dataset.info.contents.to_dict(),
            "epoch": self.ctx.epoch,
            "step": self.ctx.step,
            "seconds": self.seconds,
            "selected": self._noted(selected or self.selected),
            **self._weights(),
            "method": self.assembly.method.state_dict(),
            **({} if relearning is None else {RELEARN: relearning.state_dict()}),
            "optimizer": self.ctx.optimizer.state_dict(),
            **({} if self.ctx.scaler is None else {"scaler": self.ctx.scaler.state_dict()}),
        }

    def _noted(self, selected: Selected) -> dict[str, Any]:
        """Return the selected epoch and its score as a checkpoint holds them."""
        first = TASKS[self.recipe.task].first
        return {"epoch": selected.epoch, first.key: first.merit(selected.merit)}

    def _weights(self) -> dict[str, Any]:
        weights = {name: module.state_dict() for name, module in self._modules().items()}
        if self.ctx.averages is None:
            return weights
        with self._averaged():
            averages = checkpoint.copied(weights)
        return {**averages, "ema": self.ctx.averages.state_dict()}

    def resume(self) -> None:
        """Resume from `last.pt` if there is one; drop the log lines of the epochs to be done again.

        Raises:
            CheckpointError: `last.pt` is damaged.
        """
        if self.directory.last.exists():
            state = checkpoint.load(self.directory.last)
            found = load_training(self.assembly, self.ctx, state, self.directory.last)
            self.selected = Selected(found.selected_epoch, found.selected_merit)
            self.ctx.step, self.seconds, self.next_epoch = found.step, found.seconds, found.epoch + 1
        self.ctx.world.on_main(lambda: self.directory.truncate(self.next_epoch))


def begin_stage(assembly: Assembly, ctx: Context, stage: Stage | None) -> None:
    """Let the optimiser move what the stage of the present epoch moves, and start anew with the stage."""
    if stage is None:
        return
    if ctx.epoch == stage.first:
        ctx.optimizer.state.clear()
    modules = {**dict(assembly.model.encoders.named_children()), "fusion": assembly.model.fusion}
    trainable = {id(parameter) for parameter in ctx.trainable}
    for name, module in {**modules, **dict(assembly.extras.named_children())}.items():
        for parameter in module.parameters():
            parameter.requires_grad_(name in stage.moves and id(parameter) in trainable)
        module.train(name in stage.moves)
        rest_frozen(module)


def num_epochs(method: Method, recipe: Recipe) -> int:
    """Return how many epochs a run has; one that takes no steps is evaluated once, as epoch 0."""
    return recipe.training.epochs if method.trains else 1


def event_record(epoch: int, event: Event) -> EventRecord:
    """Return what a method did at the end of an epoch, as it is logged."""
    states = {
        m: LearningState.model_validate({**found.to_dict(), "after": _purities(event.left.get(m))})
        for m, found in event.found.items()
    }
    return EventRecord(
        epoch=epoch,
        kind=event.kind,
        event=event.number,
        lambda_=_plain(event.lambda_),
        rule=event.rule,
        modalities=states,
    )


def _plain(slopes: Slopes | None) -> float | dict[str, float] | None:
    return dict(slopes) if isinstance(slopes, Mapping) else slopes


def _purities(left: ModalityDiagnosis | None) -> Purities | None:
    if left is None:
        return None
    return Purities(purity_train=left.purity_train, purity_val=left.purity_val, gap=left.gap)

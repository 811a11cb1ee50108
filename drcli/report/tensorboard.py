"""The curves of a run as TensorBoard event files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from drcli.engine.listener import Listener
from drcli.engine.plan import PlannedRun
from drcli.engine.rundir import RunDirectory

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardListener(Listener):
    """Writes losses, accuracies, purities, gaps and strengths by epoch into `tensorboard/`."""

    def __init__(self) -> None:
        self.writer: SummaryWriter | None = None

    def run_started(self, run: PlannedRun, *, first_epoch: int, rows: int) -> None:
        """Remember where this run's files go; they are opened with the first numbers."""
        del rows
        self.folder = RunDirectory(run.folder).tensorboard
        self.first_epoch = first_epoch

    def epoch_finished(self, record: Mapping[str, Any]) -> None:
        """Write an epoch's scalars."""
        from torch.utils.tensorboard import SummaryWriter

        if self.writer is None:
            self.writer = SummaryWriter(str(self.folder), purge_step=self.first_epoch)
        self._write(record, record["epoch"])

    def diagnosed(self, event: Mapping[str, Any]) -> None:
        """Write a diagnosis."""
        self._write({event["kind"]: event["modalities"]}, event["epoch"])

    def _write(self, values: Mapping[str, Any], epoch: int) -> None:
        if self.writer is None:
            return
        for tag, value in flatten(values):
            self.writer.add_scalar(tag, value, epoch)
        self.writer.flush()

    def run_finished(self, run: PlannedRun, summary: Mapping[str, Any], *, stored: bool) -> None:
        """Close the run's files."""
        del run, summary, stored
        self.close()

    def close(self) -> None:
        """Close the files, if any are open."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of nested mappings with their names joined by "/"."""
    for name, value in values.items():
        tag = f"{prefix}/{name}" if prefix else name
        if isinstance(value, Mapping):
            yield from flatten(value, tag)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield tag, float(value)

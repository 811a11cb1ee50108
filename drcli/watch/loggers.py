"""Loggers by the names that a recipe gives them in `log`; each is imported once a run wants it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec

from drcli.errors import UsageError
from drcli.runs.planned import PlannedRun
from drcli.watch.events import Event, Listener, Listeners, RunFailed, RunFinished, RunStarted

_CLASSES = {
    "tensorboard": "drcli.watch.tensorboard:TensorBoardListener",
    "wandb": "drcli.watch.wandb_log:WandbListener",
    "mlflow": "drcli.watch.mlflow_log:MlflowListener",
}


class Loggers(Listener):
    """Passes the events of each run on to the loggers that its recipe names."""

    def __init__(self) -> None:
        self.present: Listeners | None = None

    def on(self, event: Event) -> None:
        """Pass an event on; loggers live from the start of a run to its end.

        Raises:
            RunError: a logger cannot write.
        """
        if isinstance(event, RunStarted):
            self.close()  # of a run that has failed, which its process is not told
            self.present = Listeners(*map(_made, event.run.recipe.log))
        if self.present is not None:
            self.present.on(event)
        if isinstance(event, RunFinished | RunFailed):
            self.close()

    def close(self) -> None:
        """Close the loggers of a run that has not come to its end."""
        present, self.present = self.present, None
        if present is not None:
            present.close()


def _made(name: str) -> Listener:
    module, _, attribute = _CLASSES[name].partition(":")
    made: Listener = getattr(import_module(module), attribute)()
    return made


def check_loggers(runs: Iterable[PlannedRun]) -> None:
    """Refuse loggers whose packages are not installed, before anything is trained.

    Raises:
        UsageError: one is not.
    """
    for name in dict.fromkeys(name for run in runs for name in run.recipe.log):
        found = find_spec(name)
        if found is None or found.origin is None:  # a folder of that name, such as wandb makes, is no package
            raise UsageError(f"log: {name} is not installed; run pip install 'drcli[{name}]', or leave it out of log")

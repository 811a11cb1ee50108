"""The numbers of a run in MLflow: where MLFLOW_TRACKING_URI says, else in ./mlruns."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from drcli.errors import LoggerError
from drcli.reading import one_line
from drcli.runs.planned import PlannedRun
from drcli.watch.events import Diagnosed, EpochFinished, Event, Listener, RunFinished, RunStarted
from drcli.watch.loggers import curves, scores, settings, title

FOLDER, KEY = "drcli.folder", "drcli.key"
"""Tags that hold the run directory, and a digest of its path by which a resumed run finds its own again."""

BRIEF = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""What a server that does not answer costs, in seconds and further tries, unless the environment says so already.

By its own values the package tries for a quarter of an hour.
"""

MOST_PARAMS = 100
"""Parameters that MLflow takes at once."""

LONGEST_PARAM = 500
"""Characters of a parameter that every store of MLflow takes."""


class MlflowListener(Listener):
    """One run of MLflow for each run, in an experiment named for the recipe; a resumed run goes on in its own."""

    def __init__(self) -> None:
        self.client: Any = None
        self.id: str | None = None

    def on(self, event: Event) -> None:
        """Write the numbers of an event.

        Raises:
            LoggerError: they cannot be written.
        """
        with _own_errors():
            match event:
                case RunStarted(run, first_epoch):
                    self.client = _client()
                    self.id = _begun(self.client, run, first_epoch)
                case EpochFinished(_, record) | Diagnosed(_, record):
                    self._log(curves(record), record.epoch)
                case RunFinished(_, summary):
                    self._log(scores(summary), summary.selected_epoch)
                    self._end("FINISHED")

    def _log(self, values: Mapping[str, float], step: int) -> None:
        now = time.time_ns() // 1_000_000
        metric = import_module("mlflow.entities").Metric
        self.client.log_batch(self.id, metrics=[metric(name, value, now, step) for name, value in values.items()])

    def close(self) -> None:
        """End a run that has not come to its end as a failed one."""
        with _own_errors():
            self._end("FAILED")

    def _end(self, status: str) -> None:
        run, self.id = self.id, None
        if run is not None:
            self.client.set_terminated(run, status)


def _client() -> Any:
    for name, value in BRIEF.items():
        os.environ.setdefault(name, value)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it announces each further try
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if address is None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # the one store that needs no other package
        address = Path("mlruns").absolute().as_uri()
    return import_module("mlflow").MlflowClient(tracking_uri=address)


def _begun(client: Any, run: PlannedRun, first_epoch: int) -> str:
    """Return the id of a run's own record, an earlier one where it is resumed."""
    experiment, folder = _experiment(client, run.recipe.name), str(run.folder.absolute())
    key = hashlib.sha256(folder.encode(errors="surrogateescape")).hexdigest()[:16]
    if first_epoch:
        found = client.search_runs([experiment], f"tags.`{KEY}` = '{key}'", max_results=1)
        if found:
            client.update_run(found[0].info.run_id, status="RUNNING")
            return str(found[0].info.run_id)
    made = str(client.create_run(experiment, run_name=title(run), tags={FOLDER: folder, KEY: key}).info.run_id)
    param = import_module("mlflow.entities").Param
    params = [param(key, str(value)[:LONGEST_PARAM]) for key, value in settings(run).items()]
    for start in range(0, len(params), MOST_PARAMS):
        client.log_batch(made, params=params[start : start + MOST_PARAMS])
    return made


def _experiment(client: Any, name: str) -> str:
    """Return the id of the experiment of this name; another process may make it at the same time."""
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except import_module("mlflow.exceptions").MlflowException:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


@contextmanager
def _own_errors() -> Iterator[None]:
    """Turn what the package raises into a message."""
    kind = import_module("mlflow.exceptions").MlflowException
    try:
        yield
    except (kind, OSError) as error:
        raise LoggerError(f"log: mlflow: {one_line(error)} (MLFLOW_TRACKING_URI says where it writes)") from error

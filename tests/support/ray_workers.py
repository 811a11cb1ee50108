"""What tests of Ray grids have done in the worker processes."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack

from support.names import toy_names

from drcli.names import DATASETS
from drcli.watch.events import Event, Listener, RunStarted

_REGISTERED = ExitStack()  # never closed: the name stays for as long as the worker lives


def register_toy() -> None:
    """Put the dataset "toy" into the registry, as a plug-in would on every node."""
    _REGISTERED.enter_context(toy_names())


class DiesWithAudio(Listener):
    """Takes its process with it whenever the unimodal run of audio starts."""

    def on(self, event: Event) -> None:
        if isinstance(event, RunStarted) and event.run.modality == "audio":
            os.kill(os.getpid(), signal.SIGKILL)


def register_many() -> None:
    """Put the dataset "many" into the registry."""
    _REGISTERED.enter_context(DATASETS.registered("many", "support.many:Many"))

"""What tests of several processes have done in each of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from support.names import toy_names
from support.training import bits

from drcli.data.prepared import PreparedDataset
from drcli.engine.assemble import assemble
from drcli.engine.device import environment
from drcli.engine.grid import run_grid
from drcli.engine.trainer import Trainer
from drcli.errors import PeerError, RunError
from drcli.runs.directory import RunDirectory
from drcli.runs.planned import PlannedRun
from drcli.watch.events import Listener
from drcli.world import World


@dataclass(frozen=True)
class Job:
    """Runs to train, of which one is begun before.

    Attributes:
        runs: in the order of `plan`.
        dataset: the prepared "toy".
        begun: folder of a run whose first epoch is trained by another trainer.
    """

    runs: Sequence[PlannedRun]
    dataset: PreparedDataset
    begun: Path


def train(job: Job, world: World, device: torch.device) -> dict[str, Any]:
    """Train all runs; the summaries, the failures, and what `exchanges` gives."""
    torch.set_num_threads(1)
    with toy_names():
        for run in job.runs:
            if run.folder == job.begun:
                begin(run, job.dataset, world, device)
        result = run_grid(job.runs, job.dataset, device=device, listener=Listener(), world=world)
    return {"runs": result.runs, "failed": result.failed, "exchanged": exchanges(world)}


def begin(run: PlannedRun, dataset: PreparedDataset, world: World, device: torch.device) -> None:
    """Train the first epoch of a run, with files as if it had been stopped then."""
    assembly = assemble(run.recipe, run.modalities, dataset, device, world)
    directory = RunDirectory(run.folder)

    def claim() -> None:
        run.folder.mkdir(parents=True)
        directory.claim(run.recipe, environment(run.recipe, dataset.info.fingerprint, device, world.size))
        directory.claim_weights({})

    world.on_main(claim)
    trainer = Trainer(run, assembly, Listener())
    trainer._epoch(0)
    mine = [bits(x) for x in assembly.model.state_dict().values()]
    assert mine == world.on_main(lambda: mine), "the processes have different weights"


def exchanges(world: World) -> Mapping[str, Any]:
    """What the exchanges give here, of tensors that name their process."""
    other = torch.full((2,), float(world.rank))
    world.broadcast([other])
    layer = torch.nn.Linear(2, 1, bias=False)
    layer.weight.grad = torch.tensor([[1.0, 2.0]]) * (world.rank + 1)
    world.sum_gradients(layer.parameters())
    rows = torch.full((world.rank + 1, 2), float(world.rank))
    return {
        "summed": float(world.all_reduce({"a": torch.tensor(world.rank + 1.0)})["a"]),
        "gathered": world.all_gather(rows, [1, 2]).tolist(),
        "equalised": other.tolist(),
        "gradient": layer.weight.grad.tolist(),
        "refused": refused(world),
    }


def refused(world: World) -> str:
    """The message that an error of the main process's gives in every process, as the main one has collected them."""

    def fail() -> None:
        raise RunError(f"said by {world.rank}")

    try:
        world.on_main(fail)
    except RunError as error:
        return str(error)
    return "nothing was raised"


def fail_alone(how: str, world: World, device: torch.device) -> None:
    """Let process 1 end while process 0 waits for it."""
    if world.rank == 1:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise PeerError("no memory left") if how == "user" else ZeroDivisionError("a bug")
    world.all_reduce({"waits": torch.zeros(())})

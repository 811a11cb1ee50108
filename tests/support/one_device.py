"""What each of several processes does that train a run together on one device."""

from __future__ import annotations

from pathlib import Path

import torch
from support.names import toy_names
from torch import distributed, nn

from drcli.data.prepared import open_dataset
from drcli.engine.assemble import assemble
from drcli.engine.device import set_determinism
from drcli.engine.trainer import Trainer
from drcli.recipe.schema import Recipe
from drcli.runs.planned import PlannedRun
from drcli.watch.events import Listener
from drcli.world import World

SIZE = 2


def train(rank: int, recipe: Recipe, device: torch.device, folder: Path) -> None:
    """Train as one of the processes; the first one leaves the model's tensors."""
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    distributed.init_process_group("gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=SIZE)
    set_determinism(recipe.training.deterministic)
    modalities = tuple(recipe.modalities)
    with toy_names():
        assembly = assemble(recipe, modalities, open_dataset(recipe.dataset.root), device, World(rank, SIZE))
        layers = [layer for layer in assembly.model.modules() if isinstance(layer, nn.SyncBatchNorm)]
        assert bool(layers) == (device.type == "cuda")
        place = folder / f"run {rank}"
        place.mkdir()
        Trainer(PlannedRun(recipe, modalities, place), assembly, Listener()).train()
    if rank == 0:
        torch.save({name: x.cpu() for name, x in assembly.model.state_dict().items()}, folder / "weights.pt")
    distributed.destroy_process_group()

"""Somebody else's model and data, and what two processes of DistributedDataParallel do with them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from drcli.relearning import Relearner
from drcli.world import World

ROWS, CLASSES, WIDTH = 25, 3, 5


class Model(nn.Module):
    """Two encoders and a head behind dropout and batch normalisation, which a diagnosis must leave alone."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.audio, self.visual = (nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, WIDTH)) for _ in range(2))
        self.head = nn.Sequential(nn.BatchNorm1d(2 * WIDTH), nn.Dropout(0.2), nn.Linear(2 * WIDTH, CLASSES))

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.cat([self.audio(audio), self.visual(visual)], dim=1))
        return logits

    def encoders(self) -> dict[str, nn.Module]:
        return {"audio": self.audio, "visual": self.visual}


def data(seed: int, rows: int = ROWS) -> TensorDataset:
    """Noisy rows of three classes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % CLASSES
    inputs = [torch.randn(rows, 4, generator=generator) + labels[:, None] for _ in range(2)]
    return TensorDataset(*inputs, labels)


def loader(seed: int, **arguments: Any) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(data(seed), **{"batch_size": 7, **arguments})


def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> None:
    audio, visual, labels = batch
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(audio, visual), labels).backward()
    optimizer.step()


def relearn_together(world: World, device: torch.device) -> dict[int, dict[str, Any]]:
    """Train and re-learn in each process; what each of them saw, in the order of the ranks."""
    torch.set_num_threads(1)
    model = Model()
    together = DistributedDataParallel(model)
    train, val = (loader(seed, sampler=DistributedSampler(data(seed))) for seed in (10, 11))
    relearners = {
        "encoders": Relearner(model.encoders(), every=1, restarts=2),
        "model": Relearner(model.encoders(), every=1, restarts=2, model=together),
        "run": Relearner(model.encoders(), every=1, restarts=2, model=together, run=lambda b: _run(together, b)),
    }
    optimizer = torch.optim.SGD(together.parameters(), lr=0.1)
    for _ in range(5):
        for batch in train:
            step(together, optimizer, batch)
    before = _arrays(model)
    found = {name: relearner.diagnose(train, val) for name, relearner in relearners.items()}
    event = relearners["encoders"].step(1, train=train, val=val)
    pulled = _arrays(model)
    for batch in train:  # DistributedDataParallel is still valid
        step(together, optimizer, batch)
    own: dict[str, Any] = {"before": before, "found": found, "event": event, "pulled": pulled, "after": _arrays(model)}
    own["refused"] = _refused(relearners["encoders"], (train, val), model)
    everything: list[Any] = [None] * world.size
    distributed.all_gather_object(everything, own)
    return dict(enumerate(everything))


def _arrays(model: nn.Module) -> dict[str, Any]:
    """Copies of the weights that outlive this process: its tensors would not."""
    return {name: tensor.detach().clone().numpy() for name, tensor in model.state_dict().items()}


def _run(model: nn.Module, batch: Any) -> Tensor:
    model(*batch[:-1])
    return torch.as_tensor(batch[-1])


def _refused(relearner: Relearner, loaders: tuple[Any, Any], model: Model) -> str:
    """The message of every process, where one alone makes the diagnosis that fails."""
    with torch.no_grad():
        next(model.audio.parameters()).fill_(torch.nan)
    try:
        relearner.diagnose(*loaders)
    except ValueError as error:
        return str(error)
    return "nothing was raised"

"""Diagnosing & Re-learning in a training loop of your own: the three lines that are numbered.

    python docs/examples/plain_loop.py

Repeat the command with more epochs (`python docs/examples/plain_loop.py 40`), and it resumes from its checkpoint.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from drcli import Relearner

CLASSES = 4


class TwoEncoders(nn.Module):
    """One encoder per modality, and a linear head on what they put out, side by side."""

    def __init__(self, audio: nn.Module, visual: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.audio, self.visual, self.head = audio, visual, head

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        return self.head(torch.cat([self.audio(audio), self.visual(visual)], dim=1))


def train(
    model: TwoEncoders,
    train_loader: DataLoader,
    val_loader: DataLoader,
    checkpoint: Path,
    *,
    epochs: int,
    every: int = 5,
    times: int = 3,
    lr: float = 0.05,
    restarts: int = 10,
    seed: Callable[[int], object] = torch.manual_seed,
) -> None:
    """Train a model, its encoders re-learning every few epochs; from the checkpoint on, if there is one.

    Args:
        model: with its initial weights.
        train_loader: batches (audio, visual, labels) of the training rows, shuffled.
        val_loader: the same of the validation rows.
        checkpoint: written after every epoch.
        epochs: length of the training.
        every: epochs between two diagnoses.
        times: largest number of re-learnings.
        lr: learning rate.
        restarts: starts of K-means.
        seed: called with the number of each epoch before it, so that a resumed training shuffles like any other.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    encoders = {"audio": model.audio, "visual": model.visual}
    relearner = Relearner(encoders, every=every, times=times, restarts=restarts, epochs=epochs)  # 1: before training
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        relearner.load_state_dict(state["relearner"])
        first = state["epoch"] + 1

    for epoch in range(first, epochs):
        seed(epoch)
        model.train()
        for audio, visual, labels in train_loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(audio, visual), labels).backward()
            optimizer.step()
        print(f"epoch {epoch}: validation accuracy {accuracy(model, val_loader):.1%}")

        event = relearner.step(epoch, train=train_loader, val=val_loader)  # 2: after every epoch
        if event is not None:
            print(event)
        torch.save(
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "relearner": relearner.state_dict(),  # 3: in every checkpoint
                "epoch": epoch,
            },
            checkpoint,
        )


@torch.no_grad()
def accuracy(model: nn.Module, loader: DataLoader) -> float:
    model.eval()
    correct = [model(audio, visual).argmax(dim=1) == labels for audio, visual, labels in loader]
    return torch.cat(correct).float().mean().item()


def made_up(rows: int, seed: int) -> TensorDataset:
    """Rows of two modalities; the pattern of a class is clear in the second and faint in the first."""
    patterns = torch.randn(2, CLASSES, 32, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (rows,), generator=generator)
    noise = torch.randn(2, rows, 32, generator=generator)
    audio, visual = patterns[:, labels] * torch.tensor([0.2, 0.5])[:, None, None] + noise
    return TensorDataset(audio, visual, labels)


def encoder() -> nn.Module:
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 16))


def main(epochs: int = 20, checkpoint: Path = Path("plain_loop.pt")) -> None:
    torch.manual_seed(0)
    model = TwoEncoders(encoder(), encoder(), nn.Linear(32, CLASSES))
    train_loader = DataLoader(made_up(400, seed=1), batch_size=32, shuffle=True)
    val_loader = DataLoader(made_up(200, seed=2), batch_size=200)
    train(model, train_loader, val_loader, checkpoint, epochs=epochs)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

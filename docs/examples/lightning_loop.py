"""Diagnosing & Re-learning in Lightning: one callback.

pip install 'drcli[lightning]'
python docs/examples/lightning_loop.py
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from drcli.integrations.lightning import RelearnCallback

CLASSES = 4


class TwoEncoders(LightningModule):
    """One encoder per modality, and a linear head on what they put out, side by side."""

    def __init__(self, audio: nn.Module, visual: nn.Module, head: nn.Module, lr: float = 0.05) -> None:
        super().__init__()
        self.audio, self.visual, self.head, self.lr = audio, visual, head, lr

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        return self.head(torch.cat([self.audio(audio), self.visual(visual)], dim=1))

    def training_step(self, batch: Sequence[Tensor]) -> Tensor:
        *inputs, labels = batch
        return nn.functional.cross_entropy(self(*inputs), labels)

    def validation_step(self, batch: Sequence[Tensor]) -> None:
        *inputs, labels = batch
        self.log("val_accuracy", (self(*inputs).argmax(dim=1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


def train(
    module: TwoEncoders,
    train_loader: DataLoader,
    val_loader: DataLoader,
    *,
    epochs: int,
    folder: Path | None = None,
    checkpoint: Path | None = None,
    callbacks: Sequence[Callback] = (),
    **relearn: object,
) -> RelearnCallback:
    """Train a module, its encoders re-learning every few epochs; from a checkpoint of Lightning's, if one is given.

    Args:
        module: with its initial weights.
        train_loader: batches (audio, visual, labels) of the training rows, shuffled.
        val_loader: the same of the validation rows.
        epochs: length of the training.
        folder: where checkpoints go.
        checkpoint: the one to resume from.
        callbacks: more of them.
        relearn: settings of D&R, such as every=5, times=3.
    """
    relearning = RelearnCallback({"audio": "audio", "visual": "visual"}, **relearn)
    trainer = Trainer(
        max_epochs=epochs,
        callbacks=[relearning, *callbacks],
        default_root_dir=folder,
        enable_checkpointing=folder is not None,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, train_loader, val_loader, ckpt_path=checkpoint)
    return relearning


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


def main() -> None:
    torch.manual_seed(0)
    module = TwoEncoders(encoder(), encoder(), nn.Linear(32, CLASSES))
    train_loader = DataLoader(made_up(400, seed=1), batch_size=32, shuffle=True)
    val_loader = DataLoader(made_up(200, seed=2), batch_size=200)
    relearning = train(module, train_loader, val_loader, epochs=20, every=5)
    for event in relearning.events:
        print(event)


if __name__ == "__main__":
    main()

"""Diagnosing & Re-learning with Hugging Face's Trainer: a callback around a Relearner.

    pip install drcli transformers accelerate
    python docs/examples/hugging_face.py

The model is small and its weights are random; nothing is downloaded.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import (
    BertConfig,
    BertModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    default_data_collator,
)

from drcli import Relearner

CLASSES, WORDS, LENGTH = 4, 20, 8


class Relearn(TrainerCallback):
    """Pulls encoders before an epoch begins: after the evaluation and the checkpoint of the epoch before.

    Args:
        relearner: built before the Trainer trains.
        train: loader of the training rows.
        val: loader of validation rows.
    """

    def __init__(self, relearner: Relearner, train: DataLoader, val: DataLoader) -> None:
        self.relearner, self.train, self.val = relearner, train, val

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step > 0:  # resumed
            self.relearner.load_state_dict(torch.load(file_of(args, state), weights_only=True))

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        done = state.epoch or 0.0
        if done >= 1 and done == int(done):  # else resumed within an epoch, before which it was done
            event = self.relearner.step(int(done) - 1, train=self.train, val=self.val)
            if event is not None and state.is_world_process_zero:
                print(event)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            torch.save(self.relearner.state_dict(), file_of(args, state))


def file_of(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir, f"checkpoint-{state.global_step}", "relearner.pt")


class TextEncoder(nn.Module):
    """What BERT makes of a text's first token: (B, D). A Relearner needs encoders that put out one tensor (B, D)."""

    def __init__(self) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=WORDS, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
        )
        self.bert = BertModel(config, add_pooling_layer=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state[:, 0]


class TextAndAudio(nn.Module):
    """One encoder per modality, and a linear head on what they put out, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.text = TextEncoder()
        self.audio = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 16))
        self.head = nn.Linear(32, CLASSES)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, audio: Tensor, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        features = [self.text(input_ids, attention_mask), self.audio(audio)]
        logits = self.head(torch.cat(features, dim=1))
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def train(
    model: TextAndAudio,
    train_rows: list[dict[str, Any]],
    val_rows: list[dict[str, Any]],
    folder: Path,
    *,
    epochs: int,
    resume: Path | None = None,
    callbacks: tuple[TrainerCallback, ...] = (),
    **relearn: Any,
) -> Relearner:
    """Train a model, its encoders re-learning every few epochs; from a checkpoint of the Trainer's, if one is given.

    Args:
        model: with its initial weights.
        train_rows: what the model is called with, by name, one row after another.
        val_rows: the same of validation.
        folder: where checkpoints go.
        epochs: length of the training.
        resume: the checkpoint to resume from.
        callbacks: more of them.
        relearn: settings of D&R, such as every=5, times=3.
    """
    relearner = Relearner({"text": model.text, "audio": model.audio}, model=model, epochs=epochs, **relearn)
    loaders = [DataLoader(rows, 64, collate_fn=default_data_collator) for rows in (train_rows, val_rows)]
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=64,
        learning_rate=2e-3,
        eval_strategy="epoch",
        save_strategy="epoch",
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=train_rows,
        eval_dataset=val_rows,
        callbacks=[Relearn(relearner, *loaders), *callbacks],
    )
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return relearner


def made_up(rows: int, seed: int) -> list[dict[str, Any]]:
    """Rows of a text, in which a word of the class is frequent, and of a sound with a faint pattern of it."""
    patterns = torch.randn(CLASSES, 32, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (rows,), generator=generator)
    words = torch.randint(CLASSES, WORDS, (rows, LENGTH), generator=generator)
    words = torch.where(torch.rand(rows, LENGTH, generator=generator) < 0.3, labels[:, None], words)
    audio = 0.2 * patterns[labels] + torch.randn(rows, 32, generator=generator)
    return [
        {"input_ids": text, "attention_mask": torch.ones_like(text), "audio": sound, "labels": label}
        for text, sound, label in zip(words, audio, labels, strict=True)
    ]


def main(epochs: int = 12, folder: Path = Path("hugging_face")) -> None:
    torch.manual_seed(0)
    train(TextAndAudio(), made_up(400, seed=1), made_up(200, seed=2), folder, epochs=epochs, every=3)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

"""A dataset made up in milliseconds: three modalities of 1 x 8 x 8, three classes, some noise."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import PositiveInt

from data_prep.base import EmbeddedPreparer, Filled
from data_prep.job import Job
from data_prep.writing.writer import DatasetWriter

MODALITIES = ("audio", "visual", "text")
CLASSES = ("a", "b", "c")


class Toy(EmbeddedPreparer):
    name: ClassVar[str] = "toy"

    class Settings(EmbeddedPreparer.Settings, extra="forbid", frozen=True):
        seed: int = 0
        rows: PositiveInt = 60
        draws: PositiveInt = 2

    settings: Settings

    def fingerprint(self) -> str:
        return "made up"

    def fill(self, job: Job) -> Filled:
        generator = np.random.default_rng(self.settings.seed)
        patterns = generator.normal(size=(len(MODALITIES), len(CLASSES), 1, 8, 8))
        writer = DatasetWriter(job.out, name=self.name, classes=CLASSES)
        for split, samples in (("train", self.settings.rows), ("val", 24), ("test", 30)):
            draws = 1 if split == "train" else self.settings.draws
            labels = np.repeat(np.arange(samples) % len(CLASSES), draws)
            ids = [f"{split}-{i // draws}" for i in range(samples * draws)]
            part = writer.split(split, labels=labels.tolist(), ids=ids)
            for number, m in enumerate(MODALITIES):
                noise = generator.normal(scale=1.5, size=(len(labels), 1, 8, 8))
                part.array(m, (1, 8, 8), "float16")[:] = patterns[number][labels] + noise
        return Filled(writer, {})

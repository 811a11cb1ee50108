"""White noise on the sound of a clip, as a recipe's `corrupt` asks for it with `domain: waveform`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from data_prep.media.audio import add_white_noise
from data_prep.writing.splits import row_generator
from data_prep.writing.workers import Clip


class NoiseSettings(Protocol):
    """The settings of a `Preparer` whose `waveform` takes noise."""

    @property
    def waveform_snr_db(self) -> float | None:
        """Power of the sound over that of the noise, in dB; None: no noise."""

    @property
    def waveform_noise_splits(self) -> Sequence[str]:
        """Splits whose sound is noisy."""

    @property
    def seed(self) -> int:
        """Seed of the noise; each clip has a stream of its own."""


def with_noise(wave: NDArray[Any], clip: Clip, settings: NoiseSettings) -> NDArray[Any]:
    """Return the sound (S,) of a clip, with noise at its own power where the settings ask for it."""
    if settings.waveform_snr_db is None or clip.split not in settings.waveform_noise_splits:
        return wave
    power = float(np.mean(np.square(wave, dtype=np.float64)))
    return add_white_noise(wave, settings.waveform_snr_db, row_generator(settings.seed, clip.id), power=power)

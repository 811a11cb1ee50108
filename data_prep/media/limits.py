"""What no clip exceeds: headers that claim more are damaged, and would take all memory."""

from __future__ import annotations

from data_prep.media.container import ClipError

MIN_RATE, MAX_RATE = 2000, 768_000  # samples per second; below lies no sound that can be recognised
MAX_SAMPLES = 2**26  # 23 minutes at 48 kHz, 70 minutes at 16 kHz
MAX_CHANNELS = 64


def check_rate(rate: int) -> None:
    """Check the sampling rate of a sound.

    Raises:
        ClipError: no recording has it.
    """
    if not MIN_RATE <= rate <= MAX_RATE:
        raise ClipError(
            "absurd rate", f"the header says {rate} samples per second, not between {MIN_RATE} and {MAX_RATE}"
        )


def check_samples(count: int, rate: int) -> None:
    """Check the length of a sound, before memory is taken for it.

    Args:
        count: samples.
        rate: samples per second.

    Raises:
        ClipError: there are more than `MAX_SAMPLES`.
    """
    if count > MAX_SAMPLES:
        raise ClipError(
            "absurd size",
            f"{count / rate:.0f} s of sound at {rate} Hz, more than the {MAX_SAMPLES / rate:.0f} s allowed",
        )

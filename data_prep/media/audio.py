"""Waveforms to spectrograms, and noise; no number of threads changes the result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def add_white_noise(
    wave: Floats, snr_db: float, generator: np.random.Generator, *, power: float
) -> NDArray[np.float64]:
    """The waveform with Gaussian white noise at a signal-to-noise ratio.

    Args:
        wave: (S,) samples.
        snr_db: 10 log10(signal power / noise power); negative means that the noise is louder.
        generator: draws the noise.
        power: power of the signal, its mean square; for a padded recording, that of the recording.

    Returns:
        (S,) float64.
    """
    deviation = float(np.sqrt(power / 10 ** (snr_db / 10)))
    return wave.astype(np.float64) + deviation * generator.standard_normal(len(wave))


def power_spectrogram(wave: Floats, *, n_fft: int, hop: int) -> NDArray[np.float32]:
    """Squared magnitude of the short-time Fourier transform, periodic Hann window.

    The waveform is reflected by n_fft / 2 at both ends, so that frame t is centred on sample t * hop.

    Args:
        wave: (N, S) samples.
        n_fft: length of window and transform.
        hop: samples from one frame to the next.

    Returns:
        (N, n_fft / 2 + 1, T) with T = 1 + S // hop.
    """
    padded = np.pad(wave.astype(np.float32), ((0, 0), (n_fft // 2, n_fft // 2)), mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft, axis=1)[:, ::hop]
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    spectrum = np.fft.rfft(frames * window, axis=2)
    power = (spectrum * spectrum.conj()).real
    return power.transpose(0, 2, 1).astype(np.float32)


def log_power_spectrogram(
    wave: Floats, *, n_fft: int = 256, hop: int = 128, bins: int = 64, floor: float = 1e-6
) -> NDArray[np.float32]:
    """log(power + floor) of the lowest frequency bins.

    Args:
        wave: (N, S) samples.
        n_fft: length of window and transform.
        hop: samples from one frame to the next.
        bins: how many bins to keep, from frequency 0 upward.
        floor: keeps silence finite.

    Returns:
        (N, bins, T) with T = 1 + S // hop.
    """
    power = power_spectrogram(wave, n_fft=n_fft, hop=hop)[:, :bins]
    logs: NDArray[np.float32] = np.log(power + np.float32(floor))
    return logs


def log_mel(
    wave: Floats, *, rate: int, n_mels: int = 40, n_fft: int = 512, hop: int = 160, floor: float = 1e-6
) -> NDArray[np.float32]:
    """log(mel power + floor), triangular filters on the HTK mel scale from 0 to rate / 2.

    Args:
        wave: (N, S) samples.
        rate: samples per second, in Hz.
        n_mels: number of filters.
        n_fft: length of window and transform.
        hop: samples from one frame to the next.
        floor: keeps silence finite.

    Returns:
        (N, n_mels, T) with T = 1 + S // hop.
    """
    from torchaudio.functional import melscale_fbanks

    filters = melscale_fbanks(n_fft // 2 + 1, 0.0, rate / 2, n_mels, rate).numpy()  # (bins, mels)
    power = power_spectrogram(wave, n_fft=n_fft, hop=hop)
    # In float64, since in float32 the order of summation, and so the number of threads, shows when rounded.
    mel = filters.T.astype(np.float64) @ power.astype(np.float64)
    logs: NDArray[np.float32] = np.log(mel + floor).astype(np.float32)
    return logs


FBANK_MEAN, FBANK_STD = -4.503877, 5.141276  # of Kinetics-Sounds, in the literature's scripts


def fbank(
    samples: Floats, *, rate: int = 16000, bins: int = 128, steps: int = 1024, standardise: bool = True
) -> NDArray[np.float32]:
    """Kaldi-compatible log mel filter banks, 10 ms from one frame to the next.

    The mean of the waveform is subtracted; frames of 25 ms with a Hanning window; zero-padded at the
    end, or cut, to `steps` frames; then (x + 4.503877) / (2 * 5.141276), which makes the padding 0.438.
    This is the literature's script for Kinetics-Sounds, with frequency first: (1, F, T) where the
    script stores (T, F).

    Args:
        samples: (S,) mono in [-1, 1].
        rate: samples per second.
        bins: mel filters F, from 20 Hz to rate / 2.
        steps: frames T.
        standardise: False leaves the logarithms as they are.

    Returns:
        (1, F, T); a sound shorter than one frame of 25 ms is padding throughout.
    """
    import torch
    from torchaudio.compliance import kaldi

    wave = torch.from_numpy(np.asarray(samples, np.float64))  # a logarithm shows the last digits of float32
    banks = torch.zeros(steps, bins)
    if len(wave) >= rate // 40:
        with one_thread():
            found = kaldi.fbank(
                (wave - wave.mean())[None],
                htk_compat=True,
                sample_frequency=rate,
                use_energy=False,
                window_type="hanning",
                num_mel_bins=bins,
                dither=0.0,
                frame_shift=10,
            )[:steps]
        banks[: len(found)] = found
    if standardise:
        banks = (banks - FBANK_MEAN) / (2 * FBANK_STD)
    return np.ascontiguousarray(banks.T[None].numpy())


def stft(
    samples: Floats, *, rate: int = 22050, seconds: float = 3.0, n_fft: int = 512, hop: int = 353
) -> NDArray[np.float32]:
    """log(|X| + 1e-7) of the short-time Fourier transform of a sound that is repeated to fill its time.

    Repeated and cut to `seconds`, clipped to [-1, 1]; periodic Hann window; reflected by n_fft / 2
    at both ends, so that frame t is centred on sample t * hop.

    Args:
        samples: (S,) mono, S >= 1.
        rate: samples per second.
        seconds: how much of the repeated sound is used.
        n_fft: length of window and transform.
        hop: samples from one frame to the next.

    Returns:
        (1, n_fft / 2 + 1, 1 + seconds * rate // hop): (1, 257, 188) by default.
    """
    import torch
    from torchaudio.functional import spectrogram

    length = round(seconds * rate)
    tiled = np.tile(samples, -(-length // len(samples)))[:length].astype(
        np.float64
    )  # a logarithm shows the last digits of float32
    with one_thread():
        magnitude = spectrogram(
            torch.from_numpy(tiled).clamp(-1, 1)[None],
            pad=0,
            window=torch.hann_window(n_fft, dtype=torch.float64),
            n_fft=n_fft,
            hop_length=hop,
            win_length=n_fft,
            power=1.0,
            normalized=False,
        )
    return torch.log(magnitude + 1e-7).numpy().astype(np.float32)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in one thread, so that the number of cores does not show in the last digits."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from data_prep.media.audio import fbank, stft

Floats = NDArray[np.float64]


def sound(seconds: float, rate: int, seed: int = 0) -> NDArray[np.float32]:
    """A rising tone under noise, off centre.

    The noise is not much weaker than the tone: where a pure tone lies at the very edge of a mel filter,
    the float32 in which torchaudio and Kaldi keep their filters shows in the fourth digit.
    """
    steps = np.arange(round(seconds * rate)) / rate
    chirp = 0.1 * np.sin(2 * np.pi * (200 + 300 * steps) * steps)
    noise = 0.2 * np.random.default_rng(seed).standard_normal(len(steps))
    return (chirp + noise + 0.02).astype(np.float32)


def slow_stft(samples: NDArray[np.float32]) -> Floats:
    """librosa.stft(tile(x)[:66150].clip(-1, 1), n_fft=512, hop_length=353), log(|X| + 1e-7), in numpy."""
    repeated = np.concatenate([samples] * (66150 // len(samples) + 1))[:66150].astype(np.float64)
    padded = np.pad(repeated.clip(-1, 1), 256, mode="reflect")
    window = np.array([0.5 - 0.5 * np.cos(2 * np.pi * n / 512) for n in range(512)])
    columns = [np.fft.rfft(window * padded[start : start + 512]) for start in range(0, len(padded) - 511, 353)]
    return np.log(np.abs(np.stack(columns, axis=1)) + 1e-7)


def slow_fbank(samples: NDArray[np.float32], bins: int = 128, rate: int = 16000) -> Floats:
    """Kaldi's compute-fbank-feats by its formulas: (T, bins), frames that fit whole."""
    wave = samples.astype(np.float64) * 1.0
    wave -= wave.mean()
    length, shift, padded = rate // 40, rate // 100, 512
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))
    banks = mel_banks(bins, padded, rate)
    rows = []
    for start in range(0, len(wave) - length + 1, shift):
        frame = wave[start : start + length] - wave[start : start + length].mean()
        previous = np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(np.fft.rfft((frame - 0.97 * previous) * window, padded)) ** 2
        rows.append(np.log(np.maximum(banks @ power[:-1], np.finfo(np.float32).eps)))
    return np.array(rows)


def mel_banks(bins: int, n_fft: int, rate: int) -> Floats:
    """Triangles of equal width on the mel scale 1127 log(1 + f / 700), from 20 Hz to rate / 2."""

    def mel(frequency: float) -> float:
        return float(1127.0 * np.log(1.0 + frequency / 700.0))

    low, high = mel(20.0), mel(rate / 2)
    step = (high - low) / (bins + 1)
    banks = np.zeros((bins, n_fft // 2))
    for b in range(bins):
        left, centre, right = (low + (b + k) * step for k in range(3))
        for k in range(n_fft // 2):
            here = mel(k * rate / n_fft)
            if left < here < right:
                banks[b, k] = (here - left) / (centre - left) if here <= centre else (right - here) / (right - centre)
    return banks


@pytest.mark.parametrize("seconds", [1.3, 2.5, 5.0])
def test_stft_is_that_of_an_independent_computation(seconds: float) -> None:
    samples = sound(seconds, 22050)
    found = stft(samples)
    assert found.shape == (1, 257, 188)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], slow_stft(samples), atol=1e-4)


def test_stft_clips_a_sound_that_is_too_loud() -> None:
    samples = 4 * sound(3.0, 22050)
    np.testing.assert_allclose(stft(samples)[0], slow_stft(samples), atol=1e-4)
    assert np.abs(stft(samples) - stft(samples / 4)).max() > 0.1


def test_stft_repeats_a_short_sound() -> None:
    samples = sound(0.5, 22050)
    np.testing.assert_array_equal(stft(samples), stft(np.tile(samples, 7)))


@pytest.mark.parametrize("seconds", [1.3, 4.1])
def test_fbank_is_kaldis_by_its_formulas(seconds: float) -> None:
    samples = sound(seconds, 16000)
    slow = slow_fbank(samples)
    logs = fbank(samples, standardise=False)
    assert logs.shape == (1, 128, 1024)
    assert logs.dtype == np.float32
    np.testing.assert_allclose(logs[0, :, : len(slow)].T, slow, atol=1e-4)
    assert not logs[0, :, len(slow) :].any()


def test_fbank_of_ten_seconds_has_998_frames_and_of_more_is_cut() -> None:
    padding = np.float32(4.503877 / (2 * 5.141276))
    assert padding == pytest.approx(0.43801, abs=1e-5)
    ten = fbank(sound(10.0, 16000))
    np.testing.assert_allclose(ten[0, :, 998:], padding, rtol=1e-6)
    assert (np.abs(ten[0, :, 997] - padding) > 1e-6).all()
    eleven = fbank(sound(11.0, 16000), standardise=False)
    np.testing.assert_allclose(eleven[0].T, slow_fbank(sound(11.0, 16000))[:1024], atol=1e-4)


def test_fbank_is_standardised_by_the_literatures_constants() -> None:
    samples = sound(1.5, 16000)
    expected = (fbank(samples, standardise=False).astype(np.float64) + 4.503877) / (2 * 5.141276)
    np.testing.assert_allclose(fbank(samples), expected, atol=1e-6)


def test_silence_is_finite_and_a_scrap_of_sound_is_padding() -> None:
    silent = fbank(np.zeros(16000, np.float32), standardise=False)
    np.testing.assert_allclose(silent[0, :, :98], -15.9424, atol=1e-3)
    assert not fbank(np.ones(399, np.float32), standardise=False).any()
    np.testing.assert_allclose(stft(np.zeros(100, np.float32)), np.log(1e-7), atol=1e-4)


@pytest.mark.parametrize("front_end", [fbank, stft])
def test_the_number_of_threads_does_not_show(front_end: object) -> None:
    samples, before = sound(3.0, 16000), torch.get_num_threads()
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(front_end(samples).tobytes())  # type: ignore[operator]
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert found[0] == found[1]

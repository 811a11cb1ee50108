from __future__ import annotations

import numpy as np
import pytest
import torch

from data_prep.media.audio import add_white_noise, log_mel, log_power_spectrogram, power_spectrogram


@pytest.mark.parametrize("snr_db", [-12.0, 0.0, 20.0])
def test_noise_has_the_power_that_the_ratio_asks_for(snr_db: float) -> None:
    wave = np.sin(np.arange(200_000) / 5)
    noise = add_white_noise(wave, snr_db, np.random.default_rng(0), power=0.5) - wave
    assert 10 * np.log10(0.5 / np.mean(noise**2)) == pytest.approx(snr_db, abs=0.05)


def test_spectrogram_equals_the_one_of_torch() -> None:
    wave = np.random.default_rng(0).standard_normal((2, 2000))
    window = torch.hann_window(256, dtype=torch.float64)
    spectrum = torch.stft(torch.from_numpy(wave), 256, 128, window=window, center=True, return_complex=True)
    ours = power_spectrogram(wave, n_fft=256, hop=128)
    assert ours.shape == (2, 129, 16)
    np.testing.assert_allclose(ours, spectrum.abs().square().numpy(), rtol=1e-4, atol=1e-4)


def test_log_power_keeps_the_lowest_bins_and_silence_finite() -> None:
    ours = log_power_spectrogram(np.zeros((1, 2000)))
    assert ours.shape == (1, 64, 16)
    np.testing.assert_allclose(ours, np.log(1e-6), rtol=1e-6)


def test_log_mel_equals_the_one_of_torchaudio() -> None:
    from torchaudio.transforms import MelSpectrogram

    wave = np.random.default_rng(0).standard_normal((2, 8000)).astype(np.float32)
    theirs = MelSpectrogram(sample_rate=8000, n_fft=512, hop_length=160, n_mels=40)(torch.from_numpy(wave))
    ours = log_mel(wave, rate=8000)
    assert ours.shape == (2, 40, 51)
    np.testing.assert_allclose(ours, torch.log(theirs + 1e-6).numpy(), atol=1e-3)


def test_a_tone_peaks_in_its_bin() -> None:
    wave = np.sin(2 * np.pi * 1000 * np.arange(2000) / 8000)[None]
    middle = log_power_spectrogram(wave)[0, :, 8]
    assert middle.argmax() == 1000 // (8000 // 256) == 32

"""Sounds that are wrong, hostile or empty: skipped with the reason, or used and reported."""

from __future__ import annotations

import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from support.media import cut, make_video, make_wav, tone

from data_prep.media import ClipError, probe, read_audio, read_frames
from data_prep.media.sound import CANCELLED, SILENT

RATE = 16000


def refused(path: Path, rate: int | None = RATE) -> tuple[str, str]:
    with pytest.raises(ClipError) as caught:
        read_audio(path, rate=rate)
    return caught.value.reason, caught.value.detail


def write_wav(
    path: Path,
    samples: NDArray[Any],
    *,
    coding: int = 1,
    rate: int = RATE,
    byte_rate: int | None = None,
    more: bytes = b"",
) -> Path:
    """A WAV file of samples (S,) or (S, channels) of any type; `byte_rate` replaces the right one."""
    channels, width = (samples.shape[1] if samples.ndim == 2 else 1), samples.itemsize
    block = channels * width
    form = struct.pack(
        "<HHIIHH", coding, channels, rate, rate * block % 2**32 if byte_rate is None else byte_rate, block, 8 * width
    )
    content = samples.tobytes()
    chunks = b"fmt " + struct.pack("<I", 16) + form + more + b"data" + struct.pack("<I", len(content)) + content
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    return path


def integers(seconds: float = 1.0) -> NDArray[np.int16]:
    return np.round(tone(seconds, RATE) * 32767).astype("<i2")


@pytest.mark.parametrize("rate", [0, 1, 100, 1999, 768_001, 2**31, 2**32 - 1])
@pytest.mark.parametrize("kind", ["<i2", "<f4"])
def test_a_rate_that_no_recording_has_skips_the_clip_before_memory_is_taken(
    tmp_path: Path, rate: int, kind: str
) -> None:
    samples = (tone(1.0, RATE) * (1 if kind == "<f4" else 30000)).astype(kind)
    path = write_wav(tmp_path / "a.wav", samples, coding=3 if kind == "<f4" else 1, rate=rate)
    tracemalloc.start()
    assert refused(path) == ("absurd rate", f"the header says {rate} samples per second, not between 2000 and 768000")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_lengths_are_bounded_before_memory_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_prep.media.limits.MAX_SAMPLES", 20_000)
    path = make_wav(tmp_path / "a.wav", tone(1.0, RATE))
    assert len(read_audio(path, rate=RATE).samples) == RATE
    assert refused(path, 48_000) == ("absurd size", "1 s of sound at 48000 Hz, more than the 0 s allowed")
    assert refused(make_wav(tmp_path / "b.wav", tone(1.5, RATE)))[0] == "absurd size"
    assert refused(make_video(tmp_path / "c.mp4", seconds=1.0, audio="aac"))[0] == "absurd size"


def test_no_bit_of_a_header_can_be_flipped_unnoticed(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", integers(0.5))
    right, samples = path.read_bytes(), read_audio(path, rate=None).samples
    unnoticed = []
    for bit in range(8 * 44):
        content = bytearray(right)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(content))
        try:
            found = read_audio(path, rate=None)
        except ClipError:
            continue
        if found.rate != RATE or not np.array_equal(found.samples, samples):
            unnoticed.append(bit // 8)
    # A few bytes fewer or more at the end are no more than other sounds that end early.
    assert set(unnoticed) <= {40, 41}
    assert unnoticed.count(41) <= 5


@pytest.mark.parametrize(("kept", "is_used"), [(0.5, False), (0.85, False), (0.95, True)])
def test_a_short_wav_may_not_lack_more_than_a_fiftieth_of_a_second(tmp_path: Path, kept: float, is_used: bool) -> None:
    path = write_wav(tmp_path / "a.wav", integers(0.2))
    cut(path, kept)
    if is_used:
        assert len(read_audio(path, rate=RATE).samples) == pytest.approx(kept * 3200, abs=25)
    else:
        assert refused(path)[0] == "corrupt"


def test_a_header_that_contradicts_itself_says_how(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", integers(), rate=32_000, byte_rate=32_000)
    reason, detail = refused(path)
    assert reason == "corrupt"
    assert "contradicts itself: coding 1, 32000 Hz, 1 channels, 16 bits, but 2 bytes per sample and 32000" in detail


def test_integers_of_64_bits_skip_the_clip(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", integers().astype("<i8") * 2**40)
    reason, detail = refused(path)
    assert reason == "unreadable"
    assert "s64" in detail


@pytest.mark.parametrize(("kind", "bits"), [("<i4", 32), ("<f4", 32), ("<f8", 64), ("u1", 8)])
def test_samples_of_other_types_are_the_same_sound(tmp_path: Path, kind: str, bits: int) -> None:
    wave = tone(1.0, RATE)
    values = {"<i4": wave * (2**31 - 1), "<f4": wave, "<f8": wave, "u1": 128 + 127 * wave}[kind]
    rounded = np.round(values) if kind in ("<i4", "u1") else values
    path = write_wav(tmp_path / "a.wav", rounded.astype(kind), coding=3 if "f" in kind else 1)
    np.testing.assert_allclose(read_audio(path, rate=RATE).samples, wave, atol=2 / 2**8 if bits == 8 else 1e-6)


@pytest.mark.parametrize("kind", ["<f4", "<f8"])
@pytest.mark.parametrize("peak", [9000.0, -32768.0, 127.0, 1e30])
def test_floating_point_numbers_in_the_range_of_integers_skip_the_clip(tmp_path: Path, kind: str, peak: float) -> None:
    samples = (tone(1.0, RATE, amplitude=1.0) * peak).astype(kind)
    samples[1000] = peak
    reason, detail = refused(write_wav(tmp_path / "a.wav", samples, coding=3))
    assert reason == "out of range"
    assert f"its samples reach {abs(peak):.6g}, and full scale is 1: floating-point numbers in the range of" in detail


def test_a_sound_a_little_above_full_scale_is_clipped(tmp_path: Path) -> None:
    wave = tone(1.0, RATE, amplitude=1.5)
    found = read_audio(write_wav(tmp_path / "a.wav", wave.astype("<f4"), coding=3), rate=RATE)
    np.testing.assert_allclose(found.samples, np.clip(wave, -1, 1), atol=1e-6)
    assert found.findings == {}


@pytest.mark.parametrize("value", [0, 1, -7, 1200])
def test_a_sound_without_any_change_is_used_and_reported_as_silent(tmp_path: Path, value: int) -> None:
    path = write_wav(tmp_path / "a.wav", np.full(RATE, value, "<i2"))
    found = read_audio(path, rate=RATE)
    assert found.findings == {SILENT: 1}
    np.testing.assert_array_equal(found.samples, np.full(RATE, value / 32768, np.float32))
    one = np.zeros(RATE, "<i2")
    one[500] = 2
    assert read_audio(write_wav(tmp_path / "b.wav", one), rate=RATE).findings == {}


@pytest.mark.parametrize("name", ["a.wav", "a.mp4"])
def test_channels_that_cancel_each_other_are_used_and_reported(tmp_path: Path, name: str) -> None:
    left = tone(1.0, RATE)
    for share, findings in ((-1.0, {CANCELLED: 1}), (-0.9, {}), (0.0, {}), (1.0, {})):
        both = np.stack([left, share * left], axis=1)
        path = tmp_path / name
        if name == "a.wav":
            write_wav(path, np.round(both * 32767).astype("<i2"))
        else:
            encode_stereo(path, both)
        found = read_audio(path, rate=RATE)
        assert found.findings == findings
        if share == -1.0:
            assert np.abs(found.samples).max() < 0.01


def encode_stereo(path: Path, samples: NDArray[np.float64]) -> None:
    """An MP4 with the sound (S, 2) as AAC."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("aac", rate=RATE, layout="stereo")
        stream.codec_context.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(samples.T.astype(np.float32).copy(), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = RATE, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def test_silence_in_a_container_is_reported(tmp_path: Path) -> None:
    encode_stereo(tmp_path / "a.mp4", np.zeros((RATE, 2)))
    assert read_audio(tmp_path / "a.mp4", rate=RATE).findings == {SILENT: 1}


def test_a_sound_of_no_more_than_a_few_samples_is_too_short_or_used(tmp_path: Path) -> None:
    for count in range(1, 40):
        path = write_wav(tmp_path / "a.wav", np.arange(count).astype("<i2"), rate=768_000)
        try:
            assert 0 < len(read_audio(path, rate=2000).samples) <= 1
        except ClipError as error:
            assert error.reason == "too short"  # noqa: PT017 - both are right, depending on the resampler


def test_metadata_that_is_not_utf_8_does_no_harm(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.avi", codec="mpeg4", tag="DX50", audio="pcm_s16le")
    content = path.read_bytes()
    assert content.count(b"ISFT") == 1
    start = content.index(b"ISFT") + 8
    path.write_bytes(content[:start] + b"M\xe4dchen\xff" + content[start + 8 :])
    with pytest.raises(UnicodeDecodeError):
        av.open(str(path)).close()
    assert probe(path).video_codec == "mpeg4"
    assert read_frames(path, [0.1], size=(48, 64)).bad_packets == 0
    assert len(read_audio(path, rate=None).samples) == 44100


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    (tmp_path / "b.wav").symlink_to("/dev/zero")
    for name in ("a.wav", "b.wav"):
        assert refused(tmp_path / name) == ("unreadable", "it is not a regular file")
        with pytest.raises(ClipError, match="not a regular file"):
            probe(tmp_path / name)


def test_all_genuine_sounds_are_read_without_a_finding(shared: Path) -> None:
    paths = [*(shared / "data" / "cremad" / "AudioWAV").glob("*.wav"), *(shared / "data" / "kinetics").glob("*.mp4")]
    if not paths:
        pytest.skip(f"{shared / 'data'} has neither cremad nor kinetics")
    for path in paths:
        found = read_audio(path, rate=RATE)
        assert (found.bad_packets, found.findings) == (0, {}), path
        assert 0.02 < np.abs(found.samples).max() <= 1

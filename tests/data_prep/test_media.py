from __future__ import annotations

import wave
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from support.media import (
    LEVELS,
    NTSC,
    cut,
    frame_number,
    lfs_pointer,
    make_video,
    make_wav,
    scramble,
    tone,
)

from data_prep.media import ClipError, frame_times, probe, read_audio, read_frames
from data_prep.media.container import open_media, video_stream
from data_prep.media.decoding import Decoding
from drcli.errors import UsageError

SIZE = (48, 64)
CODECS: dict[str, dict[str, Any]] = {
    "clip.flv": {"codec": "flv", "rate": NTSC, "audio": "libmp3lame"},
    "--kSnd_-a01_000058_000068.mp4": {"audio": "aac", "channels": 2},
    "v_HandStandPushups_g01_c01.avi": {"codec": "mpeg4", "tag": "XVID"},
    "out_of_order.avi": {"codec": "mpeg4", "tag": "XVID", "options": {"bf": "2", "g": "12"}},
    "clip.mkv": {"audio": "libopus", "audio_rate": 48000},
    "Gesicht-ä-表情.mp4": {"audio": "aac"},
}


def centres(count: int) -> Any:
    return partial(frame_times, count=count)


def refused(path: Path, reason: str, **options: Any) -> str:
    with pytest.raises(ClipError) as caught:
        read_frames(path, options.pop("times", centres(4)), size=SIZE)
    assert caught.value.reason == reason, caught.value.args
    return caught.value.detail


@pytest.mark.parametrize("name", CODECS)
def test_the_frame_shown_at_each_wanted_time_is_found(tmp_path: Path, name: str) -> None:
    options = {"rate": 25, **CODECS[name]}
    path = make_video(tmp_path / name, seconds=2.0, **options)
    found = read_frames(path, centres(5), size=SIZE)
    rate = float(options["rate"])
    assert found.pixels.shape == (5, 3, *SIZE)
    assert found.pixels.dtype == np.uint8
    assert found.duration == pytest.approx(2.0, abs=0.01)
    assert found.bad_packets == found.damaged == 0
    for picture, time in zip(found.pixels, frame_times(found.duration, count=5), strict=True):
        shown = {int(time * rate + late) % LEVELS for late in (-0.1, 0.1)}  # FLV and Matroska round to milliseconds
        assert frame_number(picture) in shown


def test_times_may_be_given_in_any_order_and_twice(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4", rate=10)
    found = read_frames(path, [0.55, 0.0, 0.55, 0.3], size=SIZE)
    assert [frame_number(picture) for picture in found.pixels] == [5, 0, 5, 3]


def test_a_variable_frame_rate_is_sampled_by_time(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4", times=[0, 0.1, 0.5, 0.6, 1.2, 1.25])
    found = read_frames(path, [0.0, 0.45, 0.5, 0.55, 1.15, 1.22], size=SIZE)
    assert [frame_number(picture) for picture in found.pixels] == [0, 1, 2, 2, 3, 4]


def test_time_zero_is_the_first_frame(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mkv", times=[3.0, 3.1, 3.2, 3.3])
    found = read_frames(path, [0.0, 0.15, 0.3], size=SIZE)
    assert [frame_number(picture) for picture in found.pixels] == [0, 1, 3]
    assert found.duration == pytest.approx(0.4, abs=0.11)


@pytest.mark.parametrize(("degrees", "corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_a_rotated_clip_comes_out_upright(tmp_path: Path, degrees: int, corner: tuple[int, int]) -> None:
    path = make_video(tmp_path / "clip.mp4", size=(48, 96), rotation=degrees)
    pixels = read_frames(path, [0.0], size=(64, 32)).pixels[0]
    assert pixels.shape == (3, 64, 32)
    marks = {(y, x): int(pixels[0, y, x]) for y in (0, -1) for x in (0, -1)}
    assert max(marks, key=lambda place: marks[place]) == corner
    assert probe(path).rotation % 360 == -degrees % 360


def test_pictures_are_resized_whole_whatever_their_proportions(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4", size=(96, 64))
    pixels = read_frames(path, [0.0], size=(24, 40)).pixels[0]
    assert pixels[:, :5, :9].min() > 200
    assert pixels[:, 8:, 12:].max() < 60


def test_probe_tells_what_the_file_says(tmp_path: Path) -> None:
    flv = probe(make_video(tmp_path / "a.flv", codec="flv", rate=NTSC, size=(360, 480), audio="libmp3lame"))
    assert (flv.width, flv.height, flv.has_audio, flv.rotation) == (480, 360, True, 0)
    assert (flv.video_codec, flv.audio_codec) == ("flv", "mp3float")
    assert flv.rate == pytest.approx(29.97, abs=0.1)
    silent = probe(make_video(tmp_path / "b.mp4", rate=10))
    assert (silent.duration, silent.rate, silent.has_audio, silent.audio_codec) == (1.0, 10.0, False, None)
    sound = probe(make_wav(tmp_path / "c.wav", tone(0.5, 16000)))
    assert (sound.duration, sound.width, sound.video_codec, sound.audio_codec) == (0.5, 0, None, "pcm_s16le")


def test_frame_times_are_every_second_or_centres_of_segments() -> None:
    assert frame_times(3.5, rate=1) == [0.0, 1.0, 2.0, 3.0]
    assert frame_times(3.0, rate=1) == [0.0, 1.0, 2.0]
    assert frame_times(0.5, rate=2) == [0.0]
    assert frame_times(4.0, count=2) == [1.0, 3.0]


def test_memory_does_not_grow_with_the_length_of_a_clip(tmp_path: Path) -> None:
    import tracemalloc

    def peak(seconds: float) -> int:
        path = make_video(tmp_path / f"{seconds}.mp4", seconds=seconds, rate=25, size=(96, 128))
        tracemalloc.start()
        read_frames(path, centres(4), size=(96, 128))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(20) < 1.2 * peak(2)


# Hostile files


def test_an_empty_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    assert "empty" in refused(tmp_path / "clip.mp4", "unreadable")


def test_text_renamed_to_mp4_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_text("<html>404 Not Found</html>\n" * 40)
    refused(tmp_path / "clip.mp4", "unreadable")
    refused(tmp_path / "absent.mp4", "unreadable")
    refused(tmp_path, "unreadable")


def test_a_play_list_is_not_followed(tmp_path: Path) -> None:
    make_video(tmp_path / "other.mp4")
    (tmp_path / "clip.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n")
    refused(tmp_path / "clip.mp4", "unreadable")
    (tmp_path / "clip.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
    refused(tmp_path / "clip.mp4", "unreadable")


def test_an_lfs_pointer_is_recognised(tmp_path: Path) -> None:
    assert "git lfs pull" in refused(lfs_pointer(tmp_path / "clip.flv"), "lfs pointer")
    with pytest.raises(ClipError, match="lfs pointer"):
        read_audio(lfs_pointer(tmp_path / "clip.wav"), rate=None)


def test_a_file_cut_before_its_index_is_unreadable(tmp_path: Path) -> None:
    path = cut(make_video(tmp_path / "clip.mp4", seconds=2.0), 0.5)
    assert "Invalid data" in refused(path, "unreadable")


@pytest.mark.parametrize(
    ("name", "options", "share"),
    [
        ("clip.mp4", {"options": {"x264-params": "keyint=10"}, "faststart": True}, 0.8),
        ("clip.avi", {"codec": "mpeg4", "tag": "XVID"}, 0.5),
        ("clip.flv", {"codec": "flv", "audio": "libmp3lame"}, 0.5),
        ("clip.mkv", {}, 0.5),
    ],
)
def test_a_clip_cut_short_lacks_its_last_times(
    tmp_path: Path, name: str, options: dict[str, Any], share: float
) -> None:
    path = make_video(tmp_path / name, seconds=4.0, **options)
    cut(path, share)
    early = read_frames(path, [0.2], size=SIZE)
    assert frame_number(early.pixels[0]) == 5
    assert "missing" in refused(path, "corrupt")


def test_a_wanted_time_inside_the_damage_is_missing_and_one_outside_is_not(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4", seconds=4.0, rate=10, options={"g": "5", "bf": "0"}, size=(96, 128))
    scramble(path, 0.4, 0.5)
    assert "did not decode" in refused(path, "corrupt", times=frame_times(4.0, rate=10))
    found = read_frames(path, [0.0, 3.9], size=SIZE)
    assert [frame_number(picture) for picture in found.pixels] == [0, 39]
    assert found.bad_packets + found.damaged > 0


def test_a_video_without_sound_and_a_sound_without_video(tmp_path: Path) -> None:
    with pytest.raises(ClipError) as caught:
        read_audio(make_video(tmp_path / "clip.mp4"), rate=16000)
    assert caught.value.reason == "no audio stream"
    refused(make_wav(tmp_path / "clip.wav", tone(0.5, 16000)), "no video stream")


def test_a_video_without_frames_is_too_short(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        output.start_encoding()
    with pytest.raises(ClipError) as caught:
        read_frames(path, centres(2), size=SIZE)
    assert caught.value.reason in ("too short", "unreadable")


def test_an_absurd_size_in_the_header_is_refused(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.avi", codec="ffvhuff")
    content = bytearray(path.read_bytes())
    start = content.index(b"strf") + 8 + 4
    content[start : start + 8] = (12000).to_bytes(4, "little") * 2
    path.write_bytes(bytes(content))
    assert "12000 x 12000" in refused(path, "absurd size")
    content[start : start + 8] = (60000).to_bytes(4, "little") * 2  # more than FFmpeg itself accepts
    path.write_bytes(bytes(content))
    refused(path, "corrupt")


def test_without_pyav_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UsageError, match=r"pip install 'drcli\[media\]'"):
        read_frames(tmp_path / "clip.mp4", [0.0], size=SIZE)


# Sound


def test_a_wav_of_the_wanted_rate_is_read_exactly(tmp_path: Path) -> None:
    samples = tone(1.0, 16000)
    found = read_audio(make_wav(tmp_path / "a.wav", samples), rate=16000)
    assert (found.rate, found.bad_packets, found.samples.dtype) == (16000, 0, np.dtype(np.float32))
    np.testing.assert_allclose(found.samples, np.round(samples * 32767) / 32768, atol=1e-7)


def test_ffmpeg_reads_a_wav_as_the_standard_library_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_wav(tmp_path / "a.wav", tone(1.0, 44100), rate=44100, channels=2)
    direct = read_audio(path, rate=16000)
    monkeypatch.setattr("data_prep.media.sound.read_pcm", lambda _: None)
    np.testing.assert_allclose(read_audio(path, rate=16000).samples, direct.samples, atol=1e-6)


@pytest.mark.parametrize("name", ["clip.flv", "--kSnd_-a01_000058_000068.mp4", "clip.mkv"])
def test_the_sound_of_a_container_keeps_pitch_level_and_length(tmp_path: Path, name: str) -> None:
    path = make_video(tmp_path / name, seconds=2.0, frequency=1000.0, **CODECS[name])
    samples = read_audio(path, rate=16000).samples
    assert len(samples) == pytest.approx(32000, abs=1600)
    spectrum = np.abs(np.fft.rfft(samples[8000:24000]))
    assert spectrum.argmax() == 1000
    assert np.sqrt(np.mean(samples[8000:24000] ** 2)) == pytest.approx(
        0.5 / np.sqrt(2), rel=0.06
    )  # LAME scales by 0.95


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as stream:
        stream.setparams((2, 2, 8000, 0, "NONE", ""))
        stream.writeframes(np.array([[16384, 0], [-8192, -8192]] * 400, "<i2").tobytes())
    np.testing.assert_array_equal(read_audio(path, rate=None).samples[:2], [0.25, -0.25])


def test_reading_stops_after_the_seconds_asked_for(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mp4", seconds=3.0, audio="aac", audio_rate=48000)
    whole, start = (read_audio(path, rate=16000, seconds=seconds).samples for seconds in (None, 1.0))
    assert len(start) == 16000
    np.testing.assert_allclose(start[:15000], whole[:15000], atol=1e-6)


def test_a_wav_cut_short_is_corrupt_and_an_empty_one_too_short(tmp_path: Path) -> None:
    path = cut(make_wav(tmp_path / "a.wav", tone(2.0, 16000)), 0.5)
    with pytest.raises(ClipError, match=r"ends after 1\.00 s of 2\.00 s"):
        read_audio(path, rate=16000)
    with pytest.raises(ClipError) as caught:
        read_audio(make_wav(tmp_path / "b.wav", tone(0.0, 16000)), rate=16000)
    assert caught.value.reason == "too short"


def test_samples_that_are_not_finite_are_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    values = np.zeros((1, 8000), np.float32)
    values[0, 100] = np.nan
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_f32le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(values, format="flt", layout="mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
    with pytest.raises(ClipError, match="not finite"):
        read_audio(path, rate=None)


# Real clips; sizes and lengths as recorded where they came from


REAL = {
    "mmaction2_test.avi": (320, 240, 25.0, 164, 6.56),
    "mmaction2_part_0.mp4": (340, 256, 30.0, 32, 1.067),
    "mmaction2_demo_spatiotemporal_det.mp4": (340, 256, 6.0, 57, 9.5),
    "decord_flipping_a_pancake.mkv": (426, 240, 30.0, 310, 10.381),
    "decord_corrupted.mp4": (1280, 720, 10.0, 49, 5.0),
}


@pytest.fixture(scope="module")
def real(shared: Path) -> Path:
    return shared / "data" / "media"


@pytest.mark.parametrize("name", REAL)
def test_real_clips_have_the_recorded_frames_size_and_length(real: Path, name: str) -> None:
    width, height, rate, count, seconds = REAL[name]
    info = probe(real / name)
    assert (info.width, info.height) == (width, height)
    assert info.rate == pytest.approx(rate)
    assert info.duration == pytest.approx(seconds, abs=0.001)
    with open_media(real / name) as container:
        assert sum(1 for _ in Decoding(container, video_stream(container)).decoded()) == count
    found = read_frames(real / name, centres(4), size=SIZE)
    assert found.duration == pytest.approx(seconds, abs=0.06)
    assert found.pixels.std() > 10


def test_the_corrupt_clips_bad_packet_is_reported(real: Path) -> None:
    found = read_frames(real / "decord_corrupted.mp4", [0.0, 2.9, 4.9], size=SIZE)
    assert found.bad_packets == 1
    assert "3.00 s did not decode" in refused(real / "decord_corrupted.mp4", "corrupt", times=[3.0])


def test_real_sound_has_the_recorded_length(real: Path) -> None:
    found = read_audio(real / "decord_flipping_a_pancake.mkv", rate=None)
    assert (found.rate, found.bad_packets) == (48000, 0)
    assert len(found.samples) / 48000 == pytest.approx(10.381, abs=0.02)
    avi = read_audio(real / "mmaction2_test.avi", rate=None)
    assert avi.rate == 44100
    assert len(avi.samples) / 44100 == pytest.approx(6.56, abs=0.03)

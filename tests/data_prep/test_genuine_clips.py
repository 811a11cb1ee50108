"""Genuine clips through the preparers: every stored picture is the one that the decoder hands out at its place."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from support.command_line import tree
from support.genuine import EMOTIONS, FRAMES, existing, in_order, link, link_cremad
from support.kinetics_tree import annotation

from data_prep.cremad import Cremad
from data_prep.kinetics_sounds import KineticsSounds
from data_prep.media import read_audio
from data_prep.media.audio import fbank
from data_prep.media.length import video_seconds
from data_prep.ucf101 import Ucf101
from drcli.data.format import SPLITS, DatasetInfo

SIZE = (48, 64)
THREE = ("1001", "1002", "1003")
STORED = 100  # pictures of a clip: more than it has, so that every one is stored
SPEAKERS = {"split": "speaker", "frame_size": SIZE}


@pytest.fixture(scope="module")
def clone(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CREMA-D by three speakers."""
    folder = tmp_path_factory.mktemp("cremad") / "clone"
    link_cremad(shared, folder, THREE)
    return folder


@pytest.fixture(scope="module")
def prepared(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[DatasetInfo, Path]:
    """The same, prepared."""
    out = tmp_path_factory.mktemp("cremad") / "out"
    return prepare_cremad(clone, out), out


def prepare_cremad(source: Path, out: Path) -> DatasetInfo:
    settings = Cremad.Settings.model_validate({**SPEAKERS, "frames": STORED})
    return Cremad(settings).run(source=source, out=out)


def rows(out: Path) -> list[tuple[str, np.ndarray, np.ndarray, int]]:
    """(id, audio, visual, label) of every row."""
    found = []
    for split in SPLITS:
        audio, visual, labels = (np.load(out / split / f"{name}.npy") for name in ("audio", "visual", "labels"))
        found += list(zip((out / split / "ids.txt").read_text().split(), audio, visual, labels.tolist(), strict=True))
    return found


def test_the_genuine_recordings_of_cremad_are_in_the_published_formats(shared: Path) -> None:
    data = existing(shared / "data" / "cremad")
    for emotion, count in FRAMES.items():
        path = data / "VideoFlash" / f"1001_DFA_{emotion}_XX.flv"
        with av.open(str(path)) as container:
            video, sound = container.streams.video[0], container.streams.audio[0]
            assert (video.codec_context.name, video.width, video.height) == ("vp6f", 480, 360)
            assert (sound.codec_context.name, sound.rate, sound.channels) == ("mp3float", 44100, 1)
        assert video_seconds(path) == pytest.approx(count * 1001 / 30000, abs=0.04)


@pytest.mark.slow
def test_every_picture_of_cremad_is_stored_in_the_decoders_order(
    clone: Path, prepared: tuple[DatasetInfo, Path]
) -> None:
    info, out = prepared
    assert (info.rows, info.source["skipped"]) == (dict.fromkeys(SPLITS, 6), [])
    decoded = {e: in_order(clone / "VideoFlash" / f"1001_DFA_{e}_XX.flv", SIZE) for e in EMOTIONS}
    assert {e: len(pictures) for e, (pictures, _) in decoded.items()} == FRAMES
    for name, _, visual, label in rows(out):
        pictures, rate = decoded[name[9:12]]
        assert rate == pytest.approx(30000 / 1001, abs=0.001)
        assert EMOTIONS[label] == name[9:12]
        wanted = (np.arange(STORED) + 0.5) * len(pictures) / STORED  # in frames; the container counts in milliseconds
        places = [
            next(k for k in (int(w), int(w + 0.05), int(w - 0.05)) if np.array_equal(pictures[k], picture))
            for w, picture in zip(wanted, visual, strict=True)
        ]
        assert set(places) == set(range(len(pictures)))


@pytest.mark.slow
def test_the_sound_of_cremad_is_the_wavs_and_lasts_as_long(clone: Path, prepared: tuple[DatasetInfo, Path]) -> None:
    for name, audio, _, _ in rows(prepared[1]):
        path = clone / "AudioWAV" / f"{name}.wav"
        sound = read_audio(path, rate=16000)
        assert len(sound.samples) == (path.stat().st_size - 44) // 2 or name[9:12] not in {"ANG", "SAD"}
        np.testing.assert_array_equal(audio, fbank(sound.samples).astype(np.float16))
    sound = read_audio(clone / "AudioWAV" / "1001_DFA_ANG_XX.wav", rate=16000)
    assert len(sound.samples) / 16000 == pytest.approx(2.2756, abs=1e-4)


@pytest.mark.slow
def test_cremads_speakers_are_kept_apart_and_two_runs_are_equal_byte_for_byte(
    clone: Path, prepared: tuple[DatasetInfo, Path], tmp_path: Path
) -> None:
    homes = [{name[:4] for name in (prepared[1] / split / "ids.txt").read_text().split()} for split in SPLITS]
    assert sorted(map(len, homes)) == [1, 1, 1]
    assert set.union(*homes) == set(THREE)
    prepare_cremad(clone, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(prepared[1])


CLIPS = {
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01": ("media/mmaction2_test.avi", 164),
    "BaseballPitch/v_BaseballPitch_g01_c01": ("ucf101/v_BaseballPitch_g01_c01.avi", 107),
    "SoccerJuggling/v_SoccerJuggling_g23_c01": ("ucf101/v_SoccerJuggling_g23_c01.avi", 240),
}


@pytest.mark.slow
def test_genuine_clips_of_ucf101_become_the_decoders_pictures(shared: Path, tmp_path: Path) -> None:
    """Each under the names of a training, a validation and a test group; packed B-frames in the first."""
    source, lists = tmp_path / "download", tmp_path / "download" / "ucfTrainTestlist"
    names = {}
    for name, (file, _) in CLIPS.items():
        folder, stem = name.split("/")
        for group in ("08", "24", "01"):
            copy = f"{folder}/{stem.replace('_g01_', f'_g{group}_').replace('_g23_', f'_g{group}_')}"
            names[copy] = link(shared / "data" / file, source / "UCF-101" / f"{copy}.avi")
    lists.mkdir()
    order = sorted({name.split("/")[0] for name in CLIPS})
    (lists / "classInd.txt").write_text("".join(f"{k + 1} {name}\r\n" for k, name in enumerate(order)))
    train = [f"{n}.avi {order.index(n.split('/')[0]) + 1}\r\n" for n in names if "_g01_" not in n]
    (lists / "trainlist01.txt").write_text("".join(train))
    (lists / "testlist01.txt").write_text("".join(f"{n}.avi\r\n" for n in names if "_g01_" in n))
    settings = Ucf101.Settings(frame_size=SIZE, positions=4, val_groups=(24,), flow="dis")
    info = Ucf101(settings).run(source=source, out=tmp_path / "out", warn=lambda _: None)
    assert (info.rows, info.source["skipped"]) == (dict.fromkeys(SPLITS, 3), [])
    for split in SPLITS:
        stored = np.load(tmp_path / "out" / split / "rgb.npy")
        for name, pictures in zip((tmp_path / "out" / split / "ids.txt").read_text().split(), stored, strict=True):
            ((file, count),) = [value for key, value in CLIPS.items() if key.split("/")[0] in name]
            decoded, _ = in_order(shared / "data" / file, SIZE)
            assert len(decoded) == count
            for k, picture in enumerate(pictures):
                same = [place for place, other in enumerate(decoded) if np.array_equal(picture, other)]
                assert len(same) == 1
                assert k * count / 4 <= same[0] <= (k + 1) * count / 4


@pytest.mark.slow
def test_genuine_clips_of_kinetics_become_sound_and_the_decoders_pictures(shared: Path, tmp_path: Path) -> None:
    data = existing(shared / "data" / "kinetics")
    source, classes = tmp_path / "download", ("bowling", "tap dancing")
    videos = ("R6llTwEh07w", "SOX5yA1l24A")
    origin = {}
    for split in SPLITS:
        lines = []
        for label, video in enumerate(videos):
            copy = f"-{split[:2]}{video[3:]}"
            origin[copy] = data / f"{video}.mp4"
            link(origin[copy], source / split / f"{copy}_000005_000015.mp4")
            lines.append((classes[label], copy, 5, 15, split, 0))
        (source / "annotations").mkdir(exist_ok=True)
        (source / "annotations" / f"kinetics-400_{split}.csv").write_text(annotation(lines))
    settings = KineticsSounds.Settings(classes=classes, frames=5, frame_size=SIZE)
    info = KineticsSounds(settings).run(source=source, out=tmp_path / "out", warn=lambda _: None)
    assert (info.rows, info.source["skipped"]) == (dict.fromkeys(SPLITS, 2), [])
    for name, audio, visual, label in rows(tmp_path / "out"):
        decoded, _ = in_order(origin[name], SIZE)
        assert name[-1] == videos[label][-1]
        assert np.isfinite(audio).all()
        assert audio.std() > 0.05
        places = [next(k for k, other in enumerate(decoded) if np.array_equal(picture, other)) for picture in visual]
        bounds = np.linspace(0, len(decoded), 6)
        assert all(low <= place <= high for low, place, high in zip(bounds, places, bounds[1:], strict=False))

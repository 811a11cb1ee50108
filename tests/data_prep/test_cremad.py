from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command_line import tree
from support.cremad_tree import ACTORS, EMOTIONS, make_cremad, make_lists, make_recording, stems, write_list
from support.media import cut, frame_number, lfs_pointer, make_wav, tone

from data_prep.cremad import Cremad
from data_prep.media import read_audio
from data_prep.media.audio import fbank, stft
from data_prep.sources.cremad_files import BROKEN, find_recordings
from data_prep.sources.cremad_splits import read_splits, split_clips, split_speakers
from drcli.data.format import SPLITS, DatasetInfo
from drcli.errors import DataError

SMALL = {"frames": 4, "frame_size": (32, 40)}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five actors, six emotions; not to be changed."""
    source = tmp_path_factory.mktemp("cremad") / "clone"
    make_cremad(source)
    make_lists(source / "lists", stems())
    return source


@pytest.fixture
def changed(clone: Path, tmp_path: Path) -> Path:
    """A copy of the clone."""
    return Path(shutil.copytree(clone, tmp_path / "clone"))


def prepare(source: Path, out: Path, *, options: dict[str, Any] | None = None, **settings: Any) -> DatasetInfo:
    defaults = {**SMALL, "split_dir": source / "lists"}
    model = Cremad.Settings.model_validate({**defaults, **settings})
    return Cremad(model).run(source=source, out=out, **(options or {}))


def ids(out: Path, split: str) -> list[str]:
    return (out / split / "ids.txt").read_text().split()


def refused(source: Path, out: Path, match: str, **settings: Any) -> None:
    with pytest.raises(DataError, match=match):
        prepare(source, out, **settings)


def test_recordings_become_rows_with_their_emotion_sound_and_pictures(clone: Path, tmp_path: Path) -> None:
    info = prepare(clone, tmp_path / "out")
    assert info.classes == EMOTIONS
    assert info.rows == {"train": 18, "val": 6, "test": 6}
    assert info.modalities["audio"].shape == (1, 128, 1024)
    assert info.modalities["visual"].shape == (4, 3, 32, 40)
    assert info.modalities["visual"].kind == "frames"
    assert info.modalities["visual"].mean[0] == pytest.approx(123.675)
    names = ids(tmp_path / "out", "train")
    labels = np.load(tmp_path / "out" / "train" / "labels.npy")
    assert [EMOTIONS[label] for label in labels] == [name[9:12] for name in names]
    audio, visual = (np.load(tmp_path / "out" / "train" / f"{m}.npy") for m in ("audio", "visual"))
    # 39 frames of 1.3 s; the centres of four segments.
    assert [frame_number(picture) for picture in visual[0]] == [4, 14, 24, 34]
    for row, name in enumerate(names[:3]):
        wave = read_audio(clone / "AudioWAV" / f"{name}.wav", rate=16000).samples
        np.testing.assert_array_equal(audio[row], fbank(wave).astype(np.float16))


def test_the_fingerprint_of_the_decoders_and_the_counts_are_kept(clone: Path, tmp_path: Path) -> None:
    source = prepare(clone, tmp_path / "out").source
    assert source["recordings"] == source["clips"] == 30
    assert set(source["decoders"]) == {"decoding", "av", "libavcodec", "libswscale", "torchaudio"}
    assert source["skipped"] == source["known_broken"] == source["same_sound"] == []


def test_stft_is_stored_when_asked_for(clone: Path, tmp_path: Path) -> None:
    info = prepare(clone, tmp_path / "out", audio="stft")
    assert info.modalities["audio"].shape == (1, 257, 188)
    name = ids(tmp_path / "out", "val")[0]
    wave = read_audio(clone / "AudioWAV" / f"{name}.wav", rate=22050).samples
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "val" / "audio.npy")[0], stft(wave).astype(np.float16))


def test_class_order_may_be_that_of_ogm(clone: Path, tmp_path: Path) -> None:
    info = prepare(clone, tmp_path / "out", class_order="ogm", frames=1)
    assert info.classes == ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
    labels = np.load(tmp_path / "out" / "test" / "labels.npy")
    assert [info.classes[label] for label in labels] == [name[9:12] for name in ids(tmp_path / "out", "test")]


@pytest.mark.slow
def test_two_workers_and_mp4_in_another_folder_change_nothing_but_pictures(clone: Path, tmp_path: Path) -> None:
    prepare(clone, tmp_path / "one")
    prepare(clone, tmp_path / "two", options={"workers": 2})
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_mp4_re_encodings_serve_where_the_flv_is_missing(changed: Path, tmp_path: Path) -> None:
    stem = stems()[0]
    (changed / "VideoFlash" / f"{stem}.flv").unlink()
    make_recording(tmp_path / "extra", stem, video="mp4")
    (changed / "VideoMP4").mkdir()
    shutil.move(tmp_path / "extra" / "VideoFlash" / f"{stem}.mp4", changed / "VideoMP4" / f"{stem}.mp4")
    prepare(changed, tmp_path / "out")
    assert stem in ids(tmp_path / "out", "train")


def test_noise_on_the_waveform_reaches_only_the_named_splits(clone: Path, tmp_path: Path) -> None:
    prepare(clone, tmp_path / "clean", frames=1)
    prepare(clone, tmp_path / "noisy", frames=1, waveform_snr_db=-10.0, waveform_noise_splits=("train",))
    clean, noisy = tree(tmp_path / "clean"), tree(tmp_path / "noisy")
    assert {path for path in clean if clean[path] != noisy[path]} == {"dataset.json", "train/audio.npy"}
    name = ids(tmp_path / "noisy", "train")[0]
    alone = prepare(clone, tmp_path / "less", frames=1, waveform_snr_db=-10.0, options={"limit": 24})
    row = ids(tmp_path / "less", "train").index(name) if name in ids(tmp_path / "less", "train") else None
    assert alone.source["limit"] == 24
    if row is not None:
        first = np.load(tmp_path / "noisy" / "train" / "audio.npy")[0]
        np.testing.assert_array_equal(np.load(tmp_path / "less" / "train" / "audio.npy")[row], first)


def test_limit_keeps_splits_and_classes_in_their_shares(clone: Path, tmp_path: Path) -> None:
    info = prepare(clone, tmp_path / "out", frames=1, options={"limit": 20})
    assert info.rows == {"train": 12, "val": 4, "test": 4}
    assert np.bincount(np.load(tmp_path / "out" / "train" / "labels.npy")).tolist() == [2] * 6


# Splits


def recordings(actors: int = 91, sentences: int = 12) -> list[Any]:
    from data_prep.sources.cremad_files import Recording

    codes = [f"S{chr(65 + i)}X" for i in range(sentences)]
    names = [f"{1001 + a}_{s}_{e}_XX" for a in range(actors) for s in codes for e in EMOTIONS]
    return [Recording(name, Path(), Path()) for name in sorted(names)]


def test_the_seeded_split_has_the_literatures_sizes_and_equal_classes() -> None:
    chosen = recordings(104)[:7442]
    parts = split_clips(chosen, seed=0)
    assert {split: len(names) for split, names in parts.items()} == {"train": 5954, "val": 744, "test": 744}
    assert len(set().union(*parts.values())) == 7442
    for names in parts.values():
        counts = np.unique([name[9:12] for name in names], return_counts=True)[1]
        assert np.ptp(counts) <= 3
    assert {name[:4] for name in parts["test"]} <= {name[:4] for name in parts["train"]}
    assert split_clips(chosen, seed=0) == parts != split_clips(chosen, seed=1)


def test_the_speaker_split_shares_no_speaker() -> None:
    parts = split_speakers(recordings(), seed=0)
    actors = {split: {name[:4] for name in names} for split, names in parts.items()}
    assert {split: len(found) for split, found in actors.items()} == {"train": 73, "val": 9, "test": 9}
    assert len(set().union(*actors.values())) == 91
    few = split_speakers(recordings(3, 1), seed=0)
    assert all(len({name[:4] for name in names}) == 1 for names in few.values())
    with pytest.raises(DataError, match="needs 3 speakers or more, the download has 2"):
        split_speakers(recordings(2, 1), seed=0)


def test_a_speaker_split_of_a_download(clone: Path, tmp_path: Path) -> None:
    prepare(clone, tmp_path / "out", frames=1, split_dir=None, split="speaker")
    actors = [{name[:4] for name in ids(tmp_path / "out", split)} for split in SPLITS]
    assert [len(found) for found in actors] == [3, 1, 1]
    assert set.union(*actors) == set(ACTORS)


@pytest.mark.parametrize(
    "variant", [{}, {"header": True, "eol": "\r\n"}, {"bom": True}, {"header": True, "bom": True, "eol": "\r\n"}]
)
def test_the_authors_lists_are_read_as_they_come(tmp_path: Path, variant: dict[str, Any]) -> None:
    names = stems()
    make_lists(tmp_path, names)
    write_list(tmp_path / "my_train.csv", names[:18], **variant)
    found = read_splits(tmp_path, seed=0)
    assert [name for name, _ in found["train"]] == names[:18]
    assert found["val"][2] == (names[20], f"{tmp_path / 'val.csv'}:3")


def test_the_full_training_list_loses_the_validation_clips(tmp_path: Path) -> None:
    names = stems()
    write_list(tmp_path / "train.csv", names[:24])
    write_list(tmp_path / "val.csv", names[18:24])
    write_list(tmp_path / "test.csv", names[24:])
    found = read_splits(tmp_path, seed=0)
    assert [name for name, _ in found["train"]] == names[:18]


def test_without_a_validation_list_one_is_drawn_like_test(tmp_path: Path) -> None:
    names = stems()
    write_list(tmp_path / "train.csv", names[:24], eol="\r\n")
    write_list(tmp_path / "test.csv", [*names[24:28], names[29]], eol="\r\n")
    found = read_splits(tmp_path, seed=0)
    assert sorted(name[9:12] for name, _ in found["val"]) == sorted(name[9:12] for name, _ in found["test"])
    assert {name for name, _ in found["train"]} == set(names[:24]) - {name for name, _ in found["val"]}
    assert found == read_splits(tmp_path, seed=0) != read_splits(tmp_path, seed=5)


def test_lists_with_suffixes_spaces_and_full_words_are_read(tmp_path: Path) -> None:
    words = {"ANG": "Anger", "DIS": "Disgust", "FEA": "Fear", "HAP": "Happy", "NEU": "Neutral", "SAD": "Sad"}
    names = stems()
    for file, part in (("my_train_cre.txt", names[:24]), ("my_test_cre.txt", names[24:])):
        (tmp_path / file).write_text("\n".join(f"{name}.flv {words[name[9:12]]}" for name in part))
    found = read_splits(tmp_path, seed=0)
    assert [len(found[split]) for split in SPLITS] == [18, 6, 6]


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("../1001_IEO_ANG_XX,ANG", r"val\.csv:2: '\.\./1001_IEO_ANG_XX' is not the relative path"),
        ("/etc/1001_IEO_ANG_XX,ANG", r"val\.csv:2: '/etc/1001_IEO_ANG_XX' is not the relative path"),
        ("1004_IEO_JOY_XX,JOY", r"val\.csv:2: '1004_IEO_JOY_XX' is not the name of a recording"),
        ("1004_IEO_ANG_XX,JOY", r"val\.csv:2: label 'JOY' is not one of ANG, DIS"),
        ("1004_IEO_ANG_XX,SAD", r"val\.csv:2: label 'SAD' contradicts the name 1004_IEO_ANG_XX"),
        ("1004_IEO_ANG_XX", r"val\.csv:2: '1004_IEO_ANG_XX' is not NAME,LABEL"),
        ("1004_IEO_SAD_XX,SAD", r"val\.csv:2: clip 1004_IEO_SAD_XX is listed before, at .*val\.csv:1"),
        ("1001_IEO_ANG_XX,ANG", r"val\.csv:2: clip 1001_IEO_ANG_XX is listed before, at .*my_train\.csv:1"),
    ],
)
def test_a_list_that_is_wrong_is_refused_with_file_and_line(tmp_path: Path, line: str, match: str) -> None:
    make_lists(tmp_path, stems())
    (tmp_path / "val.csv").write_text(f"1004_IEO_SAD_XX,SAD\n{line}\n")
    with pytest.raises(DataError, match=match):
        read_splits(tmp_path, seed=0)


def test_lists_that_are_missing_or_empty_are_named(clone: Path, tmp_path: Path) -> None:
    refused(clone, tmp_path / "out", "no my_train.csv or train.csv", split_dir=tmp_path)
    make_lists(tmp_path, stems())
    (tmp_path / "val.csv").write_text("name,label\n")
    refused(clone, tmp_path / "out", r"val\.csv: lists no clip", split_dir=tmp_path)


# Downloads with something wrong


def test_listed_clips_that_are_not_in_the_download_count_against_max_bad(changed: Path, tmp_path: Path) -> None:
    (changed / "VideoFlash" / "1002_IEO_SAD_XX.flv").unlink()
    refused(changed, tmp_path / "out", r"1 of 30 recordings are missing.*1002_IEO_SAD_XX.*my_train\.csv:12.*no video")
    lines: list[str] = []
    info = prepare(changed, tmp_path / "out", options={"max_bad": 0.05, "warn": lines.append})
    assert info.rows["train"] == 17
    assert "1002_IEO_SAD_XX is left out" in lines[0]
    assert list(info.source["missing"]) == ["1002_IEO_SAD_XX"]


def test_without_lists_a_missing_file_counts_too(changed: Path, tmp_path: Path) -> None:
    (changed / "AudioWAV" / "1002_IEO_SAD_XX.wav").unlink()
    refused(changed, tmp_path / "out", "no AudioWAV", split_dir=None)


def test_recordings_in_no_list_are_counted(changed: Path, tmp_path: Path) -> None:
    make_recording(changed, "1006_IEO_SAD_XX")
    lines: list[str] = []
    info = prepare(changed, tmp_path / "out", options={"warn": lines.append})
    assert "1 recordings of the download are in no split" in lines[0]
    assert info.source["clips"] == 30


def test_lfs_pointers_are_refused_with_the_command(changed: Path, tmp_path: Path) -> None:
    for stem in stems()[:2]:
        lfs_pointer(changed / "VideoFlash" / f"{stem}.flv")
    refused(changed, tmp_path / "out", "2 files .* lfs pull --include 'AudioWAV/\\*,VideoFlash/\\*'")


def test_damaged_clips_are_skipped_with_their_reason(changed: Path, tmp_path: Path) -> None:
    (changed / "VideoFlash" / "1001_IEO_ANG_XX.flv").write_bytes(b"")
    (changed / "VideoFlash" / "1001_IEO_DIS_XX.flv").write_text("not found\n" * 50)
    cut(changed / "AudioWAV" / "1002_IEO_ANG_XX.wav", 0.5)
    info = prepare(changed, tmp_path / "out", options={"max_bad": 0.2})
    reasons = {clip["id"]: clip["reason"] for clip in info.source["skipped"]}
    assert reasons == {"1001_IEO_ANG_XX": "unreadable", "1001_IEO_DIS_XX": "unreadable", "1002_IEO_ANG_XX": "corrupt"}
    assert info.rows["train"] == 15
    refused(changed, tmp_path / "other", "clips cannot be used, more than the 1 % of --max-bad")


def test_the_sound_is_never_that_of_the_video(changed: Path, tmp_path: Path) -> None:
    make_recording(changed, "1001_IEO_ANG_XX", audio=None)
    make_recording(tmp_path / "twin", "1001_IEO_ANG_XX")
    prepare(changed, tmp_path / "out")
    assert ids(tmp_path / "out", "train")[0] == "1001_IEO_ANG_XX"


def test_the_misnamed_recording_is_accepted(changed: Path) -> None:
    make_recording(changed, "1040_ITH_SAD_XX")
    (changed / "AudioWAV" / "1040_ITH_SAD_XX.wav").rename(changed / "AudioWAV" / "1040_ITH_SAD_X.wav")
    found, lacking = find_recordings(changed)
    assert found[-1].stem == "1040_ITH_SAD_XX"
    assert lacking == {}


@pytest.mark.parametrize("name", ["1001_IEO_JOY_XX.flv", "clip.flv", "1001_IEO_ANG.flv"])
def test_a_file_that_is_no_recording_is_named(changed: Path, tmp_path: Path, name: str) -> None:
    (changed / "VideoFlash" / name).write_bytes(b"x")
    refused(changed, tmp_path / "out", f"{name}: not the name of a recording.*emotion of ANG, DIS")


def test_a_folder_that_is_no_clone_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, tmp_path / "out", "no WAV files in AudioWAV; --source must name the clone", split_dir=None)


def test_the_broken_recordings_are_reported_by_name_and_left_out_on_demand(changed: Path, tmp_path: Path) -> None:
    for stem in BROKEN:
        make_recording(changed, stem)
    (changed / "VideoFlash" / "1076_MTI_NEU_XX.flv").write_bytes(b"")
    write_list(changed / "lists" / "my_train.csv", [*stems(ACTORS[:3]), *BROKEN])
    lines: list[str] = []
    info = prepare(changed, tmp_path / "kept", options={"warn": lines.append, "max_bad": 0.0})
    assert info.source["known_broken"] == sorted(BROKEN)
    assert [clip["id"] for clip in info.source["skipped"]] == ["1076_MTI_NEU_XX"]
    assert info.rows["train"] == 21
    assert sum("is known to be broken" in line and "kept" in line for line in lines) == 4
    lines.clear()
    info = prepare(changed, tmp_path / "without", skip_broken=True, options={"warn": lines.append, "max_bad": 0.0})
    assert info.rows["train"] == 18
    assert sum("is known to be broken" in line and line.endswith("; left out") for line in lines) == 4


def test_broken_recordings_that_the_limit_leaves_out_are_not_reported(changed: Path, tmp_path: Path) -> None:
    for stem in BROKEN:
        make_recording(changed, stem)
    write_list(changed / "lists" / "my_train.csv", [*stems(ACTORS[:3]), *BROKEN])
    lines: list[str] = []
    prepare(changed, tmp_path / "out", options={"warn": lines.append, "limit": 14})
    reported = {line.partition(" ")[0] for line in lines if "is known to be broken" in line}
    sampled = {name for split in SPLITS for name in ids(tmp_path / "out", split)}
    assert reported == sampled & BROKEN.keys()
    assert len(reported) < len(BROKEN)


def test_recordings_with_the_same_sound_under_two_labels_are_reported(changed: Path, tmp_path: Path) -> None:
    twins = ["1006_TIE_HAP_XX", "1006_TIE_NEU_XX"]
    for stem in [*twins, "1013_WSI_DIS_XX", "1013_WSI_SAD_XX"]:
        make_recording(changed, stem)
    for stem in twins:
        make_wav(changed / "AudioWAV" / f"{stem}.wav", tone(1.3, 16000))
    write_list(changed / "lists" / "my_train.csv", [*stems(ACTORS[:3]), twins[0], "1013_WSI_DIS_XX", "1013_WSI_SAD_XX"])
    write_list(changed / "lists" / "test.csv", [*stems(ACTORS[4:]), twins[1]])
    lines: list[str] = []
    info = prepare(changed, tmp_path / "out", options={"warn": lines.append})
    assert info.source["same_sound"] == [twins]
    assert any("1006_TIE_HAP_XX (train) and 1006_TIE_NEU_XX (test) have the same sound" in line for line in lines)

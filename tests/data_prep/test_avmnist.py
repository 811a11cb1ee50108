from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.avmnist_tree import write_download
from support.genuine import link

from data_prep.avmnist import Avmnist, read_images
from data_prep.media.audio import log_mel
from data_prep.sources.fsdd import read_wav
from drcli.data.format import DatasetInfo
from drcli.errors import DataError, UsageError

Make = Callable[..., Path]


def prepare(
    source: Path | None, out: Path, *, limit: int | None = None, warn: Any = print, **settings: Any
) -> DatasetInfo:
    chosen = Avmnist.Settings.model_validate(settings)
    return Avmnist(chosen).run(source=source, out=out, limit=limit, warn=warn)


@dataclass(frozen=True)
class Prepared:
    """A download, and what was made of it with default settings; neither is to be changed."""

    source: Path
    out: Path
    info: DatasetInfo
    warnings: list[str]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    place, warnings = tmp_path_factory.mktemp("plain"), list[str]()
    source = write_download(place)
    return Prepared(source, place / "out", prepare(source, place / "out", warn=warnings.append), warnings)


def rows(out: Path, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    arrays = [np.load(out / split / f"{name}.npy") for name in ("visual", "audio", "labels")]
    return arrays[0], arrays[1], arrays[2], (out / split / "ids.txt").read_text().splitlines()


def nearest(visual: np.ndarray, vectors: np.ndarray) -> list[int]:
    """Which source image each row is, when nothing was removed from it."""
    flat = visual.reshape(len(visual), -1).astype(np.float64)
    return [int(np.abs(vectors / 255 - row).sum(axis=1).argmin()) for row in flat]


def test_recordings_keep_the_official_split_and_their_class(plain: Prepared) -> None:
    assert plain.info.samples == {"train": 20, "val": 50, "test": 50}
    assert plain.info.rows == {"train": 20, "val": 200, "test": 200}
    for split, takes in (("train", range(10, 12)), ("val", range(5, 10)), ("test", range(5))):
        visual, audio, labels, ids = rows(plain.out, split)
        assert visual.shape[1:] == (1, 28, 28)
        assert audio.shape[1:] == (1, 40, 51)
        assert visual.dtype == audio.dtype == np.float16
        assert sorted(set(ids)) == sorted(f"{digit}_ann_{take}" for digit in range(10) for take in takes)
        assert labels.tolist() == [int(name[0]) for name in ids]


@pytest.mark.parametrize("parts", [("t10k",), ("train", "t10k")])
def test_images_are_of_the_class_and_disjoint_between_splits(
    make_download: Make, tmp_path: Path, parts: tuple[str, ...]
) -> None:
    source = make_download(parts=parts)
    prepare(source, tmp_path / "out", image_energy=1.0, draws=2)
    images = read_images(source)
    used = {}
    for split in ("train", "val", "test"):
        visual, _, labels, ids = rows(tmp_path / "out", split)
        found = nearest(visual, images.vectors)
        assert images.labels[found].tolist() == labels.tolist()
        pairs = list(zip(ids, found, strict=True))
        assert len(set(pairs)) == len(pairs)
        used[split] = set(found)
    assert not used["train"] & used["val"]
    assert not used["test"] & (used["train"] | used["val"])
    if parts == ("train", "t10k"):
        assert min(used["test"]) >= 300 > max(used["train"] | used["val"])


def test_a_quarter_of_the_image_variance_stays(make_download: Make, tmp_path: Path) -> None:
    source = make_download(takes=30)
    prepare(source, tmp_path / "whole", image_energy=1.0, draws=1)
    prepare(source, tmp_path / "quarter", draws=1)
    whole, quarter = (
        rows(tmp_path / name, "test")[0].astype(np.float64).var(axis=0).sum() for name in ("whole", "quarter")
    )
    assert quarter / whole == pytest.approx(0.25, abs=0.06)  # fitted on other images


def test_audio_is_the_log_mel_of_the_recording_padded_or_cut_to_a_second(plain: Prepared) -> None:
    for split, name in (("test", "3_ann_0"), ("train", "3_ann_11")):
        _, audio, _, ids = rows(plain.out, split)
        wave = read_wav(plain.source / "recordings" / f"{name}.wav")
        second = np.zeros((1, 8000))
        second[0, : min(8000, len(wave))] = wave[:8000]
        np.testing.assert_array_equal(audio[ids.index(name), 0], log_mel(second, rate=8000)[0].astype(np.float16))


def test_noises_have_the_asked_size(plain: Prepared, tmp_path: Path) -> None:
    prepare(plain.source, tmp_path / "noisy", image_noise=0.5, audio_snr_db=0.0)
    clean, noisy = (rows(out, "test") for out in (plain.out, tmp_path / "noisy"))
    difference = noisy[0].astype(np.float64) - clean[0].astype(np.float64)
    assert difference.std() == pytest.approx(0.5, rel=0.01)
    # A sine of amplitude 8000 / 32768 in noise of its own power; a bin of noise has power * sum(window^2).
    power = (8000 / 32768) ** 2 / 2
    wave = np.sqrt(power) * np.random.default_rng(0).standard_normal((20, 8000))
    late = noisy[1][:, 0, :, 40:50].astype(np.float64)  # after the end of every recording
    assert np.median(late) == pytest.approx(np.median(log_mel(wave, rate=8000)[:, :, 40:50]), abs=0.1)


@pytest.mark.parametrize("parts", [pytest.param(("t10k",), marks=pytest.mark.slow), ("train", "t10k")])
def test_a_pool_holds_every_image_that_the_other_splits_leave(
    make_download: Make, tmp_path: Path, parts: tuple[str, ...]
) -> None:
    source = make_download(parts=parts)
    info = prepare(source, tmp_path / "out", image_energy=1.0, draws=2, pool=None)
    images = read_images(source)
    labels = np.load(tmp_path / "out" / "train" / "visual_pool_labels.npy")
    pool = nearest(np.load(tmp_path / "out" / "train" / "visual_pool.npy"), images.vectors)
    assert images.labels[pool].tolist() == labels.tolist()
    others = {k for split in ("val", "test") for k in nearest(rows(tmp_path / "out", split)[0], images.vectors)}
    assert set(nearest(rows(tmp_path / "out", "train")[0], images.vectors)) <= set(pool)
    spare = set(range(300)) - others  # of the training files, or of t10k alone
    assert (sorted(pool), info.pools) == (sorted(spare), {"visual": len(spare)})


@pytest.mark.slow
def test_all_of_mnist_is_kept_beside_the_real_recordings(shared: Path, tmp_path: Path) -> None:
    """By 60,000 - 4 draws of 300 recordings for validation: 58,800."""
    source = tmp_path / "download"
    link(shared / "data" / "avmnist" / "recordings", source / "recordings")
    for folder, part in (("mnist", "train"), ("avmnist", "t10k")):
        for kind in ("images-idx3", "labels-idx1"):
            link(shared / "data" / folder / f"{part}-{kind}-ubyte.gz", source / f"{part}-{kind}-ubyte.gz")
    notes: list[str] = []
    warnings: list[str] = []
    run = Avmnist(Avmnist.Settings(pool=None)).run
    info = run(source=source, out=tmp_path / "out", warn=warnings.append, note=notes.append)
    assert warnings == []
    assert notes == ["visual: 58800 training images are kept beside the pairs, for training.pairs=each_epoch"]
    assert info.samples == {"train": 2400, "val": 300, "test": 300}
    assert (info.pools, info.source["images"]) == ({"visual": 58_800}, 70_000)
    counts = np.bincount(np.load(tmp_path / "out" / "train" / "visual_pool_labels.npy"))
    published = np.array([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])  # of each digit, in training
    assert (published - counts).tolist() == [120] * 10


def test_a_smaller_pool_has_the_classes_in_their_shares(make_download: Make, tmp_path: Path) -> None:
    source = make_download(parts=("train", "t10k"))
    for name, pool, size in (("asked", 40, 40), ("limited", None, 60), ("none", 0, 0)):
        info = prepare(source, tmp_path / name, pool=pool, limit=60, image_noise=0.1)
        assert info.pools == ({"visual": size} if size else {})
        if size:
            labels = np.load(tmp_path / name / "train" / "visual_pool_labels.npy")
            assert np.bincount(labels).tolist() == [size // 10] * 10


def test_two_runs_are_equal_byte_for_byte(make_download: Make, tmp_path: Path) -> None:
    source = make_download()
    first, second = (prepare(source, tmp_path / name, audio_snr_db=3.0, pool=20) for name in ("one", "two"))
    assert first == second
    for path in (tmp_path / "one").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_a_limit_keeps_rows_as_they_are(plain: Prepared, tmp_path: Path) -> None:
    info = prepare(plain.source, tmp_path / "few", limit=60)
    assert info.samples == {"train": 10, "val": 25, "test": 25}
    everything, few = rows(plain.out, "val"), rows(tmp_path / "few", "val")
    where = everything[3].index(few[3][0])
    np.testing.assert_array_equal(few[0][:4], everything[0][where : where + 4])
    np.testing.assert_array_equal(few[1][:4], everything[1][where : where + 4])


def test_the_smaller_set_is_announced(plain: Prepared) -> None:
    assert plain.warnings == [
        f"{plain.source}: no MNIST training files, so the smaller set is made: all images come from the 300 of t10k"
    ]


def test_the_complete_set_is_made_without_a_word(make_download: Make, tmp_path: Path) -> None:
    lines: list[str] = []
    info = prepare(make_download(parts=("train", "t10k")), tmp_path / "out", warn=lines.append)
    assert lines == []
    assert info.source["images"] == 600


def test_a_changed_source_is_noticed(make_download: Make, tmp_path: Path) -> None:
    source = make_download()
    prepare(source, tmp_path / "out")
    (source / "recordings" / "0_ann_11.wav").unlink()
    digest = '"[0-9a-f]{12}"'
    with pytest.raises(DataError, match=f"contents of --source: {digest} in the folder, {digest} requested"):
        prepare(source, tmp_path / "out")


def test_a_missing_source_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="dataset 'avmnist' is made from a download: name its folder with --source DIR"
    ):
        prepare(None, tmp_path / "out")
    with pytest.raises(DataError, match="nowhere: no such folder; --source must name"):
        prepare(tmp_path / "nowhere", tmp_path / "out")


def test_missing_mnist_files_are_named(make_download: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte \(or .gz\) are missing"):
        prepare(make_download(parts=()), tmp_path / "out")


def test_a_digit_without_recordings_is_refused(make_download: Make, tmp_path: Path) -> None:
    source = make_download()
    for path in source.glob("recordings/7_*"):
        path.unlink()
    with pytest.raises(DataError, match="class 7 would be absent from train"):
        prepare(source, tmp_path / "out")


def test_a_split_without_recordings_is_refused(make_download: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="split train would be empty"):
        prepare(make_download(takes=10), tmp_path / "out")


def test_a_damaged_recording_stops_the_preparation_and_leaves_nothing(make_download: Make, tmp_path: Path) -> None:
    source = make_download()
    os.truncate(source / "recordings" / "4_ann_10.wav", 100)
    with pytest.raises(DataError, match=r"4_ann_10.wav: 28 of 3000 samples are there"):
        prepare(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["download"]


def test_a_recording_that_cannot_be_read_is_named(make_download: Make, tmp_path: Path) -> None:
    source = make_download()
    path = source / "recordings" / "4_ann_10.wav"
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=r"4_ann_10\.wav: is a folder, not a file"):
        prepare(source, tmp_path / "out")


def test_the_real_download_is_prepared(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "avmnist"
    if not source.is_dir():
        pytest.skip(f"{source} is not there")
    info = prepare(source, tmp_path / "out", limit=300)
    assert info.samples == {"train": 240, "val": 30, "test": 30}
    assert info.source["recordings"] == 3000
    assert info.source["images"] == 10_000
    labels = rows(tmp_path / "out", "train")[2]
    assert np.bincount(labels).tolist() == [24] * 10
    kept = rows(tmp_path / "out", "train")[0].astype(np.float64).var(axis=0).sum()
    assert kept / (read_images(source).vectors / 255).var(axis=0).sum() == pytest.approx(0.25, abs=0.03)

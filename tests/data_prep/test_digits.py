from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep.digits import Digits, dtmf_frequencies, dtmf_tone, read_digits
from drcli.data.format import DatasetInfo
from drcli.errors import DataError, UsageError


def prepare(out: Path, *, limit: int | None = 60, **settings: float) -> DatasetInfo:
    return Digits(Digits.Settings.model_validate(settings)).run(source=None, out=out, limit=limit)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("digits") / "full"
    prepare(out, limit=None, draws=2)
    return out


def test_split_is_900_300_597_images_in_equal_shares(full: Path) -> None:
    _, labels = read_digits()
    seen: list[str] = []
    for split, images, draws in (("train", 900, 1), ("val", 300, 2), ("test", 597, 2)):
        ids = (full / split / "ids.txt").read_text().splitlines()
        stored = np.load(full / split / "labels.npy")
        assert ids[::draws] == sorted(set(ids))
        assert len(ids) == len(stored) == images * draws
        assert stored.tolist() == [labels[int(name[-4:])] for name in ids]
        share = np.bincount(labels) * images / 1797
        assert np.abs(np.bincount(stored) / draws - share).max() <= 2
        seen += ids[::draws]
    assert len(seen) == len(set(seen)) == 1797


def test_shapes_and_types_are_as_described(full: Path) -> None:
    visual, audio = (np.load(full / "val" / f"{m}.npy") for m in ("visual", "audio"))
    assert (visual.shape, visual.dtype) == ((600, 1, 8, 8), np.float16)
    assert (audio.shape, audio.dtype) == ((600, 1, 64, 16), np.float16)


def test_image_noise_has_the_asked_deviation(full: Path) -> None:
    images, _ = read_digits()
    index = [int(name[-4:]) for name in (full / "train" / "ids.txt").read_text().splitlines()]
    noise = np.load(full / "train" / "visual.npy")[:, 0].astype(np.float64) - images[index] / 16
    assert noise.std() == pytest.approx(0.5, rel=0.01)
    assert noise.mean() == pytest.approx(0.0, abs=0.01)


def test_draws_of_an_image_differ_in_both_modalities(full: Path) -> None:
    for m in ("visual", "audio"):
        rows = np.load(full / "test" / f"{m}.npy")
        assert not np.array_equal(rows[0], rows[1])


def test_images_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    images, labels = read_digits()
    bundle = load_digits()
    np.testing.assert_array_equal(images, bundle.images)
    np.testing.assert_array_equal(labels, bundle.target)


def test_a_scikit_learn_without_the_file_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    import sklearn.datasets  # noqa: F401 - loaded before the lookup is disabled

    direct = read_digits()
    monkeypatch.setattr("data_prep.digits.find_spec", lambda _: None)
    (images, labels), found = direct, read_digits()
    np.testing.assert_array_equal(images, found[0])
    np.testing.assert_array_equal(labels, found[1])
    assert (images.dtype, labels.dtype) == (found[0].dtype, found[1].dtype)


@pytest.mark.parametrize(
    ("digit", "keys"),
    [(1, (697, 1209)), (3, (697, 1477)), (5, (770, 1336)), (7, (852, 1209)), (0, (941, 1336))],
)
def test_keypad_gives_the_frequencies_of_q23(digit: int, keys: tuple[int, int]) -> None:
    assert dtmf_frequencies(digit) == keys


@pytest.mark.parametrize("digit", range(10))
def test_tone_holds_two_frequencies_within_a_percent(digit: int) -> None:
    tone = dtmf_tone(digit, np.random.default_rng(digit))
    power = np.abs(np.fft.rfft(tone * np.hanning(len(tone)), 16_000)) ** 2  # half a hertz a bin
    for nominal in dtmf_frequencies(digit):
        near = np.arange(int(nominal * 2 * 0.96), int(nominal * 2 * 1.04))
        assert near[power[near].argmax()] / 2 == pytest.approx(nominal, rel=0.011)
    amplitude_squared = 2 * np.mean(tone**2)  # a1^2 + a2^2, up to leakage
    assert 2 * 0.3**2 * 0.9 < amplitude_squared < 2 * 1.1


def test_spectrogram_peaks_at_both_tones_without_noise(tmp_path: Path) -> None:
    prepare(tmp_path / "clean", audio_snr_db=60.0, image_noise=0.0)
    audio = np.load(tmp_path / "clean" / "train" / "audio.npy")[:, 0, :, 8].astype(np.float32)
    for spectrum, label in zip(audio, np.load(tmp_path / "clean" / "train" / "labels.npy"), strict=True):
        low, high = (round(frequency / 31.25) for frequency in dtmf_frequencies(int(label)))
        assert abs(spectrum[:34].argmax() - low) <= 1
        assert abs(34 + spectrum[34:].argmax() - high) <= 1


def test_noise_in_the_waveform_has_the_asked_ratio() -> None:
    preparer = Digits(Digits.Settings())
    image = np.zeros((8, 8), dtype=np.uint8)
    ratios = []
    for seed in range(50):
        generator = np.random.default_rng(seed)
        generator.standard_normal((8, 8))  # the image's noise is drawn first
        tone = dtmf_tone(3, generator)
        _, wave = preparer._draw(image, 3, np.random.default_rng(seed))
        ratios.append(np.mean(tone**2) / np.mean((wave - tone) ** 2))
    assert 10 * np.log10(np.mean(ratios)) == pytest.approx(-12.0, abs=0.1)


def test_two_runs_are_equal_byte_for_byte(tmp_path: Path) -> None:
    one, two = prepare(tmp_path / "one"), prepare(tmp_path / "two")
    assert one == two
    for first in (tmp_path / "one").rglob("*.*"):
        assert first.read_bytes() == (tmp_path / "two" / first.relative_to(tmp_path / "one")).read_bytes()


def test_rows_do_not_depend_on_the_limit(full: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "small", draws=2)
    for split, m in itertools.product(("train", "val"), ("visual", "audio")):
        where = [(root / split / "ids.txt").read_text().splitlines() for root in (full, tmp_path / "small")]
        rows = np.load(full / split / f"{m}.npy")
        few = np.load(tmp_path / "small" / split / f"{m}.npy")
        np.testing.assert_array_equal(few[0], rows[where[0].index(where[1][0])])


def test_seed_changes_the_split(tmp_path: Path) -> None:
    assert prepare(tmp_path / "a").fingerprint != prepare(tmp_path / "b", seed=1).fingerprint


def test_limit_is_recorded_and_kept(tmp_path: Path) -> None:
    info = prepare(tmp_path / "d", limit=60)
    assert info.source["limit"] == 60
    assert info.samples == {"train": 30, "val": 10, "test": 20}
    assert info.rows == {"train": 30, "val": 40, "test": 80}


def test_limit_that_loses_a_class_in_train_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"class(es)? .* would be absent from train"):
        prepare(tmp_path / "d", limit=15)
    assert list(tmp_path.iterdir()) == []


def test_a_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dataset 'digits' needs no download: leave out --source"):
        Digits(Digits.Settings()).run(source=tmp_path, out=tmp_path / "d")


def test_preparation_imports_neither_scikit_learn_nor_torch(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; \n"
        "from data_prep.digits import Digits\n"
        f"Digits(Digits.Settings()).run(source=None, out=Path({str(tmp_path / 'd')!r}), limit=40)\n"
        "slow = {'sklearn', 'scipy', 'torch', 'torchaudio', 'torchvision', 'matplotlib'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    assert importlib.util.find_spec("sklearn") is not None
    subprocess.run([sys.executable, "-c", program], check=True)

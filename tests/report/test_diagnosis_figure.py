"""The picture of a diagnosis: written whole, the same every time, for any modalities and names."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support.blobs import blobs

from drcli.diagnosis import MeasureSettings, diagnose
from drcli.errors import UsageError
from drcli.report.figures.diagnosis import check_place, data, draw
from drcli.report.theme import PAPER, Theme, write_figure

STARTS = {"png": b"\x89PNG\r\n", "svg": b"<?xml", "pdf": b"%PDF"}


READABLE = replace(PAPER, rc={**PAPER.rc, "svg.fonttype": "none"})
"""The theme with texts that are texts in an .svg file."""


@pytest.fixture
def flat_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of t-SNE, which has its own tests: the first two dimensions."""
    monkeypatch.setattr("drcli.report.embedding.tsne", lambda components: components[:, :2])


def picture(
    path: Path,
    modalities: Sequence[str] = ("audio", "visual"),
    names: Sequence[str] = ("a", "b", "c"),
    theme: Theme = PAPER,
) -> bytes:
    """Draw made-up representations and return the file."""
    train, labels_train = blobs(60, num_classes=len(names), seed=1)
    val, labels_val = blobs(45, num_classes=len(names), seed=2)
    features_train, features_val = dict.fromkeys(modalities, train), dict.fromkeys(modalities, val)
    found = diagnose(
        features_train,
        labels_train,
        features_val,
        labels_val,
        num_classes=len(names),
        settings=MeasureSettings(restarts=1),
        lambda_=3.0,
    )
    drawn = data(
        found,
        {m: x.numpy() for m, x in features_train.items()},
        labels_train.numpy(),
        {m: x.numpy() for m, x in features_val.items()},
        labels_val.numpy(),
        classes=names,
        theme=theme,
        title="run $1_",
    )
    assert all((found.rows, found.hollow.sum()) == (105, 60) for found in drawn.maps.values())
    write_figure(path, theme, lambda figure: draw(figure, drawn, theme))
    return path.read_bytes()


@pytest.mark.parametrize("suffix", ["png", pytest.param("svg", marks=pytest.mark.slow), "pdf"])
def test_the_suffix_decides_the_type_and_the_bytes_repeat(tmp_path: Path, flat_maps: None, suffix: str) -> None:
    first, second = (picture(tmp_path / f"{name}.{suffix}") for name in ("first", "second"))
    assert first.startswith(STARTS[suffix])
    assert len(first) > 10_000
    assert first == second
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"first.{suffix}", f"second.{suffix}"]


def test_the_picture_with_its_real_maps_repeats(tmp_path: Path) -> None:
    assert picture(tmp_path / "1.png", ["audio"]) == picture(tmp_path / "2.png", ["audio"])


def test_drawing_needs_no_pyplot_and_leaves_settings_alone(
    tmp_path: Path, flat_maps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib as mpl

    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would fail
    before = [mpl.rcParams[key] for key in PAPER.rc]
    picture(tmp_path / "figure.svg")
    assert [mpl.rcParams[key] for key in PAPER.rc] == before


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow), 4])
def test_any_number_of_modalities_is_drawn(tmp_path: Path, flat_maps: None, count: int) -> None:
    modalities = [f"modality {number}" for number in range(count)]
    assert picture(tmp_path / "figure.png", modalities)


@pytest.mark.parametrize(
    "count", [pytest.param(2, marks=pytest.mark.slow), pytest.param(12, marks=pytest.mark.slow), 45]
)
def test_any_number_of_classes_is_drawn(tmp_path: Path, flat_maps: None, count: int) -> None:
    assert picture(tmp_path / "figure.png", names=[str(number) for number in range(count)])


def test_names_are_written_as_they_are(tmp_path: Path, flat_maps: None) -> None:
    names = ["_hidden", "$x^2$", "$", "two\nlines", "a name that is far too long for a legend"]
    text = picture(tmp_path / "figure.svg", ["$rgb_", "_flow"], names, READABLE).decode()
    for written in (
        ">0 _hidden<",
        ">1 $x^2$<",
        ">2 $<",
        ">3 two lines<",
        ">4 a name that is far to...<",
        ">$rgb_<",
        ">_flow<",
        ">run $1_<",
    ):
        assert written in text


def test_numbers_of_the_diagnosis_stand_in_the_picture(tmp_path: Path, flat_maps: None) -> None:
    train, labels_train = blobs(60, num_classes=3, seed=1)
    val, labels_val = blobs(45, num_classes=3, signal=0.0, seed=2)
    arguments = {"audio": train}, labels_train, {"audio": val}, labels_val
    found = diagnose(*arguments, num_classes=3, settings=MeasureSettings(), lambda_=3.0)
    arrays = {"audio": train.numpy()}, labels_train.numpy(), {"audio": val.numpy()}, labels_val.numpy()
    drawn = data(found, *arrays, classes=["a", "b", "c"], theme=READABLE)
    write_figure(tmp_path / "figure.svg", READABLE, lambda figure: draw(figure, drawn, READABLE))
    text, audio = (tmp_path / "figure.svg").read_text(), found["audio"]
    for number in (audio.purity_train, audio.purity_val):
        assert f">{number:.2f}<" in text
    assert f">gap {audio.gap:.2f}<" in text
    assert f">gap with permuted labels {audio.gap_permuted:.2f}<" in text
    assert f">strength {audio.strength:.2f}<" in text
    assert f"over-trained: would be pulled back by {audio.strength:.2f}" in text


def test_maps_and_legends_say_what_they_show(tmp_path: Path, flat_maps: None) -> None:
    text = picture(tmp_path / "figure.svg", ["audio"], theme=READABLE).decode()
    for written in ("t-SNE 1 (105 rows)", "t-SNE 2", "class", "purity of train", "purity with permuted labels"):
        assert f">{written}<" in text


@pytest.mark.parametrize("name", ["figure.gif", "figure", "figure.PNGX"])
def test_an_unknown_suffix_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name}: a figure ends in .png, .svg, .pdf, not .*; rename it"):
        check_place(Path(name))


def test_a_suffix_in_capitals_is_fine(tmp_path: Path, flat_maps: None) -> None:
    assert picture(tmp_path / "figure.PNG").startswith(STARTS["png"])


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        check_place(tmp_path / "nowhere" / "figure.png")

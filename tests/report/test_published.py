"""Published figures: found by dataset, modalities and backbone, kept apart from ours; second-hand ones on request."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from support.run_folders import write_run

from drcli.recipe.load import load_recipe
from drcli.recipe.shipped import find_recipe
from drcli.report import published
from drcli.report.page.page import Options, build
from drcli.report.published import Published, lookup
from drcli.report.tables import comparison_tables
from drcli.runs.collect import collect

BOTH = ("visual", "audio")
FILE = Path(published.__file__).with_name("published.csv")
ROWS = list(csv.DictReader(FILE.read_text(encoding="utf-8").splitlines()))
BEGINNINGS = ("second-hand", "unpublished", "quoted by", "copied from")


def for_shipped(name: str, *, second_hand: bool = False) -> list[Published]:
    """What is beside runs of a shipped recipe."""
    recipe = load_recipe(find_recipe(name))
    backbones = {block.backbone for block in recipe.modalities.values()}
    return lookup(recipe.dataset.name, modalities=recipe.modalities, backbones=backbones, second_hand=second_hand)


def test_the_file_holds_all_figures_second_hand_ones_among_them() -> None:
    assert len(ROWS) == 293
    assert sum(row["note"].startswith(BEGINNINGS) for row in ROWS) == 48


@pytest.mark.parametrize(
    ("dataset", "first_hand", "with_second_hand"),
    [("cremad", 51, 73), ("kinetics_sounds", 36, 43), ("ucf101", 17, 21), ("cmu_mosi", 23, 23)],
)
def test_a_shipped_recipe_finds_the_figures_for_its_dataset(
    dataset: str, first_hand: int, with_second_hand: int
) -> None:
    """Accuracies of the same modalities and backbone, not of pre-trained encoders; counted by hand in the file."""
    assert len(for_shipped(dataset)) == first_hand
    assert len(for_shipped(dataset, second_hand=True)) == with_second_hand


@pytest.mark.parametrize("dataset", ["cremad", "kinetics_sounds", "ucf101", "cmu_mosi"])
def test_no_second_hand_figure_is_found_unless_asked_for(dataset: str) -> None:
    first_hand = for_shipped(dataset)
    assert not any(figure.note.lower().startswith(BEGINNINGS) for figure in first_hand)
    more = [figure for figure in for_shipped(dataset, second_hand=True) if figure not in first_hand]
    assert all(figure.is_second_hand for figure in more)


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        ("", False),
        ("read from the picture in the README", False),
        ("their re-implementation, quoted by nobody", False),
        ("second-hand; one run", True),
        ("Unpublished; a comment in a script", True),
        ("quoted by MIDAS", True),
        ("copied from the paper of MLA", True),
    ],
)
def test_a_figure_is_second_hand_by_the_beginning_of_its_note(note: str, expected: bool) -> None:
    figure = Published("joint", "toy", frozenset(BOTH), "resnet18", 0.5, None, "val", "a paper", note)
    assert figure.is_second_hand is expected


def sources(modalities: tuple[str, ...]) -> set[str]:
    """Where figures for UCF-101 come from, all of them."""
    return {f.source for f in lookup("ucf101", modalities=modalities, backbones={"resnet18"}, second_hand=True)}


def test_ucf101_with_sound_is_never_beside_ucf101_with_flow() -> None:
    """MCR's figures are of RGB and sound; sources call RGB visual."""
    mcr = "MCR table 1 (arXiv 2411.07335)"
    assert sources(("rgb", "audio")) == {mcr}
    assert mcr not in sources(("rgb", "flow"))
    assert len(sources(("flow", "rgb"))) == 3
    assert sources(("visual", "flow")) == sources(("visual", "audio")) == set()


def test_ucf101_beside_a_run_with_flow_has_the_figures_of_that(tmp_path: Path) -> None:
    modalities = {m: {"backbone": "resnet18"} for m in ("rgb", "flow")}
    write_run(tmp_path, 0.9, recipe="ucf101", dataset={"name": "ucf101"}, modalities=modalities)
    (table,) = comparison_tables(collect([tmp_path]), second_hand=True)
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert rows["joint"]["published a"] == "81.8"
    assert not any("MCR" in note or "sound" in note for note in table.notes)


def test_a_figure_comes_as_a_fraction_with_its_source() -> None:
    found = [f for f in lookup("cremad", modalities=BOTH, backbones={"resnet18"}) if f.method == "diagnose_relearn"]
    assert [figure.value for figure in found] == pytest.approx([0.7102, 0.706])
    assert found[0].std is None
    assert found[1].std == pytest.approx(0.013)
    assert [figure.selection for figure in found] == ["test", "val"]
    assert "2502.10816" in found[0].source
    assert "suspect" in found[1].note


def test_other_modalities_backbones_and_datasets_have_none() -> None:
    assert lookup("cremad", modalities=("audio", "text"), backbones={"resnet18"}) == []
    assert lookup("cremad", modalities=BOTH, backbones={"resnet_small"}) == []
    assert lookup("cremad", modalities=BOTH, backbones={"resnet18", "resnet_small"}) == []
    assert lookup("digits", modalities=BOTH, backbones={"resnet18"}) == []


@pytest.mark.parametrize(
    ("dataset", "modalities", "words", "with_pretrained"),
    [
        ("ucf101", ("rgb", "audio"), "from scratch", False),
        ("kinetics_sounds", BOTH, "ImageNet weights", True),
    ],
)
def test_encoders_from_scratch_and_pretrained_ones_are_kept_apart(
    dataset: str, modalities: tuple[str, ...], words: str, with_pretrained: bool
) -> None:
    found = {
        pretrained: {
            figure.backbone
            for figure in lookup(
                dataset, modalities=modalities, backbones={"resnet18"}, pretrained=pretrained, second_hand=True
            )
        }
        for pretrained in (False, True)
    }
    assert any(words in backbone for backbone in found[with_pretrained])
    assert not any(words in backbone for backbone in found[not with_pretrained])


def test_second_hand_figures_are_columns_of_their_own_on_request(tmp_path: Path) -> None:
    cremad(tmp_path)
    runs = collect([tmp_path])
    (few,), (many,) = comparison_tables(runs), comparison_tables(runs, second_hand=True)
    assert (
        sum(c.startswith("published") for c in few.columns),
        sum(c.startswith("published") for c in many.columns),
    ) == (
        7,
        13,
    )
    assert any("second-hand" in note for note in many.notes)
    assert not any("second-hand" in note or "unpublished" in note for note in few.notes)


@pytest.mark.slow
def test_the_page_has_second_hand_figures_on_request(tmp_path: Path) -> None:
    cremad(tmp_path)
    pages = {
        asked: build(collect([tmp_path]), Options(draw_maps=False, second_hand=asked)).html for asked in (False, True)
    }
    assert ["second-hand" in html for html in pages.values()] == [False, True]


def cremad(out: Path, **changes: Any) -> None:
    modalities = {m: {"backbone": "resnet18"} for m in BOTH}
    write_run(out, 0.9, **{"dataset": {"name": "cremad"}, "modalities": modalities, "recipe": "cremad", **changes})


def test_a_single_modality_finds_unimodal_training_alone() -> None:
    found = lookup("cremad", modalities=("audio",), backbones={"resnet18"})
    assert {figure.method for figure in found} == {"unimodal"}


def test_published_figures_are_columns_of_their_own_with_notes(tmp_path: Path) -> None:
    cremad(tmp_path)
    (table,) = comparison_tables(collect([tmp_path]))
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert (rows["joint"]["accuracy"], rows["joint"]["published a"], rows["joint"]["published b"]) == (
        "90.0",
        "65.5",
        "62.6 ± 5.8",
    )
    cells = [*"-" * 9, "76.1 ± 1.6", "-", "-", "70.9 ± 1.2", "-", "-"]
    assert list(rows["mcr"].values()) == ["mcr", *cells]  # known from a publication only
    assert any(note.startswith("published a: BalanceBenchmark") and "selected on test" in note for note in table.notes)
    assert any(note.startswith("diagnose_relearn in b: the D&R port") for note in table.notes)


def published_beside(out: Path) -> dict[str, str]:
    """What stands in the first column of published figures, by our name."""
    (table,) = comparison_tables(collect([out]))
    return {row[0]: row[table.columns.index("published b")] for row in table.rows}


def test_a_label_finds_the_figure_of_its_method(tmp_path: Path) -> None:
    cremad(tmp_path, label="mine", method="pmr")
    cremad(tmp_path, label="frozen", method="uni_pretrained", block={"encoders": "frozen"})
    cremad(tmp_path, label="agm", method="joint")  # a misleading label
    found = published_beside(tmp_path)
    assert (found["mine"], found["frozen"], found["agm"]) == ("-", "72.4 ± 1.8", "62.6 ± 5.8")
    assert found["agm (published)"] == "69.3 ± 1.4"
    assert not {"pmr", "joint", "uni_pretrained_frozen"} & set(found)


def test_of_several_labels_of_a_method_the_one_of_its_name_has_the_figure(tmp_path: Path) -> None:
    for label in ("cautious", "ogm"):
        cremad(tmp_path, label=label, method="ogm")
    found = published_beside(tmp_path)
    assert (found["cautious"], found["ogm"]) == ("-", "65.6 ± 3.8")


@pytest.mark.parametrize(
    "changes",
    [
        {"corrupt": {"audio": {"snr_db": 0}}},
        {"dataset": {"name": "cremad", "prepare": {"waveform_snr_db": 0.0}}},
        {"dataset": {"name": "cremad", "prepare": {"file": "bc-LSTM"}}},
        {"fusion": {"name": "mbt"}},
        {"modalities": {"audio": {"backbone": "resnet18"}, "visual": {"backbone": "resnet_small"}}},
        {"label": "unimodal", "modality": "audio"},
    ],
)
def test_other_data_and_other_models_have_none_beside_them(tmp_path: Path, changes: dict[str, Any]) -> None:
    cremad(tmp_path, **changes)
    (table,) = comparison_tables(collect([tmp_path]))
    assert not any("published" in text for text in (*table.columns, *table.notes))
    assert len(table.rows) == 1


def test_a_setting_of_noise_that_is_off_is_no_noise(tmp_path: Path) -> None:
    cremad(tmp_path, dataset={"name": "cremad", "prepare": {"waveform_snr_db": None}})
    assert published_beside(tmp_path)["joint"] == "62.6 ± 5.8"

"""Published figures: found by dataset, modalities and backbone, and kept apart from ours."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.run_folders import write_run

from drcli.recipe.load import load_recipe
from drcli.recipe.shipped import find_recipe
from drcli.report import published
from drcli.report.published import Published, lookup
from drcli.report.tables import comparison_tables
from drcli.runs.collect import collect

BOTH = ("visual", "audio")
FILE = Path(published.__file__).with_name("published.csv")
WRITTEN = Counter(row["dataset"] for row in csv.DictReader(FILE.read_text(encoding="utf-8").splitlines()))


def for_shipped(name: str) -> list[Published]:
    """What stands beside runs of a shipped recipe."""
    recipe = load_recipe(find_recipe(name))
    backbones = {block.backbone for block in recipe.modalities.values()}
    return lookup(recipe.dataset.name, modalities=recipe.modalities, backbones=backbones)


@pytest.mark.parametrize("dataset", WRITTEN)
def test_the_shipped_recipe_of_a_dataset_finds_every_figure_for_it(dataset: str) -> None:
    assert len(for_shipped(dataset)) == WRITTEN[dataset]


def test_ucf101_has_those_of_two_publications() -> None:
    found = for_shipped("ucf101")
    assert [figure.method for figure in found] == ["joint", "diagnose_relearn"] * 2
    assert [figure.value for figure in found] == pytest.approx([0.818, 0.8287, 0.477, 0.493])


def test_a_figure_comes_as_a_fraction_with_its_source() -> None:
    found = [f for f in lookup("cremad", modalities=BOTH, backbones={"resnet18"}) if f.method == "diagnose_relearn"]
    assert [figure.value for figure in found] == pytest.approx([0.7102, 0.706])
    assert found[0].std is None
    assert found[1].std == pytest.approx(0.013)
    assert [figure.selection for figure in found] == ["test", "val"]
    assert "2502.10816" in found[0].source
    assert "suspect" in found[1].note


def test_other_modalities_backbones_and_datasets_have_none() -> None:
    assert lookup("cremad", modalities=("audio",), backbones={"resnet18"}) == []
    assert lookup("cremad", modalities=BOTH, backbones={"resnet_small"}) == []
    assert lookup("cremad", modalities=BOTH, backbones={"resnet18", "resnet_small"}) == []
    assert lookup("digits", modalities=BOTH, backbones={"resnet18"}) == []


def test_encoders_from_scratch_are_not_put_beside_pretrained_ones() -> None:
    found = lookup("ucf101", modalities=("rgb", "flow"), backbones={"resnet18"}, pretrained=True)
    assert [figure.value for figure in found] == pytest.approx([0.818, 0.8287])


def cremad(out: Path, **changes: Any) -> None:
    modalities = {m: {"backbone": "resnet18"} for m in BOTH}
    write_run(out, 0.9, **{"dataset": {"name": "cremad"}, "modalities": modalities, "recipe": "cremad", **changes})


def test_they_stand_in_columns_of_their_own_with_notes(tmp_path: Path) -> None:
    cremad(tmp_path)
    (table,) = comparison_tables(collect([tmp_path]))
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert (rows["joint"]["accuracy"], rows["joint"]["published a"], rows["joint"]["published b"]) == (
        "90.0",
        "65.5",
        "62.6 ± 5.8",
    )
    assert list(rows["mcr"].values()) == ["mcr", *"-" * 8, "-", "76.1 ± 1.6"]  # known from a publication only
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

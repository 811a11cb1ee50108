"""Published figures: found by dataset, modalities and backbone, and kept apart from ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.run_folders import write_run

from drcli.report.collect import collect
from drcli.report.published import lookup
from drcli.report.tables import comparison_tables

BOTH = ("visual", "audio")


def test_a_figure_comes_as_a_fraction_with_its_source() -> None:
    found = lookup("cremad", modalities=BOTH, backbones={"resnet18"}, method="diagnose_relearn")
    assert [figure.value for figure in found] == pytest.approx([0.7102, 0.706])
    assert (found[0].std, found[1].std) == (None, pytest.approx(0.013))
    assert [figure.selection for figure in found] == ["test", "val"]
    assert "2502.10816" in found[0].source
    assert "suspect" in found[1].note


def test_other_modalities_backbones_metrics_and_datasets_have_none() -> None:
    assert lookup("cremad", modalities=("audio",), backbones={"resnet18"}) == []
    assert lookup("cremad", modalities=BOTH, backbones={"resnet_small"}) == []
    assert lookup("cremad", modalities=BOTH, backbones={"resnet18"}, metric="macro_f1") == []
    assert lookup("digits", modalities=BOTH, backbones={"resnet18"}) == []


def test_our_labels_find_the_names_of_publications() -> None:
    (found,) = lookup("cremad", modalities=BOTH, backbones={"resnet18"}, method="uni_frozen")
    assert found.value == pytest.approx(0.724)


def cremad(out: Path, **top: Any) -> None:
    modalities = {m: {"backbone": "resnet18"} for m in BOTH}
    write_run(out, 0.9, dataset={"name": "cremad"}, modalities=modalities, recipe="cremad", **top)


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


def test_corrupted_data_has_none_beside_it(tmp_path: Path) -> None:
    cremad(tmp_path, corrupt={"audio": {"snr_db": 0}})
    (table,) = comparison_tables(collect([tmp_path]))
    assert not any("published" in text for text in (*table.columns, *table.notes))
    assert [row[0] for row in table.rows] == ["joint"]

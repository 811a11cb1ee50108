"""What differs between runs of one recipe, beside method and seed, is said; what is compared is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.run_folders import write_run

from drcli.report.tables import comparison_tables
from drcli.runs.collect import collect, unequal


def said(out: Path) -> str:
    """The sentence without what it begins with."""
    return unequal(collect([out])).removeprefix("Not all else is equal in toy: ")


def test_methods_and_seeds_and_what_changes_no_weights_are_no_difference(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, 0.5, seed=seed, monitor="test" if seed else "none", fusion={"name": "film"})
        write_run(tmp_path, 0.5, label="pmr", block={"alpha": 1.0}, seed=seed, fusion={"name": "film"})
    write_run(tmp_path, 0.5, label="ogm", diagnosis={"monitor_every": 2}, fusion={"name": "film"})
    write_run(tmp_path, 0.5, label="unimodal", modality="audio")  # which needs no fusion
    assert said(tmp_path) == ""


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"training": {"epochs": 5}}, "training.epochs is 6 in joint, 5 in pmr."),
        ({"selection": "last"}, "selection is val in joint, last in pmr."),
        ({"corrupt": {"audio": {"snr_db": 0}}}, "corrupt.audio.snr_db is absent in joint, 0 in pmr."),
        ({"fusion": {"name": "film"}}, "fusion.name is concat in joint, film in pmr."),
        (
            {"dataset": {"name": "toy", "root": "elsewhere", "prepare": {"draws": 4}}},
            "dataset.prepare.draws is absent in joint, 4 in pmr.",
        ),
    ],
)
def test_what_else_differs_is_named_with_its_values(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    write_run(tmp_path, 0.5)
    write_run(tmp_path, 0.5, label="pmr", **changes)
    assert said(tmp_path) == sentence
    (table,) = comparison_tables(collect([tmp_path]))
    assert f"Not all else is equal in toy: {sentence}" in table.notes


def test_other_data_under_one_name_is_told_by_its_fingerprint(tmp_path: Path) -> None:
    for label, fingerprint in {"joint": "1" * 64, "pmr": "2" * 64}.items():
        folder = write_run(tmp_path, 0.5, label=label)
        (folder / "environment.json").write_text(json.dumps({"dataset_fingerprint": fingerprint}))
    assert said(tmp_path) == f'dataset_fingerprint is "{"1" * 16}" in joint, "{"2" * 16}" in pmr.'


def test_the_settings_of_a_method_are_compared_over_its_seeds(tmp_path: Path) -> None:
    for seed, alpha in enumerate((1.0, 1.0, 0.5)):
        write_run(tmp_path, 0.5, seed=seed)
        write_run(tmp_path, 0.5, label="pmr", seed=seed, block={"alpha": alpha})
    assert said(tmp_path) == "methods.pmr.alpha is 1.0 in pmr seed 0 and pmr seed 1, 0.5 in pmr seed 2."


def test_what_most_runs_have_is_not_listed(tmp_path: Path) -> None:
    for label in ("joint", "agm", "ogm"):
        write_run(tmp_path, 0.5, label=label)
    write_run(tmp_path, 0.5, label="pmr", epochs=5)
    assert said(tmp_path) == "training.epochs is 6 in most, 5 in pmr."


def test_many_keys_are_cut_short(tmp_path: Path) -> None:
    write_run(tmp_path, 0.5)
    write_run(tmp_path, 0.5, label="pmr", training={"epochs": 6, "a": 1, "b": 1, "c": 1, "d": 1})
    assert said(tmp_path).endswith("; training.c is absent in joint, 1 in pmr; and 1 more.")


MACHINE = {"drcli": "0.1.0", "packages": {"torch": "2.11.0"}, "device": "cpu", "accelerator": None, "threads": 2}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"threads": 1}, "threads is 2 in joint, 1 in pmr."),
        ({"device": "cuda", "accelerator": "A GPU"}, "device is cpu in joint, cuda in pmr."),
        ({"packages": {"torch": "2.12.0"}}, 'torch is "2.11.0" in joint, "2.12.0" in pmr.'),
        ({"drcli": "0.2.0"}, 'drcli is "0.1.0" in joint, "0.2.0" in pmr.'),
        ({"platform": "elsewhere"}, ""),
        ({"packages": {}, "threads": None}, ""),  # an older run noted less
    ],
)
def test_another_machine_or_version_is_said(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    for label, noted in {"joint": MACHINE, "pmr": {**MACHINE, **changes}}.items():
        (write_run(tmp_path, 0.5, label=label) / "environment.json").write_text(json.dumps(noted))
    assert said(tmp_path) == sentence


def test_accelerators_are_compared_among_the_runs_that_have_one(tmp_path: Path) -> None:
    for label, accelerator in {"joint": "A", "ogm": "A", "pmr": "B"}.items():
        noted = {**MACHINE, "device": "cuda", "accelerator": accelerator}
        (write_run(tmp_path, 0.5, label=label) / "environment.json").write_text(json.dumps(noted))
    assert said(tmp_path) == "accelerator is A in most, B in pmr."

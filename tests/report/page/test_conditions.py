"""The section and the tables of scores without modalities and under noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.run_folders import write_run

from drcli.report.conditions import Seed, condition_tables, measured_tables, panels, read_conditions
from drcli.report.page.conditions import conditions, strength_curve
from drcli.report.page.page import Options, build
from drcli.report.theme import PAGE
from drcli.runs.collect import by_name, collect
from drcli.runs.conditions import Condition, Conditions
from drcli.runs.directory import RunDirectory


def scores(accuracy: float, draws: int = 1) -> Condition:
    return Condition(accuracy=accuracy, macro_f1=accuracy, n=30, draws=draws, accuracy_std=0.02 if draws > 1 else None)


def found(shift: float = 0.0, **changes: Any) -> Conditions:
    plain: dict[str, Any] = {
        "split": "test",
        "epoch": 3,
        "absent": "zero",
        "subsets": {"audio+visual": scores(0.8 + shift), "audio": scores(0.5 + shift)},
        "missing": {"audio": {"0.6": scores(0.55 + shift, 3), "0.3": scores(0.7 + shift, 3)}},
        "noise": {"audio": {"-10": scores(0.3 + shift, 3), "10": scores(0.6 + shift, 3)}},
    }
    return Conditions(**{**plain, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Joint training of two seeds that was evaluated, and an ensemble of which one seed was."""
    for seed in (0, 1):
        run = write_run(tmp_path, 0.8 + 0.02 * seed, seed=seed)
        RunDirectory(run).write_conditions(found(0.02 * seed))
    write_run(tmp_path, 0.7, label="ensemble", seed=1)
    run = write_run(tmp_path, 0.7, label="ensemble")
    RunDirectory(run).write_conditions(found(absent="left_out", noise={}, missing={}))
    return tmp_path


def test_tables_have_a_row_per_method_and_a_column_per_condition(folder: Path) -> None:
    subsets, missing, noise = condition_tables(read_conditions(by_name(collect([folder]))))
    assert list(subsets.columns) == ["method", "seeds", "audio", "audio+visual"]
    assert [list(row) for row in subsets.rows] == [
        ["joint", "2", "51.0 ± 1.4", "81.0 ± 1.4"],
        ["ensemble*", "1", "50.0", "80.0"],
    ]
    assert list(subsets.notes) == [
        "Mean ± standard deviation over seeds.",
        "Features of absent modalities are zeros.",
        "*: absent modalities are left out: their tokens are dropped, or their logits are not counted.",
    ]
    assert list(missing.columns) == ["method", "seeds", "as it is", "0.3", "0.6"]
    assert [list(row) for row in missing.rows] == [["joint", "2", "81.0 ± 1.4", "71.0 ± 1.4", "56.0 ± 1.4"]]
    assert list(noise.columns) == ["method", "seeds", "as it is", "10 dB", "-10 dB"]
    assert "Mean of 3 draws." in noise.notes


def test_tables_of_several_recipes_name_them(folder: Path) -> None:
    RunDirectory(write_run(folder, 0.6, recipe="other")).write_conditions(found(missing={}, noise={}))
    titles = [table.title for table in measured_tables(collect([folder]))]
    assert titles[0] == "other: accuracy in per cent with these modalities alone"
    assert [title.partition(":")[0] for title in titles] == ["other", "toy", "toy", "toy"]


def test_of_one_seed_the_deviation_is_that_of_the_draws() -> None:
    table = condition_tables({"joint": [Seed(found(missing={}, subsets={}))]}, with_seeds=False)[0]
    assert [list(row) for row in table.rows] == [["joint", "60.0 ± 2.0", "30.0 ± 2.0"]]
    assert list(table.notes) == ["Mean of 3 draws ± standard deviation."]


def test_seeds_that_had_different_stand_ins_are_not_averaged_without_a_word() -> None:
    seeds = [Seed(found(noise={}, missing={})), Seed(found(noise={}, missing={}, absent="mean"))]
    (table,) = condition_tables({"joint": seeds, "ogm": seeds[:1]})
    assert table.notes[-1] == "Not all seeds of joint have the same --absent: their mean says nothing."
    (alike,) = condition_tables({"ogm": seeds[:1], "joint": seeds[1:]})
    assert not any("Not all" in note for note in alike.notes)


def test_a_condition_in_which_not_every_seed_was_measured_says_how_many_were() -> None:
    less = found(missing={}, noise={}, subsets={"audio": scores(0.7)})
    (table,) = condition_tables({"joint": [Seed(found(missing={}, noise={})), Seed(less)]})
    assert [list(row) for row in table.rows] == [["joint", "2", "60.0 ± 14.1", "80.0 (n = 1)"]]


def test_curves_run_over_the_strength_and_begin_with_what_was_not_changed(folder: Path) -> None:
    _, missing, noise = panels(read_conditions(by_name(collect([folder]))))
    drawn = strength_curve(missing, "joint")
    assert list(drawn.epochs) == [0.0, 0.3, 0.6]
    assert drawn.mean == pytest.approx([81, 71, 56])
    assert drawn.std == pytest.approx([2**0.5] * 3)
    assert list(strength_curve(noise, "joint").epochs) == [-10.0, 10.0]


def test_the_page_shows_what_was_measured(tmp_path: Path) -> None:
    RunDirectory(write_run(tmp_path, 0.8, epochs=4)).write_conditions(found(missing={}))
    page = build(collect([tmp_path]), Options(draw_maps=False))
    assert "Without modalities, and under noise" in page.html
    assert "toy-noise-audio" in [drawing.name for drawing in page.drawings]


def test_there_is_a_curve_for_each_modality_with_noise_and_each_that_samples_lack(folder: Path) -> None:
    section = conditions(by_name(collect([folder])), PAGE.with_methods(["joint", "ensemble"]))
    assert section is not None
    assert [drawing.name for drawing in section.drawings] == ["toy-missing-audio", "toy-noise-audio"]
    assert section.drawings[1].caption == (
        "White noise on the inputs of audio: test accuracy; the band is one standard deviation over seeds."
    )


def test_without_such_scores_there_is_no_section(tmp_path: Path) -> None:
    write_run(tmp_path, 0.8)
    runs = collect([tmp_path])
    assert conditions(by_name(runs), PAGE.with_methods(["joint"])) is None


def test_scores_of_other_weights_than_the_selected_ones_are_not_shown(tmp_path: Path) -> None:
    RunDirectory(write_run(tmp_path, 0.8)).write_conditions(found(epoch=2))
    (run,) = collect([tmp_path])
    assert run.conditions() is None

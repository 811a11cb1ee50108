"""Average ranks of methods over datasets, what tells them apart, and the tables of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support.run_folders import write_run

from drcli.report.ranking import rank_tables
from drcli.report.tables import comparison_tables
from drcli.runs.collect import by_recipe, collect
from drcli.runs.comparison import Ranking, average_ranks, compare, ranking


def test_ranks_are_averaged_over_datasets_among_the_methods_that_all_have(tmp_path: Path) -> None:
    for recipe, of_one in {"a": {"joint": 0.5, "pmr": 0.6, "agm": 0.7}, "b": {"joint": 0.5, "pmr": 0.5}}.items():
        for label, accuracy in of_one.items():
            write_run(tmp_path, accuracy, label=label, recipe=recipe, dataset={"name": f"set-{recipe}"})
        write_run(tmp_path, 0.9, label="unimodal", modality="audio", recipe=recipe, dataset={"name": f"set-{recipe}"})
    rows = {name: compare(runs) for name, runs in by_recipe(collect([tmp_path])).items()}
    assert average_ranks(rows) == {"pmr": 1.25, "joint": 1.75}  # (1 + 1.5) / 2 and (2 + 1.5) / 2
    tables = comparison_tables(collect([tmp_path]))
    assert tables[-1].rows == [("pmr", "1.25"), ("joint", "1.75")]
    assert len(tables[-1].notes) == 2


def pair(out: Path, recipe: str, dataset: str, **changes: Any) -> None:
    for label in ("joint", "pmr"):
        write_run(out, 0.5, label=label, recipe=recipe, dataset={"name": dataset}, **changes)


def test_each_variant_has_ranks_of_its_own_named_by_recipe(tmp_path: Path) -> None:
    for dataset in ("a", "b"):
        pair(tmp_path, dataset, dataset)
        pair(tmp_path, f"{dataset}-noisy", dataset)
    pair(tmp_path, "a-loud", "a")
    assert [table.title for table in rank_tables(collect([tmp_path]))] == [
        "Average rank over a, b",
        "Average rank over a-noisy, b-noisy",
    ]


def test_a_second_recipe_of_a_dataset_is_said_to_be_left_out(tmp_path: Path) -> None:
    for recipe, dataset in {"a": "a", "a_mmtm": "a", "b": "b"}.items():
        pair(tmp_path, recipe, dataset)
    (table,) = rank_tables(collect([tmp_path]))
    assert table.title == "Average rank over a, b"
    assert table.notes[2] == "Left out, another recipe of the dataset is here: a_mmtm."


def test_ranks_bear_marks_and_say_how_many_seeds(tmp_path: Path) -> None:
    pair(tmp_path, "a", "a")
    write_run(tmp_path, 0.6, label="pmr", recipe="a", dataset={"name": "a"}, seed=1, training={"epochs": 5})
    pair(tmp_path, "b", "b", selection="test")
    (table,) = rank_tables(collect([tmp_path]))
    assert [row[1][-1] for row in table.rows] == ["†", "†"]
    assert table.notes[2:4] == [
        "Means are over 1 to 2 seeds.",
        "Not all else is equal in a: training.epochs is 6 in most, 5 in pmr seed 1.",
    ]
    assert table.notes[-1].startswith("† The epoch was selected on the test split")


def test_one_method_alone_is_not_ranked(tmp_path: Path) -> None:
    for dataset in ("a", "b"):
        write_run(tmp_path, 0.5, recipe=dataset, dataset={"name": dataset})
    assert rank_tables(collect([tmp_path])) == []


def test_variants_of_one_dataset_are_not_ranked(tmp_path: Path) -> None:
    for recipe in ("toy", "toy-noisy"):
        write_run(tmp_path, 0.5, recipe=recipe)
    titles = [table.title for table in comparison_tables(collect([tmp_path]))]
    assert titles == ["toy: test scores in per cent", "toy-noisy (dataset toy): test scores in per cent"]


def test_groups_of_methods_that_ranks_do_not_tell_apart() -> None:
    """With a critical difference of 1.25: a to c, b to d; e is alone. Exactly 1.25 apart is told apart."""
    means = {"a": 1.0, "b": 1.5, "c": 2.0, "d": 2.7, "e": 3.95}
    assert Ranking(means, 10, 1.25, None).alike == [["a", "b", "c"], ["b", "c", "d"]]
    assert Ranking(means, 10, 5.0, None).alike == [list(means)]
    assert Ranking(means, 10, 0.1, None).alike == []


def test_a_ranking_knows_its_tests(tmp_path: Path) -> None:
    order = {"toy": (0.5, 0.6, 0.7), "digits": (0.5, 0.6, 0.7), "avmnist": (0.6, 0.5, 0.7)}
    for recipe, accuracies in order.items():
        for label, accuracy in zip(("joint", "pmr", "agm"), accuracies, strict=True):
            write_run(tmp_path, accuracy, label=label, recipe=recipe, dataset={"name": recipe, "root": "data"})
    runs = collect([tmp_path])
    found = ranking({name: compare(group) for name, group in by_recipe(runs).items()})
    assert found.means == pytest.approx({"agm": 1.0, "pmr": 7 / 3, "joint": 8 / 3})
    assert found.friedman == pytest.approx(stats.friedmanchisquare(*zip(*order.values(), strict=True)).pvalue)
    assert found.critical == pytest.approx(2.343 * np.sqrt(3 * 4 / 18), rel=1e-3)
    assert found.alike == [["agm", "pmr", "joint"]]
    (table,) = rank_tables(runs)
    assert any(note.startswith("Ranks that are 1.91 or more apart differ") for note in table.notes)
    assert any(
        note.endswith("No two of these are. Friedman's test that all are equal: p = 0.097.") for note in table.notes
    )


def test_two_methods_over_two_datasets_cannot_be_told_apart(tmp_path: Path) -> None:
    for recipe in ("toy", "digits"):
        for label, accuracy in {"joint": 0.5, "pmr": 0.6}.items():
            write_run(tmp_path, accuracy, label=label, recipe=recipe, dataset={"name": recipe, "root": "data"})
    (table,) = rank_tables(collect([tmp_path]))
    assert any("No ranks of 2 methods can be, over 2 datasets." in note for note in table.notes)

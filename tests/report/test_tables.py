"""Comparison tables: which columns, to which reference, in whose names, and what is bold."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.records import COST, measures
from support.run_folders import write_run

from drcli.errors import UsageError
from drcli.report.tables import BOLD, KEYS, STANDARD, best_names, comparison_tables
from drcli.report.wording import in_print
from drcli.runs.collect import RunRecord, by_name, collect
from drcli.runs.measures import measures_of

SCORES = {"joint": [0.80, 0.82, 0.81], "pmr": [0.90, 0.91, 0.92], "agm": [0.89, 0.93, 0.90]}


@pytest.fixture
def runs(tmp_path: Path) -> list[RunRecord]:
    """Three methods and three seeds: `agm` differs from the best by chance, joint training does not; no fused probe."""
    for label, accuracies in SCORES.items():
        for seed, accuracy in enumerate(accuracies):
            write_run(tmp_path, accuracy, label=label, seed=seed)
    return collect([tmp_path])


def test_columns_come_in_the_order_asked_for_after_the_names(runs: list[RunRecord]) -> None:
    (table,) = comparison_tables(runs, columns=["seconds", "probes", "method", "accuracy"])
    assert table.columns == ["method", "s / run", "audio probe", "visual probe", "accuracy"]
    assert table.rows[0] == ["joint", "12", "71.0 ± 1.0", "61.0 ± 1.0", "81.0 ± 1.0"]
    assert not any(note.startswith(("minus", "val:", "bootstrap")) for note in table.notes)


def test_the_fused_probe_has_a_column_where_a_run_measured_it(tmp_path: Path) -> None:
    """Of all seeds or of none: joint's runs of before it was measured have none, agm's second neither."""
    for label, values in {"joint": (None, None), "pmr": (0.75, 0.85), "agm": (0.8, None)}.items():
        for seed, value in enumerate(values):
            write_run(tmp_path, 0.8, label=label, seed=seed, summary={"fused_probe": value})
    (table,) = comparison_tables(collect([tmp_path]), columns=["probes", "fused_probe"])
    assert table.columns == ["method", "audio probe", "visual probe", "fused probe"]
    assert {row[0]: row[-1] for row in table.rows} == {"joint": "-", "pmr": "80.0 ± 7.1", "agm": "-"}
    assert "fused probe: the same on the features of all modalities together." in table.notes


def test_an_unknown_column_is_refused_with_the_nearest(runs: list[RunRecord]) -> None:
    said = r"--columns acuracy: no such column; known: method, .* Did you mean accuracy\?"
    with pytest.raises(UsageError, match=said):
        comparison_tables(runs, columns=["seeds", "acuracy"])


def test_every_column_that_there_is_has_a_key(runs: list[RunRecord]) -> None:
    (table,) = comparison_tables(runs, columns=[key for key in STANDARD if key != "fused_probe"])
    assert table.columns == comparison_tables(runs)[0].columns


def test_what_else_was_measured_is_in_columns_of_its_own_that_are_asked_for(tmp_path: Path) -> None:
    """The second seed's measures are those of the first and 0.02 more; agm's runs are of before they were measured."""
    for seed in (0, 1):
        write_run(tmp_path, 0.8, seed=seed, summary={"measures": measures(0.02 * seed), "cost": COST})
        write_run(tmp_path, 0.8, label="agm", seed=seed)
    runs = collect([tmp_path])
    more = [one.key for one in measures_of("classification")]
    assert set(more) < set(KEYS) - set(STANDARD)
    (table,) = comparison_tables(runs, columns=more)
    shown = dict(zip(table.columns, table.rows[0], strict=True))
    assert shown == {
        "method": "joint",
        "balanced": "71.0 ± 1.4",
        "NLL": "0.910 ± 0.014",
        "ECE": "11.0 ± 1.4",
        "Brier": "0.310 ± 0.014",
        "T": "1.50 ± 0.00",
        "NLL / T": "0.810 ± 0.014",
        "ECE / T": "6.0 ± 1.4",
        "Brier / T": "0.260 ± 0.014",
        "parameters": "12345",
        "s / epoch": "1.50 ± 0.00",
        "s / 1,000": "0.250 ± 0.000",
        "MiB": "512",
        "GPU MiB": "-",
    }
    assert table.rows[1] == ["agm", *["-"] * len(more)]
    assert "NLL: negative log-likelihood of the true class, in nats." in table.notes
    assert not set(table.columns[1:]) & set(comparison_tables(runs)[0].columns)


def test_differences_are_to_the_reference_asked_for(runs: list[RunRecord]) -> None:
    (table,) = comparison_tables(runs, "pmr", ["difference"])
    assert table.columns == ["method", "minus pmr"]
    assert {row[0]: row[1][:5] for row in table.rows} == {"joint": "-10.0", "pmr": "-", "agm": "-0.3 "}
    with pytest.raises(UsageError, match=r"--reference prm: .* Did you mean pmr\?"):
        comparison_tables(runs, "prm")


def test_the_best_are_those_whose_paired_interval_contains_zero(runs: list[RunRecord]) -> None:
    # agm minus pmr: -1, +2, -2 points, -0.3 +- 5.2; joint minus pmr: -10, -9, -11, -10 +- 2.5.
    assert set(best_names(by_name(runs), lambda run: run.score)) == {"agm", "pmr"}


def test_of_one_seed_the_best_alone_is_bold_and_what_equals_it(tmp_path: Path) -> None:
    for label, accuracy in {"joint": 0.8, "pmr": 0.9, "agm": 0.9}.items():
        write_run(tmp_path, accuracy, label=label)
    methods = by_name(collect([tmp_path]))
    assert set(best_names(methods, lambda run: run.score)) == {"agm", "pmr"}
    assert best_names({"joint": methods["joint"]}, lambda run: run.score) == []
    assert best_names(methods, lambda run: None) == []


def test_for_print_methods_have_their_names_and_the_best_are_bold(runs: list[RunRecord]) -> None:
    (table,) = comparison_tables(runs, columns=["accuracy", "difference"], for_print=True)
    places = {row[0]: number for number, row in enumerate(table.rows)}
    assert set(places) == {"Joint", "PMR", "AGM"}
    assert table.columns == ["method", "accuracy", "minus Joint"]
    assert set(table.bold) == {(places["PMR"], 1), (places["AGM"], 1)}
    assert BOLD in table.notes
    (plain,) = comparison_tables(runs)
    assert (list(plain.bold), BOLD in plain.notes, plain.rows[0][0]) == ([], False, "joint")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("diagnose_relearn", "D&R"),
        ("ogm_ge", "OGM-GE"),
        ("unimodal:audio", "Unimodal (audio)"),
        ("mine", "mine"),
        ("mine:rgb", "mine (rgb)"),
    ],
)
def test_a_name_in_print_is_the_papers_or_the_label(name: str, shown: str) -> None:
    assert in_print(name) == shown

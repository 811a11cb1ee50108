"""The numbers of the tables, against numpy and scipy on the summaries themselves."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from support.records import COST, measures, scores
from support.run_folders import write_run

from drcli.errors import UsageError
from drcli.report.render import TableText
from drcli.report.tables import comparison_tables
from drcli.runs.collect import by_recipe, collect
from drcli.runs.comparison import compare, find_reference, resolution, splits_of
from drcli.runs.values import comparison_csv

SCORES = {
    "joint": [0.82, 0.84, 0.80, 0.83],
    "pmr": [0.85, 0.86, 0.86, 0.84],
    "agm": [0.81, 0.86, 0.79, 0.83],
}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Three methods and four seeds; `agm` lacks seed 3, and an unfinished run lies beside them."""
    for label, accuracies in SCORES.items():
        for seed, accuracy in enumerate(accuracies):
            write_run(
                tmp_path,
                None if (label, seed) == ("agm", 3) else accuracy,
                label=label,
                method=METHOD[label],
                seed=seed,
            )
    write_run(tmp_path, 0.7, label="unimodal", modality="audio")
    return tmp_path


METHOD = {"joint": "joint", "pmr": "pmr", "agm": "agm"}


def recomputed(out: Path, label: str) -> dict[str, object]:
    """A row of comparison.csv by another way: straight from the files, with numpy and scipy."""
    found = {path.parent.name: json.loads(path.read_text()) for path in (out / "toy" / label).glob("*/summary.json")}
    joint = {path.parent.name: json.loads(path.read_text()) for path in (out / "toy/joint").glob("*/summary.json")}
    accuracy = np.array([found[seed]["test"]["accuracy"] for seed in sorted(found)])
    differences = accuracy - [joint[seed]["test"]["accuracy"] for seed in sorted(found)]
    low, high = stats.t.interval(0.95, len(differences) - 1, loc=differences.mean(), scale=stats.sem(differences))
    f1 = np.array([summary["test"]["macro_f1"] for summary in found.values()])
    return {
        "n": len(accuracy),
        "accuracy_mean": accuracy.mean(),
        "accuracy_std": accuracy.std(ddof=1),
        "macro_f1_mean": f1.mean(),
        "macro_f1_std": f1.std(ddof=1),
        "difference_to_joint": differences.mean(),
        "difference_n": len(differences),
        "difference_p": stats.ttest_1samp(differences, 0).pvalue,
        "difference_t95_low": low,
        "difference_t95_high": high,
        "seconds": 12.0,
        "probe_audio": np.mean([s["unimodal"]["audio"]["probe_accuracy"] for s in found.values()]),
    }


@pytest.mark.parametrize("label", ["pmr", "agm"])
def test_numbers_equal_those_recomputed_from_the_summaries(out: Path, label: str) -> None:
    rows = {name: compare(runs) for name, runs in by_recipe(collect([out])).items()}
    (row,) = [row for row in csv.DictReader(io.StringIO(comparison_csv(rows))) if row["method"] == label]
    expected = recomputed(out, label)
    assert {key: float(row[key]) for key in expected} == pytest.approx(expected)
    assert (row["recipe"], row["selection"], row["test_watched"]) == ("toy", "val", "false")


def test_the_bootstrap_interval_is_shown_from_five_seeds_on_and_close_to_scipys(out: Path) -> None:
    def table() -> TableText:
        return comparison_tables(collect([out]))[0]

    assert "bootstrap" not in table().columns  # four seeds
    write_run(out, 0.81, seed=4)
    write_run(out, 0.84, label="pmr", seed=4)
    assert "bootstrap" in table().columns
    row = next(row for row in compare(collect([out])) if row.name == "pmr")
    differences = np.subtract([*SCORES["pmr"], 0.84], [*SCORES["joint"], 0.81])
    expected = stats.bootstrap((differences,), np.mean, n_resamples=10_000, method="percentile").confidence_interval
    assert row.difference is not None
    assert row.difference.bootstrap95 == pytest.approx([expected.low, expected.high], abs=0.003)


def test_the_table_shows_the_same_numbers_in_per_cent(out: Path) -> None:
    (table,) = comparison_tables(collect([out]))
    cells = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    expected = recomputed(out, "agm")
    assert cells["agm"]["accuracy"] == f"{100 * expected['accuracy_mean']:.1f} ± {100 * expected['accuracy_std']:.1f}"  # type: ignore[operator]
    assert cells["agm"]["seeds"] == "3"
    assert cells["pmr"]["minus joint"].startswith("+3.0 [")
    assert cells["joint"]["minus joint"] == "-"
    assert cells["unimodal:audio"]["visual probe"] == "-"
    assert cells["unimodal:audio"]["minus joint"] == "-12.0"  # one seed: no interval


def test_fewer_pairs_than_seeds_are_said(tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        write_run(tmp_path, 0.5 + seed / 10, label="pmr", seed=seed)
    for seed in (0, 1):
        write_run(tmp_path, 0.5, seed=seed)
    (table,) = comparison_tables(collect([tmp_path]))
    assert next(row for row in table.rows if row[0] == "pmr")[7].endswith("(n = 2)")


def test_selection_on_test_and_a_watched_test_split_are_marked(tmp_path: Path) -> None:
    write_run(tmp_path, 0.5, selection="test")
    write_run(tmp_path, 0.6, label="pmr", monitor="test")
    runs = collect([tmp_path])
    (table,) = comparison_tables(runs)
    assert [row[3:7] for row in table.rows] == [
        ["50.0†", "49.0†", "40.0†", "30.0†"],
        ["60.0‡", "59.0‡", "50.0‡", "40.0‡"],
    ]
    assert [note[0] for note in table.notes[-2:]] == ["†", "‡"]


def test_a_difference_bears_the_marks_of_both_sides(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, 0.5 + seed / 10, seed=seed, selection="test")
        write_run(tmp_path, 0.6, label="pmr", seed=seed, monitor="test")
        write_run(tmp_path, 0.6, label="agm", seed=seed)
    (table,) = comparison_tables(collect([tmp_path]))
    cells = {row[0]: row[7] for row in table.rows}
    assert cells["pmr"].endswith("]†‡")
    assert cells["agm"].endswith("]†")
    assert cells["joint"] == "-"


@pytest.mark.parametrize(
    ("selections", "said"),
    [
        (["val"], "epochs selected on val"),
        (["test", "val"], "epochs selected on test, val"),
        (["last"], "epochs selected as the last"),
        (["last", "val"], "epochs selected on val, or as the last"),
    ],
)
def test_the_last_epoch_is_no_split_that_selects(tmp_path: Path, selections: list[str], said: str) -> None:
    for seed, selection in enumerate(selections):
        write_run(tmp_path, 0.5, seed=seed, selection=selection)
    assert comparison_tables(collect([tmp_path]))[0].notes[0].endswith(f"; {said}.")


def test_differences_are_to_the_label_joint_whatever_comes_first(tmp_path: Path) -> None:
    write_run(tmp_path, 0.5, label="a_joint", method="joint")
    write_run(tmp_path, 0.6)
    write_run(tmp_path, 0.9, label="pmr")
    (table,) = comparison_tables(collect([tmp_path]))
    assert {row[0]: row[7] for row in table.rows} == {"a_joint": "-10.0", "joint": "-", "pmr": "+30.0"}
    assert table.notes[1].startswith("minus joint: accuracy minus that of joint, paired by seed")


def test_another_label_of_joint_training_is_named(tmp_path: Path) -> None:
    write_run(tmp_path, 0.5, label="base", method="joint")
    write_run(tmp_path, 0.5 - 1e-9, label="pmr")
    (table,) = comparison_tables(collect([tmp_path]))
    assert "accuracy minus that of base" in table.notes[1]
    assert table.rows[1][7] == "+0.0"  # not -0.0


def test_unmarked_tables_say_validation(out: Path) -> None:
    (table,) = comparison_tables(collect([out]))
    assert not any(mark in cell for row in table.rows for cell in row for mark in "†‡")
    assert table.notes[0].endswith("epochs selected on val.")


def test_the_training_of_shared_encoders_counts(tmp_path: Path) -> None:
    write_run(tmp_path, 0.5, summary={"teacher_seconds": 30.0})
    write_run(tmp_path, 0.5, seed=1, summary={"seconds": 14.0, "teacher_seconds": 20.0})
    (row,) = compare(collect([tmp_path]))
    assert (row.seconds, row.teacher_seconds, row.all_seconds) == (13.0, 25.0, 38.0)
    (table,) = comparison_tables(collect([tmp_path]))
    assert table.rows[0][-1] == "13 + 25"
    assert table.notes[-1].startswith("s / run: seconds of a run, + those of the unimodal runs")


def test_unfinished_runs_alone_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path, None)
    with pytest.raises(UsageError, match="no run is finished yet, so that there is no table"):
        comparison_tables(collect([tmp_path]))


def test_unfinished_runs_are_counted_and_named(out: Path) -> None:
    write_run(out, None, label="ogm")
    write_run(out, None, recipe="toy-noisy")
    (table,) = comparison_tables(collect([out]))
    assert "2 of 14 runs are not finished: agm seed 3 and ogm." in table.notes
    assert table.notes[-1] == "toy-noisy: none of its runs is finished."


def test_a_complete_table_speaks_of_no_unfinished_run(tmp_path: Path) -> None:
    write_run(tmp_path, 0.5)
    (table,) = comparison_tables(collect([tmp_path]))
    assert [note for note in table.notes if "finished" in note] == []


def test_runs_in_which_nothing_was_re_learnt_are_named(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, 0.5, seed=seed)
        write_run(tmp_path, 0.5, seed=seed, label="diagnose_relearn")
    path = tmp_path / "toy" / "diagnose_relearn" / "seed1" / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "events": 0}))
    (table,) = comparison_tables(collect([tmp_path]))
    said = "No re-learning happened in diagnose_relearn seed 1: it is training without it."
    assert said in table.notes
    path.write_text(json.dumps({**json.loads(path.read_text()), "events": 2}))
    (table,) = comparison_tables(collect([tmp_path]))
    assert said not in table.notes


def test_runs_that_were_selected_before_their_first_re_learning_are_counted(tmp_path: Path) -> None:
    for seed, first in ((0, 2), (1, 3), (2, 4)):  # all selected epoch 3
        write_run(tmp_path, 0.5, seed=seed, label="diagnose_relearn", summary={"first_event": first})
    (table,) = comparison_tables(collect([tmp_path]))
    said = "diagnose_relearn: in 2 of 3 runs the selected epoch is from before the first re-learning"
    assert [note.startswith(said) for note in table.notes].count(True) == 1


def test_the_reference_may_be_another_label(tmp_path: Path) -> None:
    for label, accuracy in {"joint_warm": 0.5, "joint": 0.6, "ogm": 0.9}.items():
        write_run(tmp_path, accuracy, label=label, method="ogm" if label == "ogm" else "joint")
    runs = collect([tmp_path])
    rows = {row.name: row for row in compare(runs, "joint_warm")}
    assert rows["ogm"].difference is not None
    assert rows["ogm"].difference.to == "joint_warm"
    assert rows["ogm"].difference.mean == pytest.approx(0.4)
    assert comparison_tables(runs, "joint_warm")[0].columns[7] == "minus joint_warm"
    with pytest.raises(UsageError, match=r"--reference joint_wram: no finished run has this label; .*joint_warm"):
        compare(runs, "joint_wram")
    assert find_reference({}) is None


def test_validation_accuracy_stands_beside_that_of_test(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, 0.5 + seed / 10, seed=seed)
        write_run(tmp_path, 0.5, label="pmr", seed=seed, summary={"val": None} if seed else {})
    (table,) = comparison_tables(collect([tmp_path]))
    assert table.columns[2] == "val"
    assert [row[2] for row in table.rows] == ["60.0 ± 7.1", "-"]  # of all seeds or of none


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    write_run(tmp_path, 0.5)
    (table,) = comparison_tables(collect([tmp_path]), columns=("method", "accuracy"))
    assert (table.columns, table.rows) == (["method", "accuracy"], [["joint", "50.0"]])


def test_p_values_are_corrected_for_the_methods_that_have_one(out: Path) -> None:
    """Of two t-tests, the lesser doubles; a method of one seed has none."""
    rows = {row.name: row.difference for row in compare(collect([out]))}
    tests = {
        label: stats.ttest_rel(SCORES[label][:n], SCORES["joint"][:n]).pvalue for label, n in (("pmr", 4), ("agm", 3))
    }
    for label, p in tests.items():
        found = rows[label]
        assert found is not None
        assert found.p == pytest.approx(p)
        assert found.p_holm == pytest.approx(
            max(min(2 * p, 1) if p == min(tests.values()) else p, 2 * min(tests.values()))
        )
    alone = rows["unimodal:audio"]
    assert alone is not None
    assert (alone.p, alone.p_holm) == (None, None)


def test_a_table_says_what_is_significant_and_what_so_many_seeds_can_show(out: Path) -> None:
    runs = collect([out])
    (table,) = comparison_tables(runs)
    assert "0 of 2 differences are significant (paired t-tests at 5 %, Holm's correction)." in table.notes
    found = resolution(compare(runs))
    assert found is not None
    deviations = [
        np.subtract(SCORES[label][:n], SCORES["joint"][:n]).std(ddof=1) for label, n in (("pmr", 4), ("agm", 3))
    ]
    assert found.deviation == pytest.approx(np.median(deviations))
    assert found.seeds in {3, 4}
    (note,) = [note for note in table.notes if "seeds can show differences to joint of" in note]
    assert (
        f"of {100 * found.detectable:.1f} points or more; to show 1 point it would take {found.for_one_point} (" in note
    )


def test_one_seed_has_nothing_to_say_of_what_seeds_can_show(tmp_path: Path) -> None:
    write_run(tmp_path, 0.5)
    write_run(tmp_path, 0.6, label="pmr")
    runs = collect([tmp_path])
    assert resolution(compare(runs)) is None
    (table,) = comparison_tables(runs)
    assert "p" not in table.columns
    assert not any("significant" in note or "can show" in note for note in table.notes)


@pytest.mark.parametrize(
    ("val", "test", "sizes", "warns"),
    [
        (0.90, 0.58, (300, 600), True),  # features learned on the training part
        (0.58, 0.90, (300, 600), True),
        (0.86, 0.83, (300, 600), False),  # z = 1.2
        (0.90, 0.58, (10, 12), False),  # so few samples explain it
        (0.90, 0.80, (300, 600), True),  # z = 3.8
    ],
)
def test_validation_and_test_that_differ_are_warned_of(
    val: float, test: float, sizes: tuple[int, int], warns: bool, tmp_path: Path
) -> None:
    """The means over runs are compared, and samples counted once however many runs there are."""
    for label in ("joint", "pmr"):
        for seed in range(5):
            shift = 0.01 * (seed - 2)
            found = {"val": scores(val + shift, n=sizes[0]), "test": scores(test + shift, n=sizes[1])}
            write_run(tmp_path, test, label=label, seed=seed, summary=found)
    runs = collect([tmp_path])
    found_splits = splits_of(runs)
    assert found_splits is not None
    assert (found_splits.val, found_splits.test) == pytest.approx((val, test))
    assert found_splits.are_apart is warns
    (table,) = comparison_tables(runs)
    said = f"Validation and test differ by more than sampling explains: {100 * val:.1f} % of {sizes[0]} samples"
    assert [warning.startswith(said) for warning in table.warnings] == [True] * warns


def test_runs_that_kept_no_validation_scores_are_not_compared_with_test(tmp_path: Path) -> None:
    write_run(tmp_path, 0.5, summary={"val": None})
    assert splits_of(collect([tmp_path])) is None


def test_everything_that_was_measured_is_in_the_csv_file(tmp_path: Path) -> None:
    """The second seed's measures are 0.02 more; agm was trained before they were kept."""
    for seed in (0, 1):
        write_run(tmp_path, 0.5, seed=seed, summary={"measures": measures(0.02 * seed), "cost": COST})
    write_run(tmp_path, 0.6, label="agm")
    runs = collect([tmp_path])
    joint, agm = csv.DictReader(io.StringIO(comparison_csv({"toy": compare(runs)})))
    expected = {
        "balanced_accuracy_mean": 0.71, "nll_mean": 0.91, "ece_mean": 0.11, "brier_mean": 0.31, "temperature_mean": 1.5,
        "nll_scaled_mean": 0.81, "ece_scaled_mean": 0.06, "brier_scaled_mean": 0.26, "nll_std": 0.02 / np.sqrt(2),
        "parameters_mean": 12345, "seconds_per_epoch_mean": 1.5, "seconds_per_1000_mean": 0.25,
        "peak_memory_mean": 512 * 2**20, "accuracy_of_a": 0.81, "accuracy_of_b": 0.61,
    }  # fmt: skip
    assert {key: float(joint[key]) for key in expected} == pytest.approx(expected)
    assert {agm[key] for key in expected} == {""}
    assert "accuracy_of_c" not in joint  # no sample of it

"""What stands in the sections, and in which of them nothing does."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.run_tree import RELEARN, MadeRun, small_study
from support.sections import runs_of, text

from drcli.errors import UsageError
from drcli.report.figures import accuracy, ranks
from drcli.report.page import results
from drcli.report.page.sections import (
    Section,
    check_labels,
    confusions,
    curves,
    featured,
    first_coloured,
    learning,
    maps,
    number_of_maps,
    sensitivities,
)
from drcli.report.theme import PAGE, Theme
from drcli.report.wording import Methods
from drcli.runs.collect import RunRecord, by_name
from drcli.runs.comparison import Ranking
from drcli.runs.records import Summary

ON_TEST: dict[str, Any] = {"selection": "test", "monitor": "test"}
SAID = "epochs selected on test; the test split was watched while training."


def theme(methods: Methods) -> Theme:
    return PAGE.with_methods(methods)


def names(section: Section | None) -> list[str]:
    assert section is not None
    return [item.name for item in section.drawings]


def captions(section: Section | None) -> list[str]:
    assert section is not None
    return [item.caption for item in section.drawings]


def found_results(runs: list[RunRecord]) -> Section:
    return results.results(runs, theme(by_name(runs)))


def test_joint_and_dr_are_shown_in_detail_if_both_are_there(tmp_path: Path) -> None:
    everything = by_name(runs_of(tmp_path, *small_study(), MadeRun("agm"), MadeRun("ogm")))
    assert featured(everything, ()) == ["joint", "diagnose_relearn"]
    assert featured(everything, ["ogm"]) == ["ogm"]
    del everything["joint"]
    assert featured(everything, ()) == list(everything)[:2]


def test_colours_go_to_what_is_shown_in_detail_and_then_to_the_best_on_validation(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, *(MadeRun(label) for label in ("joint", "agm", "ogm", "diagnose_relearn")))
    rates = {"agm": 0.7, "ogm": 0.9}
    done = [replace(run, summary=_with_val(run, rates.get(run.label, 0.5))) for run in runs]
    assert list(dict.fromkeys(first_coloured(done, ()))) == ["joint", "diagnose_relearn", "ogm", "agm"]
    assert first_coloured(done, ["agm"])[:2] == ["agm", "ogm"]


def _with_val(run: RunRecord, accuracy: float) -> Summary:
    assert run.done.val is not None
    return run.done.model_copy(update={"val": run.done.val.model_copy(update={"accuracy": accuracy})})


def test_an_unknown_label_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--maps ogn: no run has this label; known: joint, ogm. Did you mean ogm\?"):
        check_labels(runs_of(tmp_path, MadeRun(), MadeRun("ogm")), ["ogn", "joint"])


def test_the_picture_of_differences_says_how_epochs_were_selected(tmp_path: Path) -> None:
    made = [MadeRun(selection="test"), MadeRun("ogm"), MadeRun("unimodal", selection="last")]
    runs = [replace(run, modality="audio" if run.label == "unimodal" else None) for run in runs_of(tmp_path, *made)]
    drawing, *_ = found_results(runs).drawings
    assert drawing.caption.endswith("mean and 95 % interval of Student's t; epochs selected on test, val.")


def test_results_have_a_picture_of_differences_where_there_is_joint_training(tmp_path: Path) -> None:
    both = ["digits-difference", "digits-probes"]
    assert names(found_results(runs_of(tmp_path / "a", *small_study()))) == both
    assert names(found_results(runs_of(tmp_path / "b", MadeRun("ogm")))) == []


def test_test_curves_are_drawn_only_where_test_was_watched(tmp_path: Path) -> None:
    def drawn(folder: str, run: MadeRun) -> Section | None:
        methods = by_name(runs_of(tmp_path / folder, run))
        return curves("digits", accuracy.read_epochs(methods), theme(methods))

    assert names(drawn("a", MadeRun())) == ["digits-val-accuracy", "digits-train-accuracy"]
    assert names(drawn("b", MadeRun(monitor="test")))[-1] == "digits-test-accuracy"
    assert drawn("c", MadeRun(epochs=0)) is None


def test_the_ends_of_learning_curves_are_there_in_numbers(tmp_path: Path) -> None:
    methods = by_name(runs_of(tmp_path, MadeRun(monitor="test"), MadeRun("ogm")))
    cells = re.findall(r'data-key="([^"]*)"', text(curves("digits", accuracy.read_epochs(methods), theme(methods))))
    assert [cells[0], cells[4], cells[7]] == ["joint", "ogm", ""]
    assert cells[1] == cells[3] != cells[2]  # the made-up test scores are those of validation


def test_the_learning_state_has_purities_gaps_strengths_and_their_numbers(tmp_path: Path) -> None:
    methods = by_name(runs_of(tmp_path, *small_study(), MadeRun("agm")))
    section = learning(methods, ["joint", "diagnose_relearn"], theme(methods))
    kinds = ("purity", "gap", "strength")
    assert names(section) == [f"digits-{m}-{kind}" for m in ("audio", "visual") for kind in kinds]
    # Event 2, audio: 0.6 (0.03 + 0.02) of seed 0 and 0.6 (0.05 + 0.002) of seed 1, so 0.0306 +- 0.0008.
    assert "0.031 \N{PLUS-MINUS SIGN} 0.001" in text(section)
    # What is left of it is a quarter: 0.00765 +- 0.0002.
    assert "0.008 \N{PLUS-MINUS SIGN} 0.000" in text(section)
    assert ">gap after<" in text(section)
    assert "falls from the filled triangle to the hollow one" in captions(section)[1]
    assert "diagnosis.monitor_every" not in text(section)


def test_without_a_measurement_after_it_an_event_is_a_triangle(tmp_path: Path) -> None:
    methods = by_name(runs_of(tmp_path, *small_study(measured=False)))
    section = learning(methods, ["joint"], theme(methods))
    assert "after<" not in text(section)
    assert "A triangle is a re-learning event." in captions(section)[1]


def test_methods_without_purities_are_named_with_the_setting_that_gives_them(tmp_path: Path) -> None:
    methods = by_name(runs_of(tmp_path, MadeRun(), *small_study()[2:]))
    said = "No purities were measured of joint: train with diagnosis.monitor_every=2 to have them."
    section = learning(methods, ["joint", "diagnose_relearn"], theme(methods))
    assert said in text(section)
    assert names(section)
    alone = learning({"joint": methods["joint"]}, ["joint"], theme(methods))
    assert (names(alone), said in text(alone)) == ([], True)


def test_the_last_diagnosis_of_a_method_that_does_not_relearn_is_in_numbers(tmp_path: Path) -> None:
    methods = by_name(runs_of(tmp_path, *small_study()))
    found = text(learning(methods, ["joint"], theme(methods)))
    events, _, last = found.partition("Last diagnosis in numbers")
    assert ">joint<" not in events
    assert re.findall(r'data-key="([^"]*)"', last)[:3] == ["joint", "24.0", "audio"]
    assert "diagnose_relearn" not in last  # its last diagnosis was an event


def test_a_run_of_one_diagnosis_is_drawn(tmp_path: Path) -> None:
    methods = by_name(runs_of(tmp_path, MadeRun("diagnose_relearn", settings=RELEARN, every=20)))
    assert "digits-audio-strength" in names(learning(methods, ["diagnose_relearn"], theme(methods)))


def test_maps_are_of_the_first_seed_and_counted_beforehand(tmp_path: Path) -> None:
    methods = by_name(runs_of(tmp_path, *small_study()))
    section = maps(methods, ["joint"], theme(methods))
    assert names(section) == ["digits-joint-audio-map", "digits-joint-visual-map"]
    assert number_of_maps(methods, ["joint"]) == 2
    assert maps(by_name(runs_of(tmp_path / "bare", MadeRun())), ["joint"], theme(methods)) is None


@pytest.mark.parametrize(("rows", "said"), [(300, ""), (301, "; 300 of 301 rows, drawn at random")])
def test_a_map_says_that_its_rows_are_drawn_where_some_are_left_out(tmp_path: Path, rows: int, said: str) -> None:
    methods = by_name(runs_of(tmp_path, MadeRun(outputs=rows)))
    (caption, _) = captions(maps(methods, ["joint"], theme(methods)))
    probe = f"{100 * methods['joint'][0].done.unimodal['audio'].score:.1f} %"
    assert caption == f"joint, seed 0: representations of audio (linear probe {probe}){said}; epochs selected on val."


def test_where_representations_are_not_finite_a_line_says_so(tmp_path: Path) -> None:
    methods = by_name(runs_of(tmp_path, MadeRun(outputs=40)))
    files = methods["joint"][0].files
    kept = files.outputs()
    assert kept is not None
    kept.features["audio"][3, 1] = np.inf
    files.write_outputs(kept)
    section = maps(methods, ["joint"], theme(methods))
    assert names(section) == ["digits-joint-visual-map"]
    assert "joint, seed 0: representations of audio. Not every number of them is finite" in text(section)


def matrices(methods: Methods) -> Section | None:
    return confusions(methods, ["joint"], theme(methods))


def test_confusion_matrices_say_how_many_seeds_they_sum(tmp_path: Path) -> None:
    section = matrices(by_name(runs_of(tmp_path, *small_study())))
    assert captions(section) == ["joint: confusion matrix, 2 seeds; epochs selected on val."]
    assert matrices(by_name(runs_of(tmp_path / "bare", MadeRun()))) is None


def test_seeds_that_saw_other_classes_have_a_confusion_matrix_of_their_own(tmp_path: Path) -> None:
    few = [MadeRun(seed=seed, outputs=60, classes=("a", "b", "c")) for seed in (2, 3)]
    section = matrices(by_name(runs_of(tmp_path, MadeRun(outputs=60), *few)))
    assert [re.search(r"\d seeds?", caption)[0] for caption in captions(section)] == ["1 seed", "2 seeds"]  # type: ignore[index]


def test_a_confusion_matrix_is_there_in_numbers_too(tmp_path: Path) -> None:
    # Of the 14 rows of each class two are taken for the other: 0 and 14, 7 and 21.
    run = MadeRun(outputs=28, classes=("a", "b"))
    table = text(matrices(by_name(runs_of(tmp_path, run))))
    assert re.findall(r'data-key="([^"]*)"', table) == ["a", "86.0", "14.0", "b", "14.0", "86.0"]


def test_of_many_classes_each_ones_share_is_said(tmp_path: Path) -> None:
    classes = tuple(f"class {number}" for number in range(50))
    section = matrices(by_name(runs_of(tmp_path, MadeRun(outputs=100, classes=classes))))
    assert text(section).count("<tr>") == 1 + 50
    assert ">right<" in text(section)


def test_what_test_scores_and_representations_were_selected_on_is_said(tmp_path: Path) -> None:
    methods = by_name(runs_of(tmp_path, MadeRun(outputs=40, **ON_TEST)))
    for section in (matrices(methods), maps(methods, ["joint"], theme(methods))):
        assert captions(section)
        assert all(caption.endswith(SAID) for caption in captions(section))


def sensitivities_of(runs: list[RunRecord]) -> Section | None:
    return sensitivities(runs, PAGE)


def relearning(name: str, every: int, lambda_: float, seed: int = 0, **changes: Any) -> MadeRun:
    settings = {"every": every, "lambda": lambda_, **changes.pop("settings", {})}
    return MadeRun("diagnose_relearn", seed, name, settings=settings, **changes)


def test_sensitivity_takes_runs_that_differ_in_lambda_and_every_alone(tmp_path: Path) -> None:
    grid = [relearning("a", 5, 1.0), relearning("b", 10, 1.0), relearning("c", 10, 3.0)]
    section = sensitivities_of(runs_of(tmp_path, *grid, relearning("other", 5, 9.0, epochs=12), MadeRun()))
    assert names(section) == ["digits-sensitivity"]
    assert "minus joint training, in points" in captions(section)[0]  # the run of joint training is alike
    assert 'data-key="9.0"' not in text(section)
    assert text(section).count("<tr>") == 1 + 3


def test_one_setting_alone_has_no_sensitivity(tmp_path: Path) -> None:
    assert sensitivities_of(runs_of(tmp_path, relearning("a", 5, 1.0), relearning("b", 5, 1.0))) is None


def test_a_seed_that_two_recipes_have_counts_once(tmp_path: Path) -> None:
    runs = [relearning("a", 5, 1.0), relearning("again", 5, 1.0), relearning("a2", 5, 1.0, 1), relearning("b", 5, 3.0)]
    table = text(sensitivities_of(runs_of(tmp_path, *runs)))
    rows = [re.findall(r'data-key="([^"]*)"', row)[:3] for row in table.split("<tr>")[2:]]
    assert rows == [["1.0", "5.0", "2.0"], ["3.0", "5.0", "1.0"]]


def test_grids_of_one_dataset_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    grids = [("", 30, {}), ("x", 12, {"restarts": 5})]
    runs = [
        relearning(f"{name}{value}", 5, value, epochs=epochs, settings=settings, dataset=dataset)
        for dataset, several in (("digits", grids), ("avmnist", grids[:1]))
        for name, epochs, settings in several
        for value in (1.0, 3.0)
    ]
    runs = [replace(run, recipe=f"{run.dataset}{run.recipe}") for run in runs]
    section = sensitivities_of(runs_of(tmp_path, *runs))
    assert sorted(caption.partition(":")[0] for caption in captions(section)) == [
        "avmnist",
        "digits, training.epochs=12, methods.diagnose_relearn.restarts=5",
        "digits, training.epochs=30",
    ]
    assert "digits, training.epochs=30: accuracy by lambda and every" in text(section)


def test_sensitivity_says_what_epochs_were_selected_on(tmp_path: Path) -> None:
    grid = [relearning("a", 5, 1.0, **ON_TEST), relearning("b", 10, 1.0, **ON_TEST)]
    section = sensitivities_of(runs_of(tmp_path, *grid))
    assert captions(section) == [f"digits: mean test accuracy over lambda and every; {SAID}"]
    assert f"Mean ± standard deviation over seeds; {SAID}" in text(section)


def test_run_times_are_means_over_seeds(tmp_path: Path) -> None:
    methods = by_name(runs_of(tmp_path, MadeRun(seed=0), MadeRun(seed=4)))
    table = text(results.cost(methods, accuracy.read_epochs(methods)))
    assert ">22.0<" in table  # 20 and 24 seconds
    assert ">0.7<" in table  # 44 seconds in minutes
    assert ">3000<" in table


def test_average_ranks_have_a_picture_beside_their_table(tmp_path: Path) -> None:
    """Three methods over three datasets are never far enough apart: one bar joins them all."""
    made = [MadeRun(label, 0, d, d) for d in ("digits", "fsdd", "avmnist") for label in ("joint", "ogm", "pmr")]
    runs = runs_of(tmp_path, *made)
    section = results.rankings(runs, theme(by_name(runs[:3])))
    assert names(section) == ["ranks-avmnist-digits-fsdd"]
    (caption,) = captions(section)
    assert caption.startswith("Average rank over avmnist, digits, fsdd; a bar joins methods whose ranks do not differ")
    assert "Ranks that are 1.91 or more apart differ" in text(section)
    assert results.rankings(runs[:3], theme(by_name(runs[:3]))) is None


def test_the_picture_of_ranks_has_a_line_for_each_method_and_bars_for_groups_and_the_critical_difference() -> None:
    found = Ranking({"a": 1.0, "b": 1.5, "c": 2.0, "d": 2.7, "e": 3.95}, 10, 1.25, None)
    figure = Figure()
    axes = figure.add_subplot()
    ranks.draw(axes, found, PAGE.with_methods(found.means))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c", "d", "e"]
    bars = [np.asarray(line.get_xdata()) for line in axes.get_lines() if line.get_linewidth() == 3]
    assert [ends.round(2).tolist() for ends in bars] == [[0.96, 2.29], [0.96, 2.04], [1.46, 2.74]]
    points = [float(np.asarray(line.get_xdata())[0]) for line in axes.get_lines() if line.get_linewidth() != 3]
    assert points == list(found.means.values())


def test_calibration_and_single_classes_are_means_over_seeds(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, MadeRun(seed=0, classes=["cat", "dog"]), MadeRun(seed=1, classes=["cat", "dog"]))
    section = results.quality(by_name(runs))
    assert section is not None
    assert section.title == "Calibration and classes"
    shown = text(section)
    for cell in ("0.905 ± 0.007", "10.5 ± 0.7", "1.50 ± 0.00", "0.805 ± 0.007"):
        assert f">{cell}</td>" in shown
    mean = f"{50 * sum(run.score for run in runs):.1f}"
    assert '<th scope="row" data-key="cat">cat</th><td class="number" data-key="300.0">300</td>' in shown
    assert f">{mean} ± " in shown


def test_runs_of_before_there_were_measures_have_no_section_of_them(tmp_path: Path) -> None:
    (run,) = runs_of(tmp_path, MadeRun())
    old = replace(run, summary=run.done.model_copy(update={"measures": None, "cost": None}))
    assert results.quality({"joint": [old]}) is None
    assert "12345" not in text(results.cost({"joint": [old]}, {"joint": [[]]}))
    assert "12345" in text(results.cost({"joint": [run]}, {"joint": [[]]}))

"""What stands in the sections, and in which of them nothing does."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.lines import Line2D
from support.run_tree import RELEARN, MadeRun, small_study, write_runs

from drcli.errors import UsageError
from drcli.report.page import provenance
from drcli.report.page.confusion import confusion, row_shares
from drcli.report.page.cost import cost
from drcli.report.page.curves import curves
from drcli.report.page.drawing import Drawing
from drcli.report.page.learning_state import learning_state
from drcli.report.page.maps import maps, number_of_maps, scaled
from drcli.report.page.results import results
from drcli.report.page.section import Section, check_labels, featured
from drcli.report.page.sensitivity import sensitivity
from drcli.runs.collect import RunRecord, by_name, collect

ON_TEST = {"selection": "test", "monitor": "test"}
SAID = "epochs selected on test; the test split was watched while training."


def runs_of(root: Path, *made: MadeRun) -> list[RunRecord]:
    return collect([write_runs(root, made)])


def names(section: Section | None) -> list[str]:
    assert section is not None
    return [item.name for item in section.content if isinstance(item, Drawing)]


def captions(section: Section | None) -> list[str]:
    assert section is not None
    return [item.caption for item in section.content if isinstance(item, Drawing)]


def text(section: Section | None) -> str:
    assert section is not None
    return "".join(item for item in section.content if not isinstance(item, Drawing))


def test_joint_and_dr_are_shown_in_detail_if_both_are_there(tmp_path: Path) -> None:
    everything = by_name(runs_of(tmp_path, *small_study(), MadeRun("agm"), MadeRun("ogm")))
    assert featured(everything, ()) == ["joint", "diagnose_relearn"]
    assert featured(everything, ["ogm"]) == ["ogm"]
    del everything["joint"]
    assert featured(everything, ()) == list(everything)[:2]


def test_an_unknown_label_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--maps ogn: no run has this label; labels here: joint, ogm"):
        check_labels(runs_of(tmp_path, MadeRun(), MadeRun("ogm")), ["ogn", "joint"])


def test_the_picture_of_differences_says_how_epochs_were_selected(tmp_path: Path) -> None:
    made = [MadeRun(selection="test"), MadeRun("ogm"), MadeRun("unimodal", selection="last")]
    runs = [replace(run, modality="audio" if run.label == "unimodal" else None) for run in runs_of(tmp_path, *made)]
    (drawing,) = [item for item in results(runs).content if isinstance(item, Drawing)]
    assert drawing.caption.endswith("mean and 95 % interval; epochs selected on test, val.")


def test_results_have_a_picture_of_differences_where_there_is_joint_training(tmp_path: Path) -> None:
    assert names(results(runs_of(tmp_path / "a", *small_study()))) == ["digits-difference"]
    assert names(results(runs_of(tmp_path / "b", MadeRun("ogm")))) == []


def test_test_curves_are_drawn_only_where_test_was_watched(tmp_path: Path) -> None:
    unwatched = curves(by_name(runs_of(tmp_path / "a", MadeRun())))
    assert names(unwatched) == ["digits-val-accuracy", "digits-train-accuracy"]
    watched = curves(by_name(runs_of(tmp_path / "b", MadeRun(monitor="test"))))
    assert names(watched)[-1] == "digits-test-accuracy"
    assert curves(by_name(runs_of(tmp_path / "c", MadeRun(epochs=0)))) is None


def test_the_ends_of_learning_curves_are_there_in_numbers(tmp_path: Path) -> None:
    table = text(curves(by_name(runs_of(tmp_path, MadeRun(monitor="test"), MadeRun("ogm")))))
    cells = re.findall(r'data-key="([^"]*)"', table)
    assert [cells[0], cells[4], cells[7]] == ["joint", "ogm", ""]
    assert cells[1] == cells[3] != cells[2]  # the made-up test scores are those of validation


def test_the_learning_state_has_purities_gaps_strengths_and_their_numbers(tmp_path: Path) -> None:
    methods = by_name(runs_of(tmp_path, *small_study(), MadeRun("agm")))
    section = learning_state(methods, ["joint", "diagnose_relearn"])
    assert names(section) == [
        *(f"digits-{name}-{m}-purity" for name in ("joint", "diagnose_relearn") for m in ("audio", "visual")),
        *("digits-audio-gap", "digits-visual-gap", "digits-diagnose_relearn-strength"),
    ]
    # Event 2, audio: 0.6 (0.03 + 0.02) of seed 0 and 0.6 (0.05 + 0.002) of seed 1, so 0.0306 +- 0.0008.
    assert "0.031 \N{PLUS-MINUS SIGN} 0.001" in text(section)
    assert learning_state({"agm": methods["agm"]}, ["agm"]) is None


def test_the_last_diagnosis_of_a_method_that_does_not_relearn_is_in_numbers(tmp_path: Path) -> None:
    found = text(learning_state(by_name(runs_of(tmp_path, *small_study())), ["joint"]))
    events, _, last = found.partition("Last diagnosis in numbers")
    assert ">joint<" not in events
    assert re.findall(r'data-key="([^"]*)"', last)[:3] == ["joint", "24.0", "audio"]
    assert "diagnose_relearn" not in last  # its last diagnosis was an event


def test_every_relearning_has_its_triangle_on_a_long_run(tmp_path: Path) -> None:
    run = MadeRun("diagnose_relearn", settings=RELEARN, epochs=700, every=2)
    (figure,) = [
        item.figure
        for item in learning_state(by_name(runs_of(tmp_path, run)), []).content  # type: ignore[union-attr]
        if isinstance(item, Drawing) and item.name == "digits-audio-gap"
    ]
    triangles = [line for line in figure.axes[0].lines if line.get_marker() == "v"]
    assert [len(line.get_xdata()) for line in triangles] == [349]  # epochs 2, 4, ..., 698


def test_the_legend_of_the_gap_shows_the_triangle_where_there_is_one(tmp_path: Path) -> None:
    study = by_name(runs_of(tmp_path, *small_study()))
    for methods, shown in ((study, True), ({"joint": study["joint"]}, False)):
        section = learning_state(methods, [])
        assert section is not None
        (drawing, *_) = [item for item in section.content if isinstance(item, Drawing)]
        handles = drawing.figure.legends[0].legend_handles
        texts = [text.get_text() for text in drawing.figure.legends[0].get_texts()]
        triangles = [t for h, t in zip(handles, texts, strict=True) if isinstance(h, Line2D) and h.get_marker() == "v"]
        assert triangles == (["re-learning"] if shown else [])
        assert ("triangle" in drawing.caption) == shown


def test_a_run_of_one_diagnosis_is_drawn(tmp_path: Path) -> None:
    methods = by_name(runs_of(tmp_path, MadeRun("diagnose_relearn", settings=RELEARN, every=20)))
    assert "digits-diagnose_relearn-strength" in names(learning_state(methods, ["diagnose_relearn"]))


def test_maps_are_of_the_first_seed_and_counted_beforehand(tmp_path: Path) -> None:
    methods = by_name(runs_of(tmp_path, *small_study()))
    section = maps(methods, ["joint"])
    assert names(section) == ["digits-joint-audio-map", "digits-joint-visual-map"]
    assert number_of_maps(methods, ["joint"]) == 2
    assert maps(by_name(runs_of(tmp_path / "bare", MadeRun())), ["joint"]) is None


@pytest.mark.parametrize(("rows", "said"), [(300, ""), (301, "; 300 of 301 rows, drawn at random")])
def test_a_map_says_that_its_rows_are_drawn_where_some_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, said: str
) -> None:
    monkeypatch.setattr("drcli.report.page.maps.tsne", lambda components: components[:, :2])
    (caption, _) = captions(maps(by_name(runs_of(tmp_path, MadeRun(outputs=rows))), ["joint"]))
    assert caption == f"joint, seed 0: representations of audio{said}; epochs selected on val."


def test_where_representations_are_not_finite_a_line_says_so(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, MadeRun(outputs=40))
    path = runs[0].folder / "test_outputs.npz"
    with np.load(path) as kept:
        arrays = dict(kept)
    arrays["features_audio"][3, 1] = np.inf
    np.savez(path, **arrays)
    section = maps(by_name(runs), ["joint"])
    assert names(section) == ["digits-joint-visual-map"]
    assert "joint, seed 0: representations of audio. Not every number of them is finite" in text(section)


def test_scaled_features_span_minus_one_to_one() -> None:
    features = np.array([[0, 5, 60000], [1, 5, -60000], [4, 5, 0]], dtype=np.float16)
    np.testing.assert_allclose(scaled(features), [[-1, -1, 1], [-0.5, -1, -1], [1, -1, 0]], atol=1e-12)


def test_rows_of_a_confusion_matrix_add_up_to_one_or_stay_empty() -> None:
    shares = row_shares(np.array([[3.0, 1.0], [0.0, 0.0]]))
    np.testing.assert_array_equal(shares, [[0.75, 0.25], [0, 0]])


def test_confusion_matrices_say_how_many_seeds_they_sum(tmp_path: Path) -> None:
    methods = by_name(runs_of(tmp_path, *small_study()))
    section = confusion(methods, ["joint"])
    assert section is not None
    assert captions(section) == ["joint: confusion matrix, 2 seeds; epochs selected on val."]
    assert confusion(by_name(runs_of(tmp_path / "bare", MadeRun())), ["joint"]) is None


def test_seeds_that_saw_other_classes_have_a_confusion_matrix_of_their_own(tmp_path: Path) -> None:
    few = [MadeRun(seed=seed, outputs=60, classes=("a", "b", "c")) for seed in (2, 3)]
    section = confusion(by_name(runs_of(tmp_path, MadeRun(outputs=60), *few)), ["joint"])
    assert [re.search(r"\d seeds?", caption)[0] for caption in captions(section)] == ["1 seed", "2 seeds"]  # type: ignore[index]


def test_a_confusion_matrix_is_there_in_numbers_too(tmp_path: Path) -> None:
    # Of the 14 rows of each class two are taken for the other: 0 and 14, 7 and 21.
    run = MadeRun(outputs=28, classes=("a", "b"))
    table = text(confusion(by_name(runs_of(tmp_path, run)), ["joint"]))
    assert re.findall(r'data-key="([^"]*)"', table) == ["a", "86.0", "14.0", "b", "14.0", "86.0"]


def test_of_many_classes_each_ones_share_is_said(tmp_path: Path) -> None:
    classes = tuple(f"class {number}" for number in range(50))
    section = confusion(by_name(runs_of(tmp_path, MadeRun(outputs=100, classes=classes))), ["joint"])
    assert text(section).count("<tr>") == 1 + 50
    assert ">right<" in text(section)


def test_what_test_scores_and_representations_were_selected_on_is_said(tmp_path: Path) -> None:
    methods = by_name(runs_of(tmp_path, MadeRun(outputs=40, **ON_TEST)))
    for section in (confusion(methods, ["joint"]), maps(methods, ["joint"])):
        assert captions(section)
        assert all(caption.endswith(SAID) for caption in captions(section))


def relearning(name: str, every: int, lambda_: float, seed: int = 0, **changes: Any) -> MadeRun:
    settings = {"every": every, "lambda": lambda_, **changes.pop("settings", {})}
    return MadeRun("diagnose_relearn", seed, name, settings=settings, **changes)


def test_sensitivity_takes_runs_that_differ_in_lambda_and_every_alone(tmp_path: Path) -> None:
    grid = [relearning("a", 5, 1.0), relearning("b", 10, 1.0), relearning("c", 10, 3.0)]
    section = sensitivity(runs_of(tmp_path, *grid, relearning("other", 5, 9.0, epochs=12), MadeRun()))
    assert names(section) == ["digits-sensitivity"]
    assert 'data-key="9.0"' not in text(section)
    assert text(section).count("<tr>") == 1 + 3


def test_one_setting_alone_has_no_sensitivity(tmp_path: Path) -> None:
    assert sensitivity(runs_of(tmp_path, relearning("a", 5, 1.0), relearning("b", 5, 1.0))) is None


def test_a_seed_that_two_recipes_have_counts_once(tmp_path: Path) -> None:
    runs = [relearning("a", 5, 1.0), relearning("again", 5, 1.0), relearning("a2", 5, 1.0, 1), relearning("b", 5, 3.0)]
    table = text(sensitivity(runs_of(tmp_path, *runs)))
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
    section = sensitivity(runs_of(tmp_path, *runs))
    assert sorted(caption.partition(":")[0] for caption in captions(section)) == [
        "avmnist",
        "digits, methods.diagnose_relearn.restarts=5, training.epochs=12",
        "digits, training.epochs=30",
    ]
    assert "digits, training.epochs=30: accuracy by lambda and every" in text(section)


def test_sensitivity_says_what_epochs_were_selected_on(tmp_path: Path) -> None:
    grid = [relearning("a", 5, 1.0, **ON_TEST), relearning("b", 10, 1.0, **ON_TEST)]
    section = sensitivity(runs_of(tmp_path, *grid))
    assert captions(section) == [f"digits: mean test accuracy over lambda and every; {SAID}"]
    assert f"Mean and standard deviation over seeds; {SAID}" in text(section)


def test_run_times_are_means_over_seeds(tmp_path: Path) -> None:
    table = text(cost(by_name(runs_of(tmp_path, MadeRun(seed=0), MadeRun(seed=4)))))
    assert ">22.0<" in table  # 20 and 24 seconds
    assert ">0.7<" in table  # 44 seconds in minutes
    assert ">3000<" in table


def test_commands_are_given_once_and_without_the_place_of_the_program(tmp_path: Path) -> None:
    odd = MadeRun("ogm", command=("/x/drcli", "train", "a b; c"))
    found = text(provenance.commands(runs_of(tmp_path, MadeRun(seed=0), MadeRun(seed=1), odd)))
    assert found.count("drcli train digits") == 1
    assert "drcli train &#x27;a b; c&#x27;" in found
    assert "somewhere" not in found


def test_a_command_by_python_reads_like_the_program(tmp_path: Path) -> None:
    run = MadeRun(command=("/somewhere/drcli/__main__.py", "train", "digits"))
    assert ">drcli train digits<" in text(provenance.commands(runs_of(tmp_path, run)))


def test_a_command_that_was_not_recorded_is_said_to_be(tmp_path: Path) -> None:
    assert "joint seed 0: command not recorded" in text(provenance.commands(runs_of(tmp_path, MadeRun(command=()))))


def test_different_environments_stand_side_by_side(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, MadeRun(seed=0), MadeRun(seed=1))
    path = runs[1].folder / "environment.json"
    path.write_text(json.dumps({**runs[1].environment, "python": "3.12.1"}))
    found = text(provenance.environments(collect([tmp_path])))
    assert "environment 2" in found
    assert ">3.11.7<" in found
    assert ">3.12.1<" in found


def test_seeds_of_a_method_share_a_recipe(tmp_path: Path) -> None:
    section = provenance.recipes(runs_of(tmp_path, MadeRun(seed=0), MadeRun(seed=3), MadeRun("ogm")))
    assert len(section.content) == 2
    assert "seeds: [0, 3]" in text(section)


def test_unfinished_runs_are_listed_with_how_far_they_came(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, MadeRun(seed=0), MadeRun(seed=7, finished=False, epochs=12))
    found = text(provenance.unfinished(runs))
    assert [f">{value}<" in found for value in (7, 12)] == [True, True]
    assert provenance.unfinished(runs[:1]) is None

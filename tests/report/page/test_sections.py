"""What stands in the sections, and in which of them nothing does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.run_tree import RELEARN, MadeRun, small_study, write_runs

from drcli.errors import UsageError
from drcli.report.collect import RunRecord, by_name, collect
from drcli.report.page import provenance
from drcli.report.page.confusion import confusion, row_shares
from drcli.report.page.cost import cost
from drcli.report.page.curves import curves
from drcli.report.page.drawing import Drawing
from drcli.report.page.learning_state import learning_state
from drcli.report.page.maps import maps, number_of_maps, scaled
from drcli.report.page.marks import marks
from drcli.report.page.results import results
from drcli.report.page.section import Section, check_labels, featured
from drcli.report.page.sensitivity import sensitivity


def runs_of(root: Path, *made: MadeRun) -> list[RunRecord]:
    return collect([write_runs(root, made)])


def names(section: Section | None) -> list[str]:
    assert section is not None
    return [item.name for item in section.content if isinstance(item, Drawing)]


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


def test_results_have_a_picture_of_differences_where_there_is_joint_training(tmp_path: Path) -> None:
    assert names(results(runs_of(tmp_path / "a", *small_study()))) == ["digits-difference"]
    assert names(results(runs_of(tmp_path / "b", MadeRun("ogm")))) == []


def test_test_curves_are_drawn_only_where_test_was_watched(tmp_path: Path) -> None:
    unwatched = curves(by_name(runs_of(tmp_path / "a", MadeRun())))
    assert names(unwatched) == ["digits-val-accuracy", "digits-train-accuracy"]
    watched = curves(by_name(runs_of(tmp_path / "b", MadeRun(monitor="test"))))
    assert names(watched)[-1] == "digits-test-accuracy"
    assert curves(by_name(runs_of(tmp_path / "c", MadeRun(epochs=0)))) is None


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


def test_a_run_of_one_diagnosis_is_drawn(tmp_path: Path) -> None:
    methods = by_name(runs_of(tmp_path, MadeRun("diagnose_relearn", settings=RELEARN, every=20)))
    assert "digits-diagnose_relearn-strength" in names(learning_state(methods, ["diagnose_relearn"]))


def test_maps_are_of_the_first_seed_and_counted_beforehand(tmp_path: Path) -> None:
    methods = by_name(runs_of(tmp_path, *small_study()))
    section = maps(methods, ["joint"])
    assert names(section) == ["digits-joint-audio-map", "digits-joint-visual-map"]
    assert number_of_maps(methods, ["joint"]) == 2
    assert maps(by_name(runs_of(tmp_path / "bare", MadeRun())), ["joint"]) is None


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
    assert [item.caption for item in section.content if isinstance(item, Drawing)] == [
        "joint: confusion matrix, 2 seeds."
    ]
    assert confusion(by_name(runs_of(tmp_path / "bare", MadeRun())), ["joint"]) is None


def relearning(name: str, every: int, lambda_: float, **changes: object) -> MadeRun:
    return MadeRun("diagnose_relearn", 0, name, settings={"every": every, "lambda": lambda_}, **changes)  # type: ignore[arg-type]


def test_sensitivity_takes_runs_that_differ_in_lambda_and_every_alone(tmp_path: Path) -> None:
    grid = [relearning("a", 5, 1.0), relearning("b", 10, 1.0), relearning("c", 10, 3.0)]
    section = sensitivity(runs_of(tmp_path, *grid, relearning("other", 5, 9.0, epochs=12), MadeRun()))
    assert names(section) == ["digits-sensitivity"]
    assert 'data-key="9.0"' not in text(section)
    assert text(section).count("<tr>") == 1 + 3


def test_one_setting_alone_has_no_sensitivity(tmp_path: Path) -> None:
    assert sensitivity(runs_of(tmp_path, relearning("a", 5, 1.0), relearning("b", 5, 1.0))) is None


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


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            [MadeRun(selection="test")],
            "Epochs were selected on the test split, so that scores are optimistic: digits joint.",
        ),
        ([MadeRun(monitor="test")], "The test split was watched while training: digits joint."),
        ([MadeRun()], "Every epoch was selected on validation."),
        ([MadeRun()], "Some methods have one seed"),
        ([MadeRun(seed=0), MadeRun(seed=1)], "Every method has 2 seeds."),
        ([MadeRun(seed=0), MadeRun(seed=1), MadeRun("ogm")], "Methods have between 1 and 2 seeds"),
        ([MadeRun()], "No run kept its test_outputs.npz"),
        ([MadeRun(outputs=20), MadeRun("ogm")], "and so without map and confusion matrix: digits ogm."),
        ([MadeRun(), MadeRun("ogm", finished=False)], "1 of 2 runs are not finished, and left out."),
    ],
)
def test_the_honest_marks_are_said(tmp_path: Path, made: list[MadeRun], said: str) -> None:
    assert said in marks(runs_of(tmp_path, *made))


def test_nothing_is_said_of_runs_that_do_not_exist(tmp_path: Path) -> None:
    assert marks(runs_of(tmp_path, MadeRun(finished=False))).count("<li") == 1

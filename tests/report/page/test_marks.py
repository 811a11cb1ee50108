"""The honest marks at the head of the page: true of the runs, and in the style of a warning where they warn."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.run_tree import MadeRun, write_runs

from drcli.report.page.marks import marks
from drcli.runs.collect import RunRecord, collect

OTHER_SEEDS = [MadeRun(seed=0), MadeRun(seed=1), MadeRun("ogm", seed=2), MadeRun("ogm", seed=3)]


def runs_of(root: Path, *made: MadeRun) -> list[RunRecord]:
    return collect([write_runs(root, made)])


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            [MadeRun(selection="test")],
            "Epochs were selected on the test split, so that scores are optimistic: digits joint.",
        ),
        ([MadeRun(selection="last")], "No epoch was selected, the last one was scored: digits joint."),
        ([MadeRun(selection="last")], "Each run scored the test split once, at its end."),
        ([MadeRun(monitor="test")], "The test split was watched while training: digits joint."),
        ([MadeRun()], "Every epoch was selected on validation."),
        ([MadeRun()], "Some methods have one seed"),
        ([MadeRun(seed=0), MadeRun(seed=1)], "Every method has 2 seeds."),
        ([MadeRun(seed=0), MadeRun(seed=1), MadeRun("ogm")], "Methods have between 1 and 2 seeds"),
        (OTHER_SEEDS, "Methods have different seeds; differences are over the seeds that both have."),
        ([MadeRun(), MadeRun("ogm")], "The runs of a recipe differ in method and seed alone."),
        ([MadeRun()], "No run kept its outputs of the test split"),
        ([MadeRun(outputs=20), MadeRun("ogm")], "and so without map and confusion matrix: digits ogm."),
        ([MadeRun(), MadeRun("ogm", finished=False)], "1 of 2 runs is not finished, and left out."),
    ],
)
def test_the_honest_marks_are_said(tmp_path: Path, made: list[MadeRun], said: str) -> None:
    assert said in marks(runs_of(tmp_path, *made))


def test_nothing_is_said_of_runs_that_do_not_exist(tmp_path: Path) -> None:
    assert marks(runs_of(tmp_path, MadeRun(finished=False))).count("<li") == 1


@pytest.mark.parametrize(
    ("made", "unsaid"),
    [
        ([MadeRun(selection="test")], "once"),  # after every epoch
        ([MadeRun(monitor="test")], "once"),
        ([MadeRun(selection="last")], "validation"),
        ([MadeRun(), MadeRun("ogm", selection="last")], "Every epoch"),
        (OTHER_SEEDS, "Every method has"),
        ([MadeRun(epochs=5), MadeRun("ogm", epochs=6)], "alone"),
    ],
)
def test_nothing_is_said_that_is_not_so(tmp_path: Path, made: list[MadeRun], unsaid: str) -> None:
    assert unsaid not in marks(runs_of(tmp_path, *made))


def test_runs_of_other_budgets_under_one_name_are_a_warning(tmp_path: Path) -> None:
    found = marks(runs_of(tmp_path, MadeRun(epochs=60), MadeRun("pmr", epochs=5), MadeRun(recipe="other")))
    sentence = "Not all else is equal in digits: training.epochs is 60 in joint, 5 in pmr."
    assert f'<li class="warning">{sentence}</li>' in found


def test_seeds_may_differ_between_recipes(tmp_path: Path) -> None:
    one = [MadeRun(label, seed) for label in ("joint", "ogm") for seed in (0, 1)]
    two = [MadeRun(label, seed, "other") for label in ("joint", "ogm") for seed in (2, 3)]
    assert '<li class="fine">Every method has 2 seeds.</li>' in marks(runs_of(tmp_path, *one, *two))


def test_validation_that_test_does_not_bear_out_is_a_warning_with_the_name_of_its_recipe(tmp_path: Path) -> None:
    found = marks(runs_of(tmp_path, MadeRun(gap=0.15), MadeRun(recipe="other")))
    assert '<li class="warning">digits: Validation and test differ by more than sampling explains: ' in found
    assert "other: Validation" not in found

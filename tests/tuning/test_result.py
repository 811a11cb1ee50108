"""What tuning has found: expected best of n, winners, the tuned recipe."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from statistics import fmean

import pytest
import yaml

from drcli.recipe.load import load_recipe
from drcli.report.theme import OTHER, Look, Theme
from drcli.tuning.result import Tuned, expected_best, steps_of, tuned_recipe, write_picture
from drcli.tuning.study import TrialRecord


def trial(number: int, accuracy: float | None, **values: float) -> TrialRecord:
    return TrialRecord(number=number, values=dict(values), accuracy=accuracy, seconds=10.0, teacher_seconds=4.0)


def tuned(*accuracies: float | None, label: str = "ogm") -> Tuned:
    trials = [trial(n, accuracy, **({"alpha": n / 10} if n else {})) for n, accuracy in enumerate(accuracies)]
    return Tuned(label, trials, {"alpha": 0.3})


@pytest.mark.parametrize(
    "values", [[0.5], [0.2, 0.8], [0.1, 0.4, 0.4], [0.0, 0.3, 0.9, 0.6], [0.7, 0.7, 0.7, 0.1, 0.35]], ids=str
)
def test_the_expected_best_of_n_is_the_mean_over_all_samples_of_n(values: Sequence[float]) -> None:
    """All N^n equally likely samples with replacement, one by one."""
    for n, found in enumerate(expected_best(values), start=1):
        assert found == pytest.approx(fmean(max(sample) for sample in itertools.product(values, repeat=n)), abs=1e-12)


def test_the_expected_best_of_three_accuracies_by_hand() -> None:
    """1/3 (.2 + .5 + .8) = .5; of nine pairs one is at most .2, three more at most .5: (.2 + 3 * .5 + 5 * .8) / 9;
    of 27 triples 1, 7 and 19: (.2 + 7 * .5 + 19 * .8) / 27."""
    expected = [Fraction(15, 30), Fraction(57, 90), Fraction(189, 270)]
    assert expected_best([0.8, 0.2, 0.5]) == pytest.approx([float(value) for value in expected])


def test_the_default_is_the_first_trial_and_counts_in_no_curve() -> None:
    one = tuned(0.9, 0.5, 0.7)
    assert (one.default.accuracy, one.best.number, one.gain) == (0.9, 0, 0.0)
    assert one.curve == pytest.approx([0.6, 0.65])
    assert one.drawn is not None
    assert (one.drawn.mean, one.drawn.std) == pytest.approx((0.6, 0.1414), abs=1e-4)


def test_of_equal_trials_the_first_wins_and_a_bad_one_counts_as_nothing() -> None:
    one = tuned(0.5, None, 0.8, 0.8)
    assert (one.best.number, one.bad) == (2, 1)
    assert one.gain == pytest.approx(0.3)
    assert one.curve[0] == pytest.approx((0 + 0.8 + 0.8) / 3)
    assert one.drawn is not None
    assert one.drawn.mean == pytest.approx(0.8)
    assert one.seconds == (40.0, 16.0)


def of_values(label: str, *maes: float | None) -> Tuned:
    """A method's trials of a regression."""
    trials = [TrialRecord(number=n, values={}, task="regression", mae=mae, seconds=1.0) for n, mae in enumerate(maes)]
    return Tuned(label, trials, {})


def test_the_record_of_a_regression_says_nothing_of_accuracies() -> None:
    record = TrialRecord(number=1, values={}, task="regression", mae=0.5, maes={"joint seed 3": 0.5}, seconds=1.0)
    assert record.to_dict().keys() == {"number", "values", "task", "mae", "maes", "seconds", "teacher_seconds"}
    assert TrialRecord.model_validate({**record.to_dict(), "accuracies": {}}).score == 0.5  # as earlier ones have it


def test_of_a_regression_the_curves_that_fall_most_are_in_colour_and_one_without_a_good_trial_is_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten methods and one more, that which tuning has helped least is the grey one."""
    falling = [of_values(f"m{n:02}", 2.0, 1.0, 1.0 - n / 20) for n in range(11)]
    looks: list[tuple[Look, ...]] = []

    def note(path: Path, theme: Theme, draw: object) -> None:
        del path, draw
        looks.append(tuple(theme.look(one.label) for one in falling))

    monkeypatch.setattr("drcli.tuning.result.write_figure", note)
    write_picture(tmp_path, [*falling, of_values("bad", 2.0, None, None)])
    assert [look == OTHER for look in looks[0]] == [True, *[False] * 10]
    assert write_picture(tmp_path, [of_values("bad", 2.0, None)]) == []


def test_a_default_that_failed_has_no_gain_and_a_search_that_found_nothing_keeps_it() -> None:
    assert tuned(None, 0.4).gain is None
    nothing = tuned(None, None)
    assert (nothing.best.number, nothing.best.values, nothing.drawn) == (0, {}, None)


@pytest.mark.parametrize(
    ("count", "steps"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (15, [1, 2, 4, 8, 15]), (16, [1, 2, 4, 8, 16])]
)
def test_a_table_shows_powers_of_two_and_the_last(count: int, steps: list[int]) -> None:
    assert steps_of(count) == steps


def test_the_tuned_recipe_is_an_ordinary_one_with_the_winners(tmp_path: Path, toy: None) -> None:
    data = {
        "name": "small",
        "dataset": {"name": "toy"},
        "modalities": {m: {"backbone": "tiny"} for m in ("audio", "visual")},
        "method": "joint",
        "methods": {"joint": None, "ogm": {"alpha": 0.3}, "pmr": {}},
        "training": {"epochs": 2, "optimizer": {"name": "sgd", "lr": 0.05}},
        "search": {"training": {"optimizer": {"lr": {"low": 0.1, "high": 0.2}}}},
    }
    winners = [
        Tuned("joint", [trial(0, 0.5), trial(1, 0.7, **{"training.optimizer.lr": 0.2})], {}),
        tuned(0.5, 0.4, 0.6),
        Tuned("pmr", [trial(0, 0.5), trial(1, 0.1, alpha=9.0)], {}),
    ]
    path = tmp_path / "small.yaml"
    path.write_text(tuned_recipe(data, winners, "small"), encoding="utf-8")
    recipe = load_recipe(path)
    assert recipe.name == "small-tuned"
    assert recipe.search == {}
    assert recipe.for_run("joint", 0).training.optimizer.lr == 0.2
    assert recipe.for_run("ogm", 0).training.optimizer.lr == 0.05
    assert recipe.methods["ogm"].plain()["alpha"] == 0.2
    assert yaml.safe_load(path.read_text())["methods"]["pmr"] == {}
    assert "# joint: 50.0 -> 70.0 % (2 trials, trial 1 is the best)" in path.read_text()
    assert data["methods"] == {"joint": None, "ogm": {"alpha": 0.3}, "pmr": {}}  # what was given is as it was


@pytest.mark.slow
def test_the_picture_has_a_line_and_a_name_for_each_method(tmp_path: Path) -> None:
    found = [tuned(0.5, 0.4, 0.6, label="ogm"), tuned(0.5, 0.2, 0.3, label="pmr")]
    svg, png = write_picture(tmp_path, found)
    assert png.read_bytes().startswith(b"\x89PNG")
    first = svg.read_bytes()
    write_picture(tmp_path, found)
    assert svg.read_bytes() == first
    assert write_picture(tmp_path, [tuned(0.5)]) == []

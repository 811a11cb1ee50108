"""The figures over runs: files of the right kind, of the right numbers, and refusals that say what lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from support.run_folders import write_run

from drcli.errors import DataError
from drcli.report.figures import learning, noisy_case, representations, sensitivity
from drcli.report.style import write_figure
from drcli.runs.collect import RunRecord, collect

Make = Callable[[list[RunRecord]], Figure]


@pytest.fixture
def runs(tmp_path: Path) -> list[RunRecord]:
    """Joint training, D&R at four settings, and one unimodal run; two seeds."""
    for seed in (0, 1):
        write_run(tmp_path, 0.8 + 0.02 * seed, seed=seed, outputs=True)
    for value in (1.0, 3.0):
        for every in (5, 10):
            block = {"lambda": value, "every": every}
            for seed in (0, 1):
                accuracy = 0.8 + 0.01 * value + 0.001 * every + 0.02 * seed
                recipe = f"toy-lambda{value:g}-every{every}"
                write_run(tmp_path, accuracy, label="diagnose_relearn", seed=seed, recipe=recipe, block=block)
    write_run(tmp_path, 0.7, label="unimodal", modality="audio")
    return collect([tmp_path])


@pytest.fixture
def pair(tmp_path: Path) -> list[RunRecord]:
    """Joint training and D&R of one recipe, two seeds."""
    for seed in (0, 1):
        write_run(tmp_path / "pair", 0.8, seed=seed, outputs=seed == 1, monitor="test")
        write_run(tmp_path / "pair", 0.9, label="diagnose_relearn", seed=seed, outputs=seed == 1, monitor="test")
    return collect([tmp_path / "pair"])


@pytest.mark.parametrize("make", [noisy_case.figure, learning.figure])
@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG\r\n"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_a_figure_is_a_file_of_its_kind_the_same_each_time(
    pair: list[RunRecord], tmp_path: Path, make: Make, suffix: str, start: bytes
) -> None:
    path = tmp_path / f"figure{suffix}"
    write_figure(path, lambda: make(pair))
    first = path.read_bytes()
    write_figure(path, lambda: make(pair))
    assert first.startswith(start)
    assert path.read_bytes() == first


def texts(figure: Figure) -> str:
    from matplotlib.text import Text

    return "\n".join(artist.get_text() for artist in figure.findobj(Text))  # type: ignore[attr-defined]


def test_sensitivity_means_over_seeds_and_pairs_with_joint(runs: list[RunRecord]) -> None:
    joint, cells = sensitivity.sensitivity(runs)
    assert joint == pytest.approx({0: 0.80, 1: 0.82})
    assert set(cells) == {(1.0, 5), (1.0, 10), (3.0, 5), (3.0, 10)}
    assert cells[3.0, 10].accuracies == pytest.approx({0: 0.84, 1: 0.86})
    assert cells[3.0, 10].difference == pytest.approx(0.04)


def test_sensitivity_names_recipe_seeds_and_joint_training(runs: list[RunRecord]) -> None:
    shown = texts(sensitivity.figure(runs))
    assert "85.0 ± 1.4\n(+4.0)" in shown
    assert "toy: test accuracy of D&R in per cent, mean ± standard deviation over 2 seeds\n" in shown
    assert "minus joint training (81.0 ± 1.4) in points, paired by seed\nepochs selected on val" in shown
    assert "0: nothing is pulled back" not in shown


def test_sensitivity_of_one_seed_has_no_deviation_and_lambda_0_is_explained(tmp_path: Path) -> None:
    write_run(tmp_path, 0.8)
    write_run(tmp_path, 0.8, label="diagnose_relearn", recipe="other", block={"lambda": 0.0, "every": 5})
    shown = texts(sensitivity.figure(collect([tmp_path])))
    assert "80.0\n(+0.0)" in shown
    assert "per cent, mean over 1 seed\n" in shown
    assert "lambda (0: nothing is pulled back, which is joint training)" in shown


def test_colours_of_sensitivity_part_at_joint_training_by_whole_points(runs: list[RunRecord]) -> None:
    heat, bar = sensitivity.figure(runs).axes
    assert heat.collections[0].get_clim() == (-4, 4)
    assert all(float(tick).is_integer() for tick in bar.get_yticks())
    assert bar.get_ylabel() == "difference to joint training (points)"


def test_sensitivity_without_joint_training_is_refused(runs: list[RunRecord]) -> None:
    with pytest.raises(DataError, match="it needs finished runs of joint training and of D&R"):
        sensitivity.figure([run for run in runs if run.method != "joint"])


def test_curves_hold_a_line_a_seed_over_the_epochs_that_all_have(runs: list[RunRecord]) -> None:
    joint = [run for run in runs if run.label == "joint"]
    accuracy, purity = learning.accuracy_curve(joint, "val"), learning.purity_curve(joint, "audio", "purity_val")
    assert accuracy is not None
    assert purity is not None
    np.testing.assert_allclose(accuracy.values[:, 2], [60, 61])
    np.testing.assert_array_equal(purity.epochs, [2, 4])
    np.testing.assert_allclose(purity.values, [[0.6, 0.6], [0.61, 0.61]])
    assert learning.accuracy_curve(joint, "test") is None


def test_test_curves_are_drawn_where_the_runs_have_them_and_say_so(
    runs: list[RunRecord], pair: list[RunRecord]
) -> None:
    assert "test accuracy (selects nothing)" in texts(learning.figure(pair))
    assert "test accuracy" not in texts(learning.figure([run for run in runs if run.label == "joint"]))


def styles(axes: Axes) -> list[str]:
    """Line styles of the curves, without the lines of re-learning."""
    return [str(line.get_linestyle()) for line in axes.lines if line.get_linestyle() != ":"]


def test_line_styles_are_those_of_the_split(runs: list[RunRecord], pair: list[RunRecord]) -> None:
    tested = learning.figure(pair).axes
    assert [styles(axes) for axes in tested[:2]] == [["--"] * 2, ["-"] * 2 + ["--"] * 2]
    assert styles(tested[3]) == ["-."] * 2
    untested = learning.figure([run for run in runs if run.label == "joint"]).axes
    assert styles(untested[3]) == ["-"]


def test_panels_of_learning_are_named_and_rows_of_modalities_share_their_range(pair: list[RunRecord]) -> None:
    figure = learning.figure(pair)
    quantities = ["accuracy (%)", "purity", "purity", "accuracy (%)", "purity gap", "purity gap"]
    assert [axes.get_ylabel() for axes in figure.axes] == quantities
    assert {axes.get_xlabel() for axes in figure.axes} == {"epoch"}
    for first, second in ((0, 3), (1, 2), (4, 5)):
        assert figure.axes[first].get_ylim() == figure.axes[second].get_ylim()
    assert figure.axes[4].get_ylim()[0] == 0


def test_a_signed_gap_below_zero_is_in_the_picture(pair: list[RunRecord]) -> None:
    for run in pair:
        path = run.folder / "events.jsonl"
        path.write_text(path.read_text().replace('"gap": 0.', '"gap": -0.'))
    assert learning.figure(pair).axes[4].get_ylim()[0] < -0.19


def test_the_legend_of_learning_names_seeds_lines_bands_and_the_recipe(pair: list[RunRecord]) -> None:
    figure = learning.figure(pair)
    (legend,) = figure.legends
    named = dict(zip((text.get_text() for text in legend.texts), legend.legend_handles, strict=True))
    assert list(named) == [
        "joint",
        "diagnose_relearn",
        "diagnose_relearn: re-learning",
        "train, and the gap",
        "validation",
        "test",
        "band: least to greatest over seeds",
    ]
    marks = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    key = named["diagnose_relearn: re-learning"]
    assert isinstance(key, Line2D)
    assert key.get_color() == marks[0].get_color()
    assert figure.get_suptitle() == "toy, mean over 2 seeds"


def test_relearning_events_are_lines_in_every_picture(pair: list[RunRecord]) -> None:
    for axes in learning.figure(pair).axes:
        dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
        assert [list(line.get_xdata()) for line in dotted] == [[4, 4]]  # type: ignore[arg-type]


def test_runs_without_purities_are_refused_with_the_remedy(runs: list[RunRecord]) -> None:
    for run in runs:
        (run.folder / "events.jsonl").write_text("")
    with pytest.raises(DataError, match=r"diagnosis\.monitor_every=2"):
        learning.figure(runs)


def test_representations_come_from_the_first_seed_that_all_methods_share(pair: list[RunRecord]) -> None:
    of_one = [run for run in pair if not (run.label == "joint" and run.seed == 0)]
    figure = representations.figure(of_one)
    assert len(figure.axes) == 4  # two methods, two modalities
    assert figure.get_suptitle().startswith("toy: representations of the test split, seed 1\n")
    assert [axes.get_xlabel() for axes in figure.axes] == ["t-SNE 1 (30 rows)"] * 4
    assert [text.get_text() for text in figure.legends[0].texts] == ["0 a", "1 b", "2 c"]
    with pytest.raises(DataError, match=r"no test_outputs\.npz"):
        representations.figure(pair)  # seed 0 kept none
    with pytest.raises(DataError, match="no seed is finished for every method"):
        representations.figure(of_one[:1] + [run for run in pair if run.label != "joint" and run.seed == 0])


def test_the_noisy_case_shows_differences_and_probes_by_recipe(
    runs: list[RunRecord], pair: list[RunRecord], tmp_path: Path
) -> None:
    figure = noisy_case.figure(pair)
    assert len(figure.axes) == 2
    assert figure.axes[0].patches[0].get_width() == pytest.approx(10.0)  # type: ignore[attr-defined]
    shown = texts(figure)
    assert "the test split was watched while training" in shown
    for text in ("toy, 2 seeds", "joint: 80.0 ± 0.0", "linear probe of audio: accuracy (%)"):
        assert text in shown
    assert "trained alone" not in shown
    alone = [write_run(tmp_path / "pair", 0.7, label="unimodal", modality=m) for m in ("audio", "visual")]
    assert "encoder trained alone" in texts(noisy_case.figure([*pair, *collect(alone)]))
    with pytest.raises(DataError, match="of joint training and of another method"):
        noisy_case.figure([run for run in runs if run.label == "joint"])

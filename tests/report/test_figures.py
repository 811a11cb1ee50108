"""The figures over runs: their numbers, what is drawn of them, and refusals that say what lacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from support.run_folders import write_run
from support.run_tree import RELEARN, MadeRun, write_runs

from drcli.errors import DataError
from drcli.report.figures import accuracy, comparison, confusion, learning, learning_state, representations, sensitivity
from drcli.report.figures.learning_state import ModalityState
from drcli.report.theme import PAGE, PAPER, SPLITS, Theme, write_figure
from drcli.reproduce.output import drawn
from drcli.reproduce.target import Drawing
from drcli.runs.collect import RunRecord, by_name, collect
from drcli.runs.directory import RunDirectory

Runs = list[RunRecord]


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """Joint training, D&R at four settings, and one unimodal run; two seeds."""
    for seed in (0, 1):
        write_run(tmp_path, 0.8 + 0.02 * seed, seed=seed, outputs=True)
    for value in (1.0, 3.0):
        for every in (5, 10):
            block = {"lambda": value, "every": every}
            for seed in (0, 1):
                score = 0.8 + 0.01 * value + 0.001 * every + 0.02 * seed
                recipe = f"toy-lambda{value:g}-every{every}"
                write_run(tmp_path, score, label="diagnose_relearn", seed=seed, recipe=recipe, block=block)
    write_run(tmp_path, 0.7, label="unimodal", modality="audio")
    return collect([tmp_path])


@pytest.fixture
def pair(tmp_path: Path) -> Runs:
    """Joint training and D&R of one recipe, two seeds."""
    for seed in (0, 1):
        write_run(tmp_path / "pair", 0.8, seed=seed, outputs=seed == 1, monitor="test")
        write_run(tmp_path / "pair", 0.9, label="diagnose_relearn", seed=seed, outputs=seed == 1, monitor="test")
    return collect([tmp_path / "pair"])


def made(drawing: Drawing, of: Sequence[RunRecord]) -> Figure:
    """The figure as `drcli reproduce` draws it."""
    figure = Figure(layout="constrained")
    with PAPER.applied():
        drawn(drawing, of, PAPER)(figure)
    return figure


@pytest.mark.parametrize("drawing", ["noisy_case", pytest.param("learning", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG\r\n"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_a_figure_is_a_file_of_its_kind_the_same_each_time(
    pair: Runs, tmp_path: Path, drawing: Drawing, suffix: str, start: bytes
) -> None:
    path = tmp_path / f"figure{suffix}"
    write_figure(path, PAPER, drawn(drawing, pair, PAPER))
    first = path.read_bytes()
    write_figure(path, PAPER, drawn(drawing, pair, PAPER))
    assert first.startswith(start)
    assert path.read_bytes() == first


def texts(figure: Figure) -> str:
    return "\n".join(artist.get_text() for artist in figure.findobj(Text))


# Sensitivity


def test_sensitivity_means_over_seeds_and_pairs_with_joint(runs: Runs) -> None:
    (grid,) = sensitivity.data_with_reference(runs)
    assert grid.base == pytest.approx({0: 0.80, 1: 0.82})
    assert (grid.lambdas, grid.everies) == ([1.0, 3.0], [5, 10])
    assert set(grid.accuracies) == {(1.0, 5), (1.0, 10), (3.0, 5), (3.0, 10)}
    assert grid.accuracies[3.0, 10] == pytest.approx({0: 0.84, 1: 0.86})
    assert grid.difference((3.0, 10)) == pytest.approx(0.04)
    assert grid.matrix({(1.0, 5): 1.0, (3.0, 10): 2.0})[1, 1] == 2.0


def test_sensitivity_names_recipe_seeds_and_joint_training(runs: Runs) -> None:
    shown = texts(made("sensitivity", runs))
    assert "85.0 ± 1.4\n(+4.0)" in shown
    assert "toy: test accuracy of D&R in per cent, mean ± standard deviation over 2 seeds\n" in shown
    assert "minus joint training (81.0 ± 1.4) in points, paired by seed\nepochs selected on val" in shown
    assert "0: nothing is pulled back" not in shown


def test_sensitivity_of_one_seed_has_no_deviation_and_lambda_0_is_explained(tmp_path: Path) -> None:
    write_run(tmp_path, 0.8)
    write_run(tmp_path, 0.8, label="diagnose_relearn", recipe="other", block={"lambda": 0.0, "every": 5})
    shown = texts(made("sensitivity", collect([tmp_path])))
    assert "80.0\n(+0.0)" in shown
    assert "per cent, mean over 1 seed\n" in shown
    assert "lambda (0: nothing is pulled back, which is joint training)" in shown


def test_colours_of_sensitivity_meet_at_joint_training_by_whole_points(runs: Runs) -> None:
    heat, bar = made("sensitivity", runs).axes
    assert heat.images[0].get_clim() == (-4, 4)
    assert all(float(tick).is_integer() for tick in bar.get_yticks())
    assert bar.get_ylabel() == "difference to joint training (points)"


def test_joint_training_of_another_budget_is_not_compared_with(tmp_path: Path) -> None:
    write_run(tmp_path, 0.8, epochs=3)
    write_run(tmp_path, 0.8, label="diagnose_relearn", recipe="other", block={"lambda": 1.0, "every": 5})
    (grid,) = sensitivity.data(collect([tmp_path]))
    assert (grid.base, grid.difference((1.0, 5))) == ({}, None)


def test_re_learning_on_another_method_has_a_grid_of_its_own(tmp_path: Path) -> None:
    write_run(tmp_path, 0.7)
    for value, score in ((1.0, 0.8), (3.0, 0.9)):
        block = {"method": "multi_loss", "weight": 1.0, "relearn": {"lambda": value, "every": 5, "times": 3}}
        write_run(tmp_path, score, label="multi_loss_dr", recipe=f"toy-lambda{value:g}", block=block)
    write_run(tmp_path, 0.8, label="diagnose_relearn", recipe="other", block={"lambda": 1.0, "every": 5})
    ours, plain = sensitivity.data(collect([tmp_path]))[::-1]
    if len(ours.lambdas) == 1:
        ours, plain = plain, ours
    assert (ours.lambdas, ours.everies) == ([1.0, 3.0], [5])
    assert ours.reference == "joint training"
    assert ours.difference((3.0, 5)) == pytest.approx(0.2)
    assert plain.lambdas == [1.0]
    write_run(tmp_path, 0.85, label="multi_loss", block={"method": "multi_loss", "weight": 2.0})
    found = {grid.reference for grid in sensitivity.data(collect([tmp_path]))}
    assert found == {"joint training"}  # its weight is another one
    write_run(tmp_path, 0.85, label="ours", block={"method": "multi_loss", "weight": 1.0})
    (ours,) = (grid for grid in sensitivity.data(collect([tmp_path])) if grid.reference == "multi_loss")
    assert ours.difference((3.0, 5)) == pytest.approx(0.05)
    shown = texts(made("sensitivity", collect([tmp_path])))
    assert "test accuracy of multi_loss with re-learning in per cent" in shown
    assert "minus multi_loss (85.0) in points" in shown


def test_sensitivity_without_joint_training_is_refused(runs: Runs) -> None:
    with pytest.raises(
        DataError,
        match="it needs finished runs with re-learning and, of the same seeds, of the method without it or of joint",
    ):
        sensitivity.data_with_reference([run for run in runs if run.method != "joint"])


# Curves


def test_accuracies_are_in_per_cent_with_mean_and_deviation_over_seeds(runs: Runs) -> None:
    found = accuracy.data(accuracy.read_epochs(by_name([run for run in runs if run.label == "joint"])))
    val = found.curves["val"]["joint"]
    assert val.at(2) == pytest.approx(60.5)  # 60 and 61
    assert val.std[2] == pytest.approx(0.5**0.5)
    assert found.last["joint"]["val"] == pytest.approx([0.75, 0.76])
    assert (found.curves["test"], found.last["joint"]["test"]) == ({}, [])


def test_purities_and_gaps_are_means_over_seeds(runs: Runs) -> None:
    audio, visual = learning_state.data(learning_state.read_events(by_name([r for r in runs if r.label == "joint"])))
    assert (audio.modality, visual.modality, audio.epochs) == ("audio", "visual", [2, 4])
    purity = audio.purities["val"]["joint"]
    assert list(purity.epochs) == [2, 4]
    assert purity.mean == pytest.approx([0.605, 0.605])
    assert audio.gaps["joint"].mean == pytest.approx([0.195, 0.195])
    assert (audio.strengths, audio.relearned, audio.floor) == ({}, {}, None)


def state_of(tmp_path: Path, *made: MadeRun) -> ModalityState:
    methods = by_name(collect([write_runs(tmp_path / "tree", made)]))
    return learning_state.data(learning_state.read_events(methods))[0]


def relearning(seed: int = 0, **changes: Any) -> MadeRun:
    return MadeRun("diagnose_relearn", seed, settings=RELEARN, **{"every": 8, **changes})


def test_what_a_relearning_found_and_left_is_the_mean_over_seeds(tmp_path: Path) -> None:
    found = state_of(tmp_path, relearning(0), relearning(1))
    # Events at epochs 8, 16, 24; audio: 0.6 (0.03 + 0.02 k) and 0.0012 more in seed 1; a quarter of it is left.
    before = [0.0186, 0.0306, 0.0426]
    assert [event.epoch for event in found.relearned["diagnose_relearn"]] == [8, 16, 24]
    assert [event.before for event in found.relearned["diagnose_relearn"]] == pytest.approx(before)
    assert [event.after for event in found.relearned["diagnose_relearn"]] == pytest.approx([x / 4 for x in before])
    assert found.strengths["diagnose_relearn"].mean == pytest.approx([3 * x for x in before])
    assert found.floor == pytest.approx(0.01)


def test_an_event_without_a_measurement_has_nothing_after_it(tmp_path: Path) -> None:
    found = state_of(tmp_path, relearning(measured=False))
    assert [event.after for event in found.relearned["diagnose_relearn"]] == [None] * 3


def triangles(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if line.get_marker() == "v"]


def drawn_gap(found: ModalityState) -> tuple[Axes, list[str]]:
    """The panel of a gap, and the names of its legend."""
    axes = Figure().subplots()
    theme: Theme = PAGE.with_methods(found.gaps)
    return axes, [name for _, name in learning_state.draw_gap(axes, found, theme)]


def test_the_gap_falls_from_the_filled_triangle_to_the_hollow_one(tmp_path: Path) -> None:
    axes, names = drawn_gap(state_of(tmp_path, relearning(), MadeRun(every=8)))
    before, after = triangles(axes)
    assert list(before.get_ydata()) == pytest.approx([0.018, 0.03, 0.042])  # type: ignore[arg-type]
    assert list(after.get_ydata()) == pytest.approx([0.0045, 0.0075, 0.0105])  # type: ignore[arg-type]
    assert (before.get_markerfacecolor(), after.get_markerfacecolor()) == (before.get_color(), "#ffffff")
    assert names == ["joint", "diagnose_relearn", "before re-learning", "after it", "permuted labels"]


def test_the_legend_of_the_gap_shows_triangles_where_there_are_some(tmp_path: Path) -> None:
    axes, names = drawn_gap(state_of(tmp_path, MadeRun(every=8)))
    assert (triangles(axes), names) == ([], ["joint", "permuted labels"])


def test_every_relearning_has_its_triangle_on_a_long_run(tmp_path: Path) -> None:
    axes, _ = drawn_gap(state_of(tmp_path, relearning(epochs=700, every=2)))
    assert [len(line.get_xdata()) for line in triangles(axes)] == [349, 349]  # type: ignore[arg-type]


# Figure 4


def test_test_curves_are_drawn_where_the_runs_have_them_and_say_so(runs: Runs, pair: Runs) -> None:
    assert "test accuracy (selects nothing)" in texts(made("learning", pair))
    assert learning.data(pair).second == "test"
    assert "test accuracy" not in texts(made("learning", [run for run in runs if run.label == "joint"]))


def styles(axes: Axes) -> list[str]:
    """Line styles of the curves, without the lines of re-learning and the triangles."""
    return [str(line.get_linestyle()) for line in axes.lines if line.get_linestyle() not in {":", "None"}]


def test_purities_of_train_are_solid_and_those_of_validation_dashed(pair: Runs) -> None:
    figure = made("learning", pair)
    assert [styles(axes) for axes in figure.axes[:2]] == [["-"] * 2, ["-"] * 2 + ["--"] * 2]
    assert (SPLITS["train"], SPLITS["val"]) == ("-", "--")


def test_panels_of_learning_are_named_and_rows_of_modalities_share_their_range(pair: Runs) -> None:
    figure = made("learning", pair)
    quantities = ["accuracy (%)", "purity", "purity", "accuracy (%)", "purity gap", "purity gap"]
    assert [axes.get_ylabel() for axes in figure.axes] == quantities
    assert {axes.get_xlabel() for axes in figure.axes} == {"epoch"}
    for first, second in ((0, 3), (1, 2), (4, 5)):
        assert figure.axes[first].get_ylim() == figure.axes[second].get_ylim()
    assert figure.axes[4].get_ylim()[0] == 0


@pytest.mark.parametrize("modalities", [("audio", "visual"), ("audio",), ("visual",)])
def test_a_signed_gap_below_zero_is_in_the_picture(pair: Runs, modalities: Sequence[str]) -> None:
    for run in pair:
        files = RunDirectory(run.folder)
        files._keep(files._events, [_signed(event, modalities) for event in files.events()])
    assert made("learning", pair).axes[4].get_ylim()[0] < -0.19


def _signed(event: Any, modalities: Sequence[str]) -> Any:
    states = {
        m: state.model_copy(update={"gap": -state.gap if m in modalities else state.gap})
        for m, state in event.modalities.items()
    }
    return event.model_copy(update={"modalities": states})


def test_the_legend_of_learning_names_lines_bands_and_the_recipe(pair: Runs) -> None:
    figure = made("learning", pair)
    (legend,) = figure.legends
    assert sorted(text.get_text() for text in legend.texts) == sorted(
        [
            "joint",
            "diagnose_relearn",
            "re-learning",
            "train purity",
            "validation purity",
            "before re-learning",
            "band: ± standard deviation",
        ]
    )
    assert figure.get_suptitle() == "toy, mean over 2 seeds"


def test_relearning_events_are_lines_in_every_picture_of_accuracy_and_purity(pair: Runs) -> None:
    for axes in made("learning", pair).axes[:4]:
        dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
        assert [list(line.get_xdata()) for line in dotted] == [[4, 4]]  # type: ignore[arg-type]


def test_runs_without_purities_are_refused_with_the_remedy(runs: Runs) -> None:
    for run in runs:
        files = RunDirectory(run.folder)
        files._keep(files._events, [])
    with pytest.raises(DataError, match=r"diagnosis\.monitor_every=2"):
        learning.data(runs)


# Representations, comparison, confusion


def test_representations_come_from_the_first_seed_that_all_methods_share(pair: Runs) -> None:
    of_one = [run for run in pair if not (run.label == "joint" and run.seed == 0)]
    rows = representations.data(of_one, 1000)
    assert [(row.run.label, row.run.seed, list(row.maps)) for row in rows] == [
        ("joint", 1, ["audio", "visual"]),
        ("diagnose_relearn", 1, ["audio", "visual"]),
    ]
    figure = made("representations", of_one)
    assert len(figure.axes) == 4  # two methods, two modalities
    assert figure.get_suptitle().startswith("toy: representations of the test split, seed 1\n")
    assert [axes.get_xlabel() for axes in figure.axes] == ["t-SNE 1 (30 rows)"] * 4
    assert [text.get_text() for text in figure.legends[0].texts] == ["0 a", "1 b", "2 c"]
    with pytest.raises(DataError, match="no outputs of the test split were kept"):
        representations.data(pair, 1000)  # seed 0 kept none
    with pytest.raises(DataError, match="no seed is finished for every method"):
        representations.data(of_one[:1] + [run for run in pair if run.label != "joint" and run.seed == 0], 1000)


def test_the_comparison_holds_differences_probes_and_encoders_trained_alone(pair: Runs, tmp_path: Path) -> None:
    alone = [write_run(tmp_path / "pair", 0.7, label="unimodal", modality=m) for m in ("audio", "visual")]
    found = comparison.data([*pair, *collect(alone)])
    assert (found.reference, found.probed, found.title) == ("joint", ["audio", "visual"], "toy, 2 seeds")
    assert [row.name for row in found.rows] == ["joint", "diagnose_relearn"]
    assert [row.difference.mean for row in found.compared if row.difference] == pytest.approx([0.1])
    assert {m: mean.mean for m, mean in found.alone.items()} == pytest.approx({"audio": 0.6, "visual": 0.6})
    other = comparison.data(pair, "diagnose_relearn")
    assert [row.difference.mean for row in other.compared if row.difference] == pytest.approx([-0.1])


def test_probes_have_a_cross_of_one_standard_deviation(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path, 0.8 + 0.02 * seed, seed=seed)
        write_run(tmp_path, 0.9, label="pmr", seed=seed)
    found = comparison.data(collect([tmp_path]))
    axes = Figure().subplots()
    keys = comparison.draw_probes(axes, found, PAPER.with_methods(["joint", "pmr"]))
    across = axes.collections[0].get_segments()[0]  # type: ignore[attr-defined]
    deviation = 100 * 0.02 / 2**0.5
    assert across[:, 0] == pytest.approx([71 - deviation, 71 + deviation])  # probes of audio: 70 and 72
    assert across[:, 1] == pytest.approx([61, 61])
    assert [name for _, name in keys] == ["joint: 81.0 ± 1.4", "pmr: 90.0 ± 0.0"]


def test_the_area_of_a_point_grows_with_the_accuracy() -> None:
    assert comparison.areas([0.5, 0.6, 0.7]) == pytest.approx([50, 185, 320])
    assert comparison.areas([0.5, 0.5]) == [320, 320]


def test_the_noisy_case_shows_differences_and_probes_by_recipe(runs: Runs, pair: Runs, tmp_path: Path) -> None:
    figure = made("noisy_case", pair)
    assert len(figure.axes) == 2
    points = [line for line in figure.axes[0].lines if line.get_marker() not in {"None", None, ""}]
    assert [list(line.get_xdata()) for line in points] == [[pytest.approx(10.0)]]  # type: ignore[arg-type]
    shown = texts(figure)
    assert "the test split was watched while training" in shown
    for text in ("toy, 2 seeds", "joint: 80.0 ± 0.0", "linear probe of audio (%)"):
        assert text in shown
    assert "trained alone" not in shown
    alone = [write_run(tmp_path / "pair", 0.7, label="unimodal", modality=m) for m in ("audio", "visual")]
    assert "encoder trained alone" in texts(made("noisy_case", [*pair, *collect(alone)]))
    with pytest.raises(DataError, match="of joint training and of another method"):
        comparison.data_by_recipe([run for run in runs if run.label == "joint"])


def test_confusions_are_summed_over_seeds(tmp_path: Path) -> None:
    # Of the 14 rows of each class two are taken for the other: 0 and 14, 7 and 21.
    made = [MadeRun(seed=seed, outputs=28, classes=("a", "b")) for seed in (0, 1)]
    (matrix,) = confusion.data(by_name(collect([write_runs(tmp_path / "tree", made)])), ["joint"])
    assert (matrix.name, len(matrix.runs), list(matrix.classes)) == ("joint", 2, ["a", "b"])
    np.testing.assert_allclose(matrix.shares, [[12 / 14, 2 / 14], [2 / 14, 12 / 14]])


def test_rows_of_a_confusion_matrix_add_up_to_one_or_stay_empty() -> None:
    shares = confusion.row_shares(np.array([[3.0, 1.0], [0.0, 0.0]]))
    np.testing.assert_array_equal(shares, [[0.75, 0.25], [0, 0]])

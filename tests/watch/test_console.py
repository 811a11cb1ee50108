"""What the user sees: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from support.records import FOUND, epoch_record, event_record, failure_record, summary_record

from drcli.recipe.schema import Recipe
from drcli.runs.planned import PlannedRun, plan
from drcli.runs.records import Purities
from drcli.watch.console import ROWS, ConsoleListener, columns, event_line, run_line
from drcli.watch.events import Diagnosed, EpochFinished, Note, RowsDone, RunFailed, RunFinished, RunStarted

SUMMARY = summary_record()


@pytest.fixture
def run(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> PlannedRun:
    """Joint training with seed 3 for 4 epochs."""
    (planned,) = plan(toy_recipe(), ["joint"], [3], tmp_path)
    return planned


def listen(*, terminal: bool, total: int = 2) -> tuple[ConsoleListener, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=100, color_system=None, height=40)
    return ConsoleListener(console, total), stream


def test_without_a_terminal_an_epoch_is_one_line(run: PlannedRun) -> None:
    listener, stream = listen(terminal=False)
    listener.on(RunStarted(run, 0, 60, "1.2 MB in memory maps"))
    for epoch in range(2):
        listener.on(RowsDone(60))
        listener.on(EpochFinished(run, epoch_record(epoch, selected=epoch == 1)))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "[1/2] toy: joint seed 3: 4 epochs, training data 1.2 MB in memory maps"
    assert lines[1].split() == " ".join(columns("classification")).split()
    assert lines[2].split() == ["0", "1.2346", "50.0", "%", "0.9877", "62.5", "%", "1234", "0:06"]
    assert lines[3].split() == ["1*", "1.2346", "50.0", "%", "0.9877", "62.5", "%", "1234", "0:04"]
    assert len(lines) == 4
    assert "\x1b" not in stream.getvalue()


def test_the_time_left_is_the_mean_of_the_epochs_so_far(run: PlannedRun) -> None:
    listener, stream = listen(terminal=False)
    listener.on(RunStarted(run, 0, 60))
    listener.on(EpochFinished(run, epoch_record(0, seconds=10)))
    listener.on(EpochFinished(run, epoch_record(1, seconds=20)))  # two more of 15 each
    assert [line.split()[-1] for line in stream.getvalue().splitlines()[2:]] == ["0:30", "0:30"]


def test_a_resumed_run_says_where(run: PlannedRun) -> None:
    listener, stream = listen(terminal=False)
    listener.on(RunStarted(run, 2, 60))
    assert stream.getvalue().splitlines()[0] == "[1/2] toy: joint seed 3: 4 epochs, resumed at epoch 2"


def test_a_terminal_shows_a_live_table_that_is_gone_at_the_end(run: PlannedRun) -> None:
    listener, stream = listen(terminal=True)
    listener.on(RunStarted(run, 0, 60))
    live = listener.live
    assert live is not None
    for epoch in range(ROWS + 3):
        listener.on(RowsDone(60))
        listener.on(EpochFinished(run, epoch_record(epoch, selected=epoch == 1)))
    assert [row[0].strip() for row in listener.rows] == [str(epoch) for epoch in range(3, ROWS + 3)]
    live.refresh()
    shown = stream.getvalue()
    assert "\x1b" in shown
    assert all(name in shown for name in columns("classification"))
    assert "* best epoch so far" in shown
    assert "1.2346" in shown
    listener.on(RunFinished(run, SUMMARY, False))
    assert listener.live is None
    assert "test accuracy 84.1 %" in stream.getvalue()


def test_a_second_run_opens_a_table_of_its_own(run: PlannedRun) -> None:
    listener, stream = listen(terminal=True)
    for _ in range(2):
        listener.on(RunStarted(run, 0, 60))
        listener.on(EpochFinished(run, epoch_record(0)))
        assert len(listener.rows) == 1
        listener.on(RunFinished(run, SUMMARY, False))
    assert "[2/2] toy: joint seed 3" in stream.getvalue()


def test_stored_runs_count_too(run: PlannedRun) -> None:
    listener, stream = listen(terminal=False)
    listener.on(RunFinished(run, SUMMARY, True))
    listener.on(RunStarted(run, 0, 60))
    assert "stored result" in stream.getvalue()
    assert "[2/2] toy: joint seed 3" in stream.getvalue()


def test_a_note_and_an_event_are_lines_of_their_own(run: PlannedRun) -> None:
    listener, stream = listen(terminal=True)
    listener.on(RunStarted(run, 0, 60))
    listener.on(Diagnosed(run, event_record(1, "monitor")))
    listener.on(Note("failed: the disk is full [sic]"))
    assert listener.live is None
    assert "epoch 1: diagnosis: audio purity 0.900 / 0.700, gap 0.200 (0.190 above the floor)" in stream.getvalue()
    assert "failed: the disk is full [sic]" in stream.getvalue()
    listener.close()  # a second time, as at the end of a command


def test_an_event_names_every_modality() -> None:
    event = event_record(20, "relearn", event=1, modalities={"audio": FOUND, "visual": FOUND})
    assert event_line(event) == (
        "  epoch 20: re-learning 1: audio purity 0.900 / 0.700, gap 0.200 (0.190 above the floor), strength 0.537; "
        "visual purity 0.900 / 0.700, gap 0.200 (0.190 above the floor), strength 0.537"
    )


def test_a_finished_run_is_one_line(run: PlannedRun) -> None:
    assert run_line(run, SUMMARY, stored=False) == (
        "  toy: joint seed 3: test accuracy 84.1 % (epoch 2, selected on val); "
        "linear probes: audio 70.0 %, visual 65.5 % (1:01)"
    )
    assert run_line(run, SUMMARY, stored=True).endswith("(stored result, 1:01)")
    fused = SUMMARY.model_copy(update={"fused_probe": 0.8})
    assert "audio 70.0 %, visual 65.5 %, fused 80.0 % (1:01)" in run_line(run, fused, stored=False)


def test_what_a_re_learning_left_is_said() -> None:
    left = FOUND.model_copy(update={"after": Purities(purity_train=0.5, purity_val=0.45, gap=0.05)})
    assert event_line(event_record(1, "relearn", event=1, modalities={"audio": left})).endswith("gap left 0.050")


def test_a_failed_run_is_a_line_of_its_own(run: PlannedRun) -> None:
    listener, stream = listen(terminal=False)
    listener.on(RunFailed(run, failure_record("runs/toy: out of memory")))
    assert stream.getvalue() == "failed: runs/toy: out of memory\n"


def test_an_event_whose_gaps_are_all_at_the_floor_says_so() -> None:
    low = FOUND.model_copy(update={"gap": 0.06, "gap_permuted": 0.02})  # 0.02 and the margin of 0.05 are above it
    said = "every gap is at the floor of permuted labels"
    assert event_line(event_record(modalities={"audio": low, "visual": low})).endswith(said)
    assert said not in event_line(event_record(modalities={"audio": low, "visual": FOUND}))


def test_a_run_selected_before_its_first_re_learning_says_so(run: PlannedRun) -> None:
    """The checkpoint of epoch 4 is written before the event that ends epoch 4."""
    said = "before the first re-learning"
    for epoch, first, expected in ((4, 4, True), (5, 4, False), (3, 4, True), (3, None, False)):
        summary = summary_record(selected_epoch=epoch, first_event=first, epochs=9, events=1)
        assert (said in run_line(run, summary, stored=False)) == expected

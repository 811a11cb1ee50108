"""What the user sees: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from drcli.engine.plan import PlannedRun, plan
from drcli.recipe.schema import Recipe
from drcli.report.console import (
    COLUMNS,
    ROWS,
    ConsoleListener,
    duration,
    event_line,
    how_selected,
    percent,
    run_line,
)

SUMMARY: dict[str, Any] = {
    "selection": "val",
    "selected_epoch": 2,
    "seconds": 61.0,
    "test": {"accuracy": 0.8412, "macro_f1": 0.8, "n": 30},
    "unimodal": {"audio": {"probe_accuracy": 0.7}, "visual": {"probe_accuracy": 0.655}},
}
FOUND = {"purity_train": 0.9, "purity_val": 0.7, "gap": 0.2, "strength": 0.537}


@pytest.fixture
def run(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> PlannedRun:
    """Joint training with seed 3 for 4 epochs."""
    (planned,) = plan(toy_recipe(), ["joint"], [3], tmp_path)
    return planned


def record(epoch: int, *, selected: bool = False, seconds: float = 2.0) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "train": {"loss": 1.23456, "accuracy": 0.5},
        "val": {"loss": 0.98765, "accuracy": 0.625},
        "selected": selected,
        "seconds": seconds,
        "clips_per_second": 1234.5,
    }


def listen(*, terminal: bool, total: int = 2) -> tuple[ConsoleListener, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=100, color_system=None, height=40)
    return ConsoleListener(console, total), stream


def test_without_a_terminal_an_epoch_is_one_line(run: PlannedRun) -> None:
    listener, stream = listen(terminal=False)
    listener.run_started(run, first_epoch=0, rows=60, data="1.2 MB in memory maps")
    for epoch in range(2):
        listener.rows_done(60)
        listener.epoch_finished(record(epoch, selected=epoch == 1))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "[1/2] toy: joint seed 3: 4 epochs, training data 1.2 MB in memory maps"
    assert lines[1].split() == " ".join(COLUMNS).split()
    assert lines[2].split() == ["0", "1.2346", "50.0", "%", "0.9877", "62.5", "%", "1234", "0:06"]
    assert lines[3].split() == ["1*", "1.2346", "50.0", "%", "0.9877", "62.5", "%", "1234", "0:04"]
    assert len(lines) == 4
    assert "\x1b" not in stream.getvalue()


def test_the_time_left_is_the_mean_of_the_epochs_so_far(run: PlannedRun) -> None:
    listener, stream = listen(terminal=False)
    listener.run_started(run, first_epoch=0, rows=60)
    listener.epoch_finished(record(0, seconds=10))
    listener.epoch_finished(record(1, seconds=20))  # two more of 15 each
    assert [line.split()[-1] for line in stream.getvalue().splitlines()[2:]] == ["0:30", "0:30"]


def test_a_run_that_goes_on_says_where(run: PlannedRun) -> None:
    listener, stream = listen(terminal=False)
    listener.run_started(run, first_epoch=2, rows=60)
    assert stream.getvalue().splitlines()[0] == "[1/2] toy: joint seed 3: 4 epochs, going on at epoch 2"


def test_a_terminal_shows_a_live_table_that_is_gone_at_the_end(run: PlannedRun) -> None:
    listener, stream = listen(terminal=True)
    listener.run_started(run, first_epoch=0, rows=60)
    assert listener.live is not None
    for epoch in range(ROWS + 3):
        listener.rows_done(60)
        listener.epoch_finished(record(epoch, selected=epoch == 1))
    assert [row[0].strip() for row in listener.rows] == [str(epoch) for epoch in range(3, ROWS + 3)]
    listener.live.refresh()
    shown = stream.getvalue()
    assert "\x1b" in shown
    assert all(name in shown for name in COLUMNS)
    assert "* selected so far" in shown
    assert "1.2346" in shown
    listener.run_finished(run, SUMMARY, stored=False)
    assert listener.live is None
    assert "test accuracy 84.1 %" in stream.getvalue()


def test_a_second_run_opens_a_table_of_its_own(run: PlannedRun) -> None:
    listener, stream = listen(terminal=True)
    for _ in range(2):
        listener.run_started(run, first_epoch=0, rows=60)
        listener.epoch_finished(record(0))
        assert len(listener.rows) == 1
        listener.run_finished(run, SUMMARY, stored=False)
    assert "[2/2] toy: joint seed 3" in stream.getvalue()


def test_stored_runs_count_too(run: PlannedRun) -> None:
    listener, stream = listen(terminal=False)
    listener.run_finished(run, SUMMARY, stored=True)
    listener.run_started(run, first_epoch=0, rows=60)
    assert "stored result" in stream.getvalue()
    assert "[2/2] toy: joint seed 3" in stream.getvalue()


def test_a_note_and_an_event_are_lines_of_their_own(run: PlannedRun) -> None:
    listener, stream = listen(terminal=True)
    listener.run_started(run, first_epoch=0, rows=60)
    listener.diagnosed({"epoch": 1, "kind": "monitor", "modalities": {"audio": FOUND}})
    listener.note("failed: the disk is full [sic]")
    assert listener.live is None
    assert "epoch 1: diagnosis: audio purity 0.900 / 0.700, gap 0.200, strength 0.537" in stream.getvalue()
    assert "failed: the disk is full [sic]" in stream.getvalue()
    listener.close()  # a second time, as at the end of a command


def test_an_event_names_every_modality() -> None:
    event = {"epoch": 20, "kind": "relearn", "event": 1, "modalities": {"audio": FOUND, "visual": FOUND}}
    assert event_line(event) == (
        "  epoch 20: re-learning 1: audio purity 0.900 / 0.700, gap 0.200, strength 0.537; "
        "visual purity 0.900 / 0.700, gap 0.200, strength 0.537"
    )


def test_a_finished_run_is_one_line(run: PlannedRun) -> None:
    assert run_line(run, SUMMARY, stored=False) == (
        "  toy: joint seed 3: test accuracy 84.1 % (epoch 2, selected on val); "
        "linear probes: audio 70.0 %, visual 65.5 % (1:01)"
    )
    assert run_line(run, SUMMARY, stored=True).endswith("(stored result, 1:01)")


def test_how_a_score_came_about_is_said_in_words() -> None:
    assert how_selected("val", "none") == "selected on val"
    assert how_selected("test", "none") == "selected on test"
    assert how_selected("last", "none") == "selected as the last"
    assert how_selected("val", "test") == "selected on val, the test split was watched while training"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (42.4, "0:42"), (59.6, "1:00"), (725, "12:05"), (3599.6, "1:00:00"), (11229, "3:07:09")],
)
def test_durations_read_as_clock_times(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("fraction", "text"), [(0, "0.0 %"), (0.84149, "84.1 %"), (1, "100.0 %")])
def test_fractions_read_as_percentages(fraction: float, text: str) -> None:
    assert percent(fraction) == text

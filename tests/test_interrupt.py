"""Ctrl-C while the command line starts."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_line import start

from drcli import __main__ as program
from drcli import terminal

# drcli as the console script starts it. A shell that runs tests in the background has them ignore SIGINT.
STARTING = """
import signal
from drcli.__main__ import main
signal.signal(signal.SIGINT, signal.default_int_handler)
print("started", flush=True)
main()
"""


@pytest.fixture(autouse=True)
def _own_handler() -> Iterator[None]:
    """SIGINT is handled as Python does it, whatever started the tests."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes with which the process would have been ended."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


@pytest.fixture(autouse=True)
def _every_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals that follow one another at once are not taken for one."""
    monkeypatch.setattr(terminal, "GRACE", 0.0)


def test_inside_the_process_is_ended_and_after_it_python_raises(
    exits: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    with terminal.leaving_at_once():
        signal.raise_signal(signal.SIGINT)
    assert exits == [130]
    assert capfd.readouterr().err == "drcli: stopped\n"
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_work_inside_is_interrupted_as_usual(exits: list[int]) -> None:
    with terminal.leaving_at_once():
        with pytest.raises(KeyboardInterrupt), terminal.raising_again():
            signal.raise_signal(signal.SIGINT)
        assert exits == []
        signal.raise_signal(signal.SIGINT)
    assert exits == [130]


def test_an_import_is_never_interrupted_halfway(
    exits: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A package that swallows the interrupt would be half imported: the command ends instead, also once it works."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slow_to_import.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    with terminal.leaving_at_once(), terminal.raising_again():
        importlib.import_module("slow_to_import")
        assert exits == [130]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert exits == [130]


def test_a_handler_of_somebody_else_stays(exits: list[int]) -> None:
    seen: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    with terminal.leaving_at_once(), terminal.raising_again():
        signal.raise_signal(signal.SIGINT)
    assert (seen, exits) == ([signal.SIGINT], [])


def test_of_six_in_a_row_the_first_counts(
    exits: list[int], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What the first one began is ended in order, and says so once."""
    monkeypatch.setattr(terminal, "GRACE", 60.0)
    raised = 0
    with terminal.leaving_at_once():
        assert not terminal.interrupted()
        try:
            with terminal.raising_again():
                signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raised += 1
        assert terminal.interrupted()
        with terminal.raising_again():
            for _ in range(4):
                signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert (raised, exits, capfd.readouterr().err) == (1, [], "")


def test_at_the_end_an_interrupt_is_ignored_unless_another_handler_is_set() -> None:
    terminal.ignoring()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    own = lambda number, frame: None  # noqa: E731
    signal.signal(signal.SIGINT, own)
    terminal.ignoring()
    assert signal.getsignal(signal.SIGINT) is own


def test_another_thread_is_left_alone() -> None:
    seen: list[object] = []

    def work() -> None:
        with terminal.leaving_at_once():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_a_keyboard_interrupt_before_the_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "_run", stop)
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "drcli: stopped\n"


def interrupted(delay: float, cwd: Path, times: int = 1) -> None:
    """Start a training, interrupt it after so many seconds, once or several times, and check how it ends."""
    process = start("train", "digits", program=STARTING, cwd=cwd)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    time.sleep(delay)
    for _ in range(times):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.05 * (times > 1))
    ended_in_one_line(process, delay)


def ended_in_one_line(process: subprocess.Popen[str], delay: float) -> None:
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, (delay, stderr)
    assert "drcli: stopped" in stderr.splitlines()[-1], (delay, stderr)
    assert stderr.count("drcli: stopped") == 1
    assert "Traceback" not in stderr
    assert stdout == ""


def test_ctrl_c_while_packages_are_imported_is_one_line(tmp_path: Path) -> None:
    interrupted(0.25, tmp_path)


def test_six_ctrl_c_in_a_row_are_one_line(tmp_path: Path) -> None:
    interrupted(0.4, tmp_path, times=6)


@pytest.mark.slow
@pytest.mark.parametrize("hundredths", range(1, 100, 3))
def test_ctrl_c_at_any_time_of_the_start_is_one_line(hundredths: int, tmp_path: Path) -> None:
    interrupted(hundredths / 100, tmp_path)

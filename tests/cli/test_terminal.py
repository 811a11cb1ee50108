"""Windows of any width, standard output that cannot be written, and what libraries would print."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.command_line import ROOT, Drcli, Refused

from drcli import terminal
from drcli.reading import is_memory_shortage
from drcli.registry import Entry, Registry


def run(*args: object, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "drcli", *map(str, args)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        check=False,
        timeout=100,
        **{"stdout": subprocess.PIPE, **options},
    )


@pytest.mark.parametrize("columns", ["0", "1", "20", "-3", "many", "99999999999999999999"])
def test_a_table_holds_every_word_however_narrow_the_window_claims_to_be(
    columns: str, drcli: Drcli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    said = drcli("ls", "methods").stdout
    for word in ("diagnose_relearn", "g_blending", "uni_pretrained"):
        assert word in said


@pytest.mark.parametrize("arguments", [("ls", "recipes"), ("--help",)])
def test_a_process_in_a_window_without_width_prints_what_it_prints_in_a_narrow_one(arguments: tuple[str, ...]) -> None:
    none, narrow = (run(*arguments, env={"COLUMNS": columns}).stdout for columns in ("0", "60"))
    assert none == narrow
    assert len(none.splitlines()) > 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a system without /dev/full")
@pytest.mark.parametrize("arguments", [("ls", "methods"), ("--version",)])
def test_standard_output_on_a_full_disk_is_one_line_and_exit_code_1(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        ended = run(*arguments, stdout=full)
    assert ended.returncode == 1
    assert ended.stderr == "drcli: standard output cannot be written (No space left on device)\n"


def test_a_reader_that_stops_ends_the_command_without_a_message() -> None:
    read, write = os.pipe()
    os.close(read)
    ended = run("ls", "recipes", stdout=write)
    os.close(write)
    assert ended.stderr == ""
    assert ended.returncode == 1


def test_the_screen_that_matplotlib_would_draw_on_does_not_matter(tmp_path: Path) -> None:
    script = (
        "from drcli import terminal; terminal.prepare_environment()\n"
        "import logging, warnings, matplotlib\n"
        "from matplotlib.figure import Figure\n"
        "logging.getLogger('matplotlib.font_manager').warning('building the font cache')\n"
        "figure = Figure(); figure.suptitle('\\u4f60\\U0001f600'); figure.savefig('a.png')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "nonsense", "MPLCONFIGDIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "a.png").stat().st_size > 0


@pytest.mark.slow
def test_a_name_that_is_not_utf_8_is_spelled_out_on_any_terminal(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9\x1b[31m.yaml")
    ended = run("show", tmp_path / name)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"drcli: {tmp_path}/caf\\udce9\\x1b[31m.yaml: ")
    assert ended.stderr.count("\n") == 1
    assert run("ls", "methods", env={"PYTHONIOENCODING": "ascii"}).returncode == 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: not enough memory: you tried to allocate"),
    ],
)
def test_memory_that_cannot_be_had_is_one_message(
    error: Exception, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("drcli.commands.show.find_recipe", fails)
    said = refused("show", "digits", code=1)
    assert said.startswith("not enough memory (")
    assert said.endswith("); lower training.batch_size, or take a smaller model\n")


def test_other_errors_are_not_taken_for_a_shortage_of_memory() -> None:
    assert not is_memory_shortage(RuntimeError("shape mismatch"))


def test_consoles_are_made_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    assert terminal.console(stderr=True).width == terminal.WIDE
    monkeypatch.setenv("COLUMNS", "5")
    assert terminal.console().width == terminal.NARROWEST
    monkeypatch.setenv("COLUMNS", "133")
    assert terminal.console().width == 133


PLUGINS = {
    "exits": "raise SystemExit(0)",
    "interrupts": "raise KeyboardInterrupt",
    "fails": "raise ValueError('line one\\nline two')",
    "bare": "class Plugin: pass",
}


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plug_in_that_does_not_load_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    from drcli.errors import UsageError

    (tmp_path / f"plugin_{name}.py").write_text(PLUGINS[name], encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry("method", {"joint": Entry("a:b", "c")}, group="drcli.none")
    registry._plugins = {name: EntryPoint(name, f"plugin_{name}:Plugin", "drcli.none")}
    with pytest.raises(
        UsageError, match=rf"^method '{name}' \(from plugin_{name}:Plugin\) (does not load|has no Settings)"
    ):
        registry.load(name)

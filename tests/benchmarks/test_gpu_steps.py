"""The steps of `make gpu`: within the budget, none twice, what fails is told, the tables; and the whole chain, tiny."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import torch
from support.bare import brought, interpreter, link, variables, wheel

ROOT = Path(__file__).resolve().parents[2]

WRITES = """
import json, sys
path = sys.argv[sys.argv.index("--json") + 1]
open(path, "w").write(json.dumps({"arguments": sys.argv[1:], "machine": None}))
"""
FAILS = "import sys; print('begun'); sys.exit('no such thing: name another')"
LASTS = """
import subprocess, sys
print("begun", flush=True)
subprocess.run([sys.executable, "-c", "import time; time.sleep(60)"])
"""


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])


@pytest.fixture
def step(tmp_path: Path) -> Callable[..., Any]:
    """Makes a step of a script's text."""
    steps = import_module("benchmarks.gpu.steps")

    def make(name: str, text: str, *lengths: Any, **fields: Any) -> Any:
        script = tmp_path / f"{name}.py"
        script.write_text(text, encoding="utf-8")
        relative = os.path.relpath(script, ROOT / "benchmarks")
        return steps.Step(name, 1, relative, ("--always",), lengths or (steps.Length(20),), ("--tiny",), **fields)

    return make


@pytest.fixture
def session(tmp_path: Path) -> Callable[..., Any]:
    """Makes a session over the folder `out`."""
    running = import_module("benchmarks.gpu.running")

    def make(budget: float = 60.0, *, tiny: bool = False) -> Any:
        (tmp_path / "out").mkdir(exist_ok=True)
        place = running.Place(tmp_path / "out", tmp_path / "site", tmp_path / "scratch", "cpu", tiny)
        return running.Session(place, budget)

    return make


def result(tmp_path: Path, step: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "out" / f"{step}.json").read_text(encoding="utf-8"))
    return found


def test_a_step_that_fails_is_told_and_the_next_one_is_done(
    step: Callable[..., Any], session: Callable[..., Any], tmp_path: Path
) -> None:
    assert session().do([step("bad", FAILS), step("good", WRITES)]) == 1
    bad, good = result(tmp_path, "bad"), result(tmp_path, "good")
    assert (bad["status"], good["status"]) == ("failed", "done")
    assert bad["message"] == "ended with exit code 1: no such thing: name another"
    assert "begun" in bad["output"]
    assert good["found"]["arguments"][:3] == ["--device", "cpu", "--always"]


def test_what_is_done_is_not_repeated_and_what_is_not_is(
    step: Callable[..., Any], session: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session().do([step("one", WRITES), step("other", FAILS)])
    before = (tmp_path / "out" / "one.json").read_bytes()
    assert session().do([step("one", FAILS), step("other", WRITES)]) == 0
    assert (tmp_path / "out" / "one.json").read_bytes() == before
    assert "gpu: one: is there" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"source": "of other code"}, {"tiny": True}, {"device": "cuda"}], ids=str)
def test_results_of_something_else_are_not_resumed_from(
    change: dict[str, Any], step: Callable[..., Any], session: Callable[..., Any], tmp_path: Path
) -> None:
    session().do([step("one", WRITES)])
    path = tmp_path / "out" / "one.json"
    path.write_text(json.dumps({**result(tmp_path, "one"), **change}), encoding="utf-8")
    assert not session().is_done(step("one", WRITES))
    path.write_text("{", encoding="utf-8")
    assert not session().is_done(step("one", WRITES))


@pytest.mark.parametrize(
    ("budget", "expected"),
    [(205, 100), (204, 40), (145, 40), (144, 40), (46, 40), (44, None)],
)
def test_a_step_is_as_long_as_the_later_ones_leave_it_time(
    budget: float, expected: float | None, step: Callable[..., Any], session: Callable[..., Any]
) -> None:
    """5 s are kept for the end, 100 for the shortest form of the next step; if need be the next one goes without."""
    length = import_module("benchmarks.gpu.steps").Length
    first = step("first", WRITES, length(100), length(40, (), "less"))
    later = step("later", WRITES, length(150), length(100, (), "less"))
    chosen = session(budget + 0.9)._length(first, [later])
    assert (None if chosen is None else chosen.seconds) == expected


def test_what_there_is_no_time_for_is_left_out_and_says_so(
    step: Callable[..., Any], session: Callable[..., Any], tmp_path: Path
) -> None:
    length = import_module("benchmarks.gpu.steps").Length
    assert (
        session(30).do([step("long", WRITES, length(100)), step("short", WRITES, length(9, ("--less",), "less"))]) == 1
    )
    assert result(tmp_path, "long")["status"] == "left out"
    assert result(tmp_path, "long")["message"].endswith("s were left, 100 are needed")
    assert result(tmp_path, "short")["shortened"] == "less"


def test_a_step_that_lasts_too_long_is_ended_with_all_that_it_started(
    step: Callable[..., Any], session: Callable[..., Any], tmp_path: Path
) -> None:
    length = import_module("benchmarks.gpu.steps").Length
    began = time.monotonic()
    assert session().do([step("long", LASTS, length(2))]) == 1
    assert time.monotonic() - began < 50
    assert result(tmp_path, "long")["message"] == "was ended after 3 s"
    assert result(tmp_path, "long")["output"] == "begun\n"


def test_the_parts_hold_every_step_once_and_take_nine_minutes_at_most() -> None:
    steps = import_module("benchmarks.gpu.steps").all_steps()
    assert len({step.name for step in steps}) == len(steps)
    for part in (1, 2, 3):
        assert 0 < sum(step.lengths[-1].seconds for step in steps if step.part == part) < 515
    assert set(import_module("benchmarks.gpu.report").TABLES) == {step.name for step in steps}
    for step in steps:
        assert [length.said != "" for length in step.lengths] == [False] + [True] * (len(step.lengths) - 1)
        assert [length.seconds for length in step.lengths] == sorted((x.seconds for x in step.lengths), reverse=True)


def test_a_report_over_nothing_says_that_nothing_was_measured(tmp_path: Path) -> None:
    text = import_module("benchmarks.gpu.report").report(tmp_path)
    assert text.count("*not measured*") == len(import_module("benchmarks.gpu.steps").all_steps())
    assert "## Targets: no device" in text


def test_the_list_of_packages_holds_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed here decides what they need; Ray puts packages of its own on the path when it is imported."""
    monkeypatch.setattr(sys, "path", [place for place in sys.path if Path(place).name != "thirdparty_files"])
    module = import_module("benchmarks.gpu.interpreter")
    there = {module.normalised(one.metadata["Name"]) for one in brought(module.TORCH)}
    needed = {module.normalised(one.metadata["Name"]) for one in brought(module.packages())}
    assert needed - there <= set(module.packages())
    assert {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().split()} >= set(
        module.packages()
    )


def test_wheels_for_another_python_are_not_unpacked(tmp_path: Path) -> None:
    module = import_module("benchmarks.gpu.interpreter")
    assert not module.fits(tmp_path / "x-1.0-cp27-cp27m-any.whl")
    assert not module.fits(tmp_path / "x-1.0-cp27.py2-none-any.whl")
    assert module.fits(tmp_path / "x-1.0-py2.py3-none-any.whl")
    assert module.fits(tmp_path / "x-1.0-cp310-abi3-manylinux_2_17_x86_64.whl")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("looks", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_without_a_gpu_it_says_so_and_begins_nothing(
    looks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That torch is asked in a process of its own, which imports it for seconds, is seen by the slow tests."""
    if not looks:
        monkeypatch.setattr("benchmarks.gpu.__main__.called", lambda *_: (3, ""))
    with pytest.raises(SystemExit, match=r"^no GPU: torch sees no CUDA device here; only DEVICE=cpu TINY=1 "):
        import_module("benchmarks.gpu.__main__").main(["--out", str(tmp_path / "out")])
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
def test_the_chain_holds_where_there_is_torch_and_a_folder_of_wheels_alone(tmp_path: Path) -> None:
    """Ended in its second step, then repeated: the first is not done again. Nothing of it needs a network."""
    python = interpreter(tmp_path / "venv")
    link(brought(import_module("benchmarks.gpu.interpreter").TORCH), tmp_path / "bare")
    (tmp_path / "wheels").mkdir()
    for name in import_module("benchmarks.gpu.interpreter").packages():
        wheel(distribution(name), tmp_path / "wheels")
    names = {"PYTHON": python, "DEVICE": "cpu", "TINY": 1, "OUT": tmp_path / "out", "WHEELS": tmp_path / "wheels"}
    make = ["make", "-C", str(ROOT), "gpu", "BUDGET=3000", *(f"{name}={value}" for name, value in names.items())]
    options: dict[str, Any] = {"env": variables(tmp_path / "bare"), "text": True}
    with subprocess.Popen(make, stdout=subprocess.PIPE, start_new_session=True, **options) as first:
        assert first.stdout is not None
        for line in first.stdout:
            if line.startswith("gpu: tests: benchmarks/"):
                os.killpg(first.pid, signal.SIGTERM)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["facts.json"]
    facts = (tmp_path / "out" / "facts.json").read_bytes()
    again = subprocess.run(make, capture_output=True, check=False, **options)
    steps = import_module("benchmarks.gpu.steps").all_steps()
    assert f"gpu: {len(steps)} of {len(steps)} steps are done" in again.stdout, again.stdout[-3000:]
    assert again.returncode == 0
    assert "gpu: facts: is there" in again.stdout
    assert (tmp_path / "out" / "facts.json").read_bytes() == facts
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {step.name for step in steps}
    shown = subprocess.run(
        [part for part in make if part != "gpu"] + ["gpu-report"], capture_output=True, check=True, **options
    )
    assert all(f"## {step.name}: " in shown.stdout for step in steps)
    assert "not measured" not in shown.stdout
    assert shown.stdout.count("Its figures mean nothing") == len(steps) + 1
    found = json.loads((tmp_path / "out" / "tests.json").read_text(encoding="utf-8"))["found"]
    assert (found["passed"], found["failed"]) == (0, 0)
    assert found["skipped"] > 50
    assert found["reasons"] == ["fewer than two CUDA devices are visible here", "no CUDA device is visible here"]


def test_steps_are_chosen_by_name_and_an_unknown_name_is_told() -> None:
    main = import_module("benchmarks.gpu.__main__")
    asked = main.parser().parse_args(["--steps", "kmeans,facts"])
    assert [step.name for step in main.chosen(asked)] == ["facts", "kmeans"]
    with pytest.raises(SystemExit, match=r"^--steps: kmean: not among facts, tests, "):
        main.chosen(main.parser().parse_args(["--steps", "kmean"]))

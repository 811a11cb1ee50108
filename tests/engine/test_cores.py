"""How many threads compute: as many as cores are free, as the user says, or as a run was begun with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.records import Heard
from support.training import CPU, StopAfter, StoppedError, planned

from drcli.data.prepared import PreparedDataset
from drcli.engine import cores
from drcli.engine.cores import Sharing, going_on, looking_at, share_out, using
from drcli.engine.device import bfloat16_line
from drcli.engine.run import OTHER_BITS, execute
from drcli.recipe.load import recipe_from_dict
from drcli.recipe.schema import Recipe
from drcli.watch.events import EpochFinished, Event, Listener, Listeners

CUDA = torch.device("cuda")
SHORT = {"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}


@pytest.fixture(autouse=True)
def _nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the user has not set OMP_NUM_THREADS."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def a_machine(monkeypatch: pytest.MonkeyPatch, there: int, free: int | None = None, memory: int = 64) -> None:
    """Cores that torch may use, those of them that are idle, and GiB of memory, of which a process is left 2."""
    monkeypatch.setattr(cores, "cores", lambda: there)
    monkeypatch.setattr(cores, "free", lambda: there if free is None else free)
    monkeypatch.setattr(cores, "memory", lambda: memory * 2**30)


@pytest.mark.parametrize(
    ("asked", "runs", "there", "memory", "expected"),
    [
        (None, 10, 8, 64, Sharing(8, 1)),
        (None, 3, 8, 64, Sharing(3, 2)),
        (None, 10, 8, 9, Sharing(4, 2)),
        (None, 10, 8, 1, Sharing(1, 8)),
        (None, 1, 8, 64, Sharing(1, 8)),
        (None, 10, 1, 64, Sharing(1, 1)),
        (3, 1, 8, 1, Sharing(3, 2)),
        (16, 10, 8, 64, Sharing(16, 1)),
    ],
)
def test_cores_are_shared_out(
    asked: int | None, runs: int, there: int, memory: int, expected: Sharing, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_machine(monkeypatch, there, memory=memory)
    assert share_out(asked, CPU, runs) == expected


def test_gpus_train_one_run_each(monkeypatch: pytest.MonkeyPatch) -> None:
    a_machine(monkeypatch, 12, free=1)  # what is busy is no matter: the runs do not compute there
    for there, expected in ((1, Sharing(1, 12)), (4, Sharing(4, 3))):
        monkeypatch.setattr(torch.cuda, "device_count", lambda there=there: there)
        assert share_out(None, CUDA, 10) == expected
    assert share_out(2, CUDA, 10) == Sharing(2, 6)
    assert str(share_out(1, CUDA, 10)) == "12 threads"


@pytest.mark.parametrize(
    ("free", "runs", "said"),
    [
        (8, 1, "8 threads (8 of 8 cores free)"),
        (3, 1, "3 threads (3 of 8 cores free)"),
        (3, 9, "3 runs at once, with 1 thread each (3 of 8 cores free)"),
        (1, 9, "1 thread (1 of 8 cores free)"),
    ],
)
def test_what_is_busy_is_left_alone_and_said(free: int, runs: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    a_machine(monkeypatch, 8, free)
    found = share_out(None, CPU, runs)
    assert (str(found), found.asked) == (said, None)


@pytest.mark.parametrize(
    ("jobs", "runs", "expected"), [(None, 1, Sharing(1, 3)), (None, 9, Sharing(2, 3)), (5, 9, Sharing(5, 3))]
)
def test_threads_that_are_asked_for_decide(
    jobs: int | None, runs: int, expected: Sharing, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_machine(monkeypatch, 8, free=7)
    found = share_out(jobs, CPU, runs, 3)
    assert (found, found.asked) == (expected, 3)


def test_the_environment_variable_decides_whatever_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    a_machine(monkeypatch, 2, free=1)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    found = share_out(None, CPU, 1)
    assert (str(found), found.asked) == ("2 threads (OMP_NUM_THREADS=2)", 2)


def test_no_more_cores_are_used_than_threads_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert cores.cores() == 1


def load(*idle: int, ticks: int = 100) -> str:
    """What the kernel tells of cores that were idle for so many ticks."""
    lines = [f"cpu{core} {ticks - free} 0 0 {free} 0 0 0 0 0 0" for core, free in enumerate(idle)]
    return "\n".join(["cpu  1 2 3 4 5 6 7 8 0 0", *lines, "intr 1", ""])


@pytest.mark.parametrize(
    ("idle", "allowed", "expected"),
    [
        ((100, 100, 100, 100), {0, 1, 2, 3}, 4),
        ((10, 100, 100, 90), {0, 1, 2, 3}, 3),
        ((0, 60, 60, 40), {0, 1, 2, 3}, 2),
        ((0, 0, 10, 0), {0, 1, 2, 3}, 1),
        ((0, 0, 100, 100), {0, 1}, 1),
        ((0, 0, 100, 100), {2, 3}, 2),
    ],
)
def test_a_core_is_free_as_far_as_it_was_idle(
    idle: tuple[int, ...], allowed: set[int], expected: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ticks that were idle of 100, by core; of those that the process may use, together and rounded, at least one."""
    told = tmp_path / "stat"
    told.write_text(load(*[0] * len(idle), ticks=0), encoding="ascii")
    monkeypatch.setattr(cores, "LOAD", told)
    monkeypatch.setattr(cores, "allowed", lambda: len(allowed))
    monkeypatch.setattr(cores, "_affinity", lambda: frozenset(allowed))
    monkeypatch.setattr(time, "sleep", lambda _: told.write_text(load(*idle), encoding="ascii"))
    assert cores.free.__wrapped__() == expected


@pytest.mark.parametrize("told", [None, "cpu0 1 2\n", "cpu0 not a number\n", ""])
def test_where_the_system_does_not_tell_all_cores_are_free(
    told: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if told is not None:
        (tmp_path / "stat").write_text(told, encoding="ascii")
    monkeypatch.setattr(cores, "LOAD", tmp_path / "stat")
    monkeypatch.setattr(cores, "allowed", lambda: 4)
    monkeypatch.setattr(cores, "WATCHED", 0.0)
    assert cores.free.__wrapped__() == 4


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("", {}, 6),
        ("", {"cpu.max": "200000 100000\n"}, 2),
        ("", {"cpu.max": "max 100000\n"}, 6),
        ("", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/a.slice/b\n", {"a.slice/cpu.max": "300000 100000\n", "a.slice/b/cpu.max": "max 100000\n"}, 3),
        (
            "5:cpuset:/x\n4:cpu,cpuacct:/x\n",
            {"cpu/x/cpu.cfs_quota_us": "150000", "cpu/x/cpu.cfs_period_us": "50000"},
            3,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 6),
    ],
)
def test_a_container_or_service_may_grant_fewer_cores(
    own: str, files: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Six cores; both versions of control groups, at the root, as a container sees its own, and above the process's."""
    for name, text in {"own": own, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="ascii")
    monkeypatch.setattr(cores, "GROUPS", tmp_path)
    monkeypatch.setattr(cores, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(cores, "_affinity", lambda: frozenset(range(6)))
    assert cores.allowed() == expected


def test_sharing_is_said_in_words() -> None:
    assert str(Sharing(4, 1)) == "4 runs at once, with 1 thread each"
    assert str(Sharing(2, 3)) == "2 runs at once, with 3 threads each"
    assert str(Sharing(1, 1)) == "1 thread"


@pytest.mark.parametrize(
    ("begun", "asked", "expected"), [(None, None, 1), (3, None, 3), (3, 2, 2), (9, None, 1), (9, 2, 2)]
)
def test_a_run_goes_on_as_it_was_begun_if_the_user_and_the_machine_let_it(
    begun: int | None, asked: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch has one thread, the machine four cores."""
    monkeypatch.setattr(cores, "allowed", lambda: 4)
    with using(1):
        assert going_on(begun, asked) == expected


class Threads(Listener):
    """How many threads torch has at the end of each epoch."""

    def __init__(self) -> None:
        self.found: set[int] = set()

    def on(self, event: Event) -> None:
        if isinstance(event, EpochFinished):
            self.found.add(torch.get_num_threads())


@pytest.mark.parametrize(
    ("asked", "expected", "note"),
    [
        (None, 1, "goes on with 1 thread, as it was begun"),
        (2, 2, f"was begun with 1 thread, goes on with 2; {OTHER_BITS}"),
    ],
)
def test_a_stopped_run_keeps_its_threads_and_what_looks_at_it_takes_them(
    asked: int | None,
    expected: int,
    note: str,
    toy_recipe: Callable[..., Recipe],
    toy_dataset: PreparedDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cores, "allowed", lambda: 2)
    run = planned(toy_recipe(method="joint", training=SHORT), tmp_path / "run")
    with pytest.raises(StoppedError), using(1):
        execute(run, toy_dataset, device=CPU, listener=StopAfter(1))
    heard, threads = Heard(), Threads()
    with using(2):
        execute(run, toy_dataset, device=CPU, listener=Listeners(heard, threads), threads=asked)
        assert threads.found == {expected}
        assert torch.get_num_threads() == 2
        assert heard.notes == [f"{run.folder}: {note}"]
        for path in (run.folder, run.folder / "checkpoint.pt"):
            with looking_at(path, None, CPU):
                assert torch.get_num_threads() == 1
        with looking_at(run.folder, 2, CPU):
            assert torch.get_num_threads() == 2


def test_what_is_no_run_is_looked_at_with_the_cores_that_are_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_machine(monkeypatch, 4, free=2)
    with looking_at(tmp_path / "features.npz", None, CPU):
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("instructions", "backbone", "precision", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "resnet_small", "auto", "amx_bf16"),
        ({"amx_bf16": False, "avx512_bf16": True}, "resnet18", "auto", "avx512_bf16"),
        ({"avx2": True}, "resnet_small", "auto", None),
        ({"avx512_bf16": True}, "resnet_small", "fp32", None),
        ({"avx512_bf16": True}, "resnet_small", "bf16", None),
        ({"avx512_bf16": True}, "mlp", "auto", None),
    ],
)
def test_bfloat16_is_offered_where_it_pays(
    instructions: dict[str, bool],
    backbone: str,
    precision: str,
    expected: str | None,
    toy_dict: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    blocks = {
        "modalities": {m: {"backbone": backbone} for m in ("audio", "visual")},
        "method": "joint",
        "training": {**SHORT, "precision": precision},
    }
    recipe = recipe_from_dict({**toy_dict(), **blocks}, where="the test's recipe")
    line = f"this processor has {expected}: training.precision=bf16 is faster by a quarter or more, with other results"
    assert bfloat16_line(CPU, [recipe]) == (line if expected else None)
    assert bfloat16_line(CUDA, [recipe]) is None

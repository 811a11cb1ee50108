"""`drcli prepare --engine ray`: the bytes of one process, and one message for whatever goes wrong."""

from __future__ import annotations

import json
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.command_line import Drcli, Refused, start, tree
from support.many import Source, make_source

from data_prep.writing.shards import Shard, shards_folder
from drcli.commands.prepare_ray import number_of_parts
from drcli.names import DATASETS

PROGRAM = """
import os
import signal

import ray
from drcli.__main__ import main
from support.ray_workers import register_many

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    paths = {"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}, "worker_process_setup_hook": register_many}
    options = {"num_gpus": 0, "include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    for _ in range(3):  # of a busy machine, Ray says that its node did not start in time
        try:
            ray.init(address="local", num_cpus=2, runtime_env=paths, **options)
            break
        except Exception:
            ray.shutdown()
    register_many()
    main()
"""


class LostError(Exception):
    """Stands for Ray's own error."""


class Cluster:
    """Stands for the package: tasks are done where they are handed over, and come back as bytes, as from a worker."""

    exceptions = SimpleNamespace(RayError=LostError, RayTaskError=type("RayTaskError", (LostError,), {}))

    def __init__(self) -> None:
        self.cores = [2.0, 1.0]
        self.parts: list[str] = []
        self.lost: set[str] = set()
        self.cancelled = 0
        self.started = False

    def is_initialized(self) -> bool:
        return self.started

    def init(self, **_: object) -> None:
        self.started = True

    def shutdown(self) -> None:
        self.started = False

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": count}} for count in self.cores] + [{"Alive": False}]

    def remote(self, function: Any) -> Any:
        def submit(request: Any, origin: Any) -> tuple[str, bytes]:
            self.parts.append(request.shard)
            return request.shard, pickle.dumps(function(*pickle.loads(pickle.dumps((request, origin)))))

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=submit))

    def wait(self, tasks: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return (tasks[:1], tasks[1:]) if timeout else ([], tasks)

    def get(self, task: tuple[str, bytes]) -> Any:
        if task[0] in self.lost:
            raise LostError("the node is gone\nand more")
        return pickle.loads(task[1])

    def cancel(self, _: object, force: bool) -> None:
        assert force
        self.cancelled += 1


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Three cores on two nodes, and the dataset "many"."""
    made = Cluster()
    monkeypatch.setitem(sys.modules, "ray", made)
    with DATASETS.registered("many", "support.many:Many"):
        yield made


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return make_source(tmp_path / "source", broken="c00 c13")


@pytest.fixture
def asked(tmp_path: Path, source: Source) -> list[object]:
    """The command that prepares "many" into `tmp_path`/out."""
    recipe = {
        "name": "many",
        "dataset": {"name": "many", "root": str(tmp_path / "out")},
        "modalities": {"audio": {"backbone": "resnet_small", "width": 4}},
        "method": "joint",
        "methods": {"joint": {}},
        "training": {"epochs": 1, "batch_size": 4, "optimizer": {"name": "sgd", "lr": 0.1}},
    }
    (tmp_path / "many.yaml").write_text(json.dumps(recipe))
    return ["prepare", tmp_path / "many.yaml", "--source", source.folder, "--max-bad", "50%", "--engine", "ray"]


def test_the_bytes_are_those_of_one_process(
    cluster: Cluster, asked: list[object], source: Source, tmp_path: Path, drcli: Drcli
) -> None:
    source.prepare(tmp_path / "whole", max_bad=0.5)
    found = json.loads(drcli(*asked, "--json").stdout)
    assert cluster.parts == ["1/3", "2/3", "3/3"]  # one for each core
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    assert found["root"] == str(tmp_path / "out")
    assert not shards_folder(tmp_path / "out").exists()
    assert not cluster.started
    drcli(*asked)  # it is there
    assert len(cluster.parts) == 3


@pytest.mark.parametrize(
    ("workers", "cores", "begun", "parts"),
    [
        (None, [2.0, 1.0], None, 3),
        (None, [16.0], None, 4),  # a split has 4 clips
        (2, [16.0], None, 2),
        (9, [1.0], None, 4),
        (None, [16.0], "2/3", 3),
        (3, [16.0], "2/3", 3),
    ],
)
def test_there_are_as_many_parts_as_workers_or_cores_and_no_more_than_a_split_has_clips(
    workers: int | None, cores: list[float], begun: str | None, parts: int, tmp_path: Path
) -> None:
    if begun is not None:
        Shard.parse(begun).folder(tmp_path / "out").mkdir(parents=True)
    nodes: list[dict[str, float]] = [*({"CPU": count} for count in cores), {"GPU": 1.0}]
    assert number_of_parts(tmp_path / "out", workers, 4, nodes) == parts


def test_a_part_that_fails_is_named_ends_the_others_and_all_go_on_from_there(
    cluster: Cluster, asked: list[object], source: Source, tmp_path: Path, refused: Refused, drcli: Drcli
) -> None:
    make_source(source.folder, deadly="c10")  # the first part of three has it
    assert refused(*asked, code=1) == "part 1/3: disk gone\n"
    assert cluster.cancelled == 2
    assert not cluster.started
    make_source(source.folder)
    done = set(source.calls())
    cluster.cores = [8.0]
    drcli(*asked)
    assert cluster.parts[3:] == ["1/3", "2/3", "3/3"]  # as was begun, though there are more cores now
    assert done & set(source.calls()) == {"c10"}
    source.prepare(tmp_path / "whole")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_parts_of_another_number_are_not_thrown_away(
    cluster: Cluster, asked: list[object], source: Source, tmp_path: Path, refused: Refused
) -> None:
    source.shard(tmp_path / "out", "2/4", max_bad=0.5)
    message = refused(*asked, "--workers", "2", code=2)
    assert message == (
        f"{tmp_path / 'out'}.shards: has parts of 4, where 2 are to be made; go on with those by --workers 4, or "
        "delete them\n"
    )
    assert cluster.parts == []


def test_a_part_that_ray_gave_up_is_named(cluster: Cluster, asked: list[object], refused: Refused) -> None:
    cluster.lost = {"2/3"}
    message = refused(*asked, code=1)
    assert message == "part 2/3: Ray gave up on it (the node is gone); repeat the same command to resume\n"
    assert cluster.cancelled == 1


def test_a_cluster_without_a_core_is_refused(cluster: Cluster, asked: list[object], refused: Refused) -> None:
    cluster.cores = [0.0]
    assert "no node of the cluster has a core" in refused(*asked, code=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--engine", "rya"), "--engine rya: must be local or ray\n"),
        (("--address", "auto"), "--address auto: belongs to --engine ray; add that, or leave it out\n"),
        (("--engine", "ray", "--shard", "1/2"), "--engine ray makes all parts and joins them; leave out --shard, "),
        (("--engine", "ray", "--merge"), "--engine ray makes all parts and joins them; leave out --shard, "),
        (("--engine", "ray"), "dataset 'digits' is not made clip by clip; leave out --shard, --merge and --engine "),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: tuple[str, ...], message: str, cluster: Cluster, refused: Refused
) -> None:
    assert refused("prepare", "digits", *options, code=2).startswith(message)
    assert not cluster.started


def test_without_ray_the_remedy_is_named(
    asked: list[object], refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    message = refused("prepare", "digits", "--engine", "ray", code=2)
    assert message == "--engine ray: Ray is not installed; run pip install 'drcli[cluster]'\n"


@pytest.mark.slow
def test_stopped_on_a_real_cluster_and_repeated_the_bytes_are_those_of_one_process(
    asked: list[object], source: Source, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'drcli[cluster]'")
    source.prepare(tmp_path / "whole", max_bad=0.5)
    source.calls()
    make_source(source.folder, broken="c00 c13", seconds=0.5)
    stopped = start(*asked, program=PROGRAM)
    limit = time.monotonic() + 150
    while stopped.poll() is None and not (source.folder / "calls").exists() and time.monotonic() < limit:
        time.sleep(0.05)
    stopped.send_signal(signal.SIGINT)
    _, stderr = stopped.communicate(timeout=60)
    assert stopped.returncode == 130, stderr
    assert stderr.endswith(
        "drcli: stopped; clips that are done are not decoded again. Repeat the same command to resume\n"
    )
    assert not (tmp_path / "out").exists()
    assert len(source.calls()) < 20
    make_source(source.folder, broken="c00 c13")
    going_on = start(*asked, program=PROGRAM)
    _, stderr = going_on.communicate(timeout=200)
    assert going_on.returncode == 0, stderr
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.slow
def test_a_part_that_fails_on_a_real_cluster_is_named(asked: list[object], source: Source) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'drcli[cluster]'")
    make_source(source.folder, broken="c00 c02 c06")  # three of the ten clips of one part, none of the other's
    process = start(*asked[:-4], "--max-bad", "20%", "--engine", "ray", program=PROGRAM)
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == 3, stderr
    assert "drcli: part 1/2: 3 of 10 clips cannot be used, more than the 20 % of --max-bad: c0" in stderr

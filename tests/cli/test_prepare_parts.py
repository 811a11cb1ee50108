from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command_line import Drcli, tree
from support.kinetics_tree import CLASSES, make_kinetics

from data_prep.writing.shards import shards_folder


@pytest.mark.slow
def test_the_commands_prepare_parts_join_them_and_verify(drcli: Drcli, tmp_path: Path) -> None:
    make_kinetics(tmp_path / "ks", counts={"train": 3, "val": 2, "test": 2})
    small = ["dataset.prepare.frame_size=[32, 43]", f"dataset.prepare.classes={json.dumps(CLASSES)}"]
    common = ["prepare", "kinetics_sounds", *small, f"dataset.root={tmp_path / 'data'}"]
    source = ["--source", tmp_path / "ks"]
    for part, clips in (("1/2", 11), ("2/2", 10)):
        found = json.loads(drcli(*common, *source, "--shard", part, "--json").stdout)
        assert (found["shard"], found["stored"], found["skipped"]) == (part, clips, {})
    merged = json.loads(drcli(*common, *source, "--merge", "--json").stdout)
    assert not shards_folder(tmp_path / "data").exists()
    drcli(*common[:-1], f"dataset.root={tmp_path / 'whole'}", *source)
    assert tree(tmp_path / "data") == tree(tmp_path / "whole")
    assert json.loads(drcli(*common, "--verify", "--json").stdout)["fingerprint"] == merged["fingerprint"]
    path = tmp_path / "data" / "test" / "visual.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    assert "truncated or altered" in drcli(*common, "--verify", code=3).stderr
    assert "not made clip by clip" in drcli("prepare", "digits", "--shard", "1/2", code=2).stderr
    assert "give one of them" in drcli("prepare", "digits", "--shard", "1/2", "--merge", code=2).stderr

"""What `drcli prepare` adds for downloads of clips: --max-bad, --split-dir, going on after an error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command_line import Drcli, Refused
from support.cremad_tree import make_cremad, make_lists

from drcli.commands.prepare import parse_share
from drcli.errors import UsageError

pytest.importorskip("av", reason="av comes with drcli[media]")

SMALL = ("dataset.prepare.frames=2", "dataset.prepare.frame_size=[32, 40]")


@pytest.mark.parametrize(
    ("text", "share"), [("1%", 0.01), ("0.01", 0.01), (" 2.5 % ", 0.025), ("0", 0.0), ("100%", 1.0)]
)
def test_a_share_is_written_in_percent_or_as_a_fraction(text: str, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["5", "101%", "-1%", "few", "", "nan", "1%%"])
def test_a_share_outside_its_range_is_bad_usage(text: str) -> None:
    with pytest.raises(UsageError, match=r"--max-bad is .*; write a share such as 1% or 0\.01"):
        parse_share(text)


def test_bad_clips_stop_the_command_and_a_larger_share_goes_on(drcli: Drcli, refused: Refused, tmp_path: Path) -> None:
    source = tmp_path / "clone"
    make_lists(source / "lists", make_cremad(source))
    (source / "VideoFlash" / "1001_IEO_SAD_XX.flv").write_text("lost\n")
    arguments = ("prepare", "cremad", *SMALL, "--source", source, "--out", tmp_path / "out")
    message = refused(*arguments, "--split-dir", source / "lists", code=3)
    assert "1 of 30 clips cannot be used" in message
    assert "1001_IEO_SAD_XX: unreadable" in message
    result = drcli(*arguments, "--split-dir", source / "lists", "--max-bad", "5%", "--json")
    done = json.loads(result.stdout)
    assert done["rows"] == {"train": 17, "val": 6, "test": 6}
    assert done["settings"]["split_dir"] == str(source / "lists")
    assert "skipped 1001_IEO_SAD_XX: unreadable" in result.stderr
    assert "going on after" in result.stderr


def test_a_dataset_without_lists_refuses_split_dir(refused: Refused, tmp_path: Path) -> None:
    message = refused("prepare", "digits", "--split-dir", tmp_path, "--out", tmp_path / "out", code=2)
    assert "dataset.prepare.split_dir" in message

"""What `drcli prepare` adds for downloads of clips: --max-bad, --split-dir, resuming after an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.command_line import Drcli, Refused
from support.cremad_tree import make_cremad, make_lists
from support.media import make_wav, tone

from drcli.commands.prepare import parse_share
from drcli.errors import UsageError

av = pytest.importorskip("av", reason="av comes with drcli[media]")

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
    assert "resuming after" in result.stderr


def test_one_bad_clip_of_each_kind_is_skipped_and_one_odd_clip_is_listed(drcli: Drcli, tmp_path: Path) -> None:
    source = tmp_path / "clone"
    names = make_cremad(source)
    make_lists(source / "lists", names)
    sounds, videos = source / "AudioWAV", source / "VideoFlash"
    make_wav(sounds / f"{names[0]}.wav", np.zeros(20000))
    with_field(sounds / f"{names[1]}.wav", 24, (1).to_bytes(4, "little"))  # its rate
    values = np.round(9000 * tone(1.3, 16000, amplitude=1.0)).astype(np.float32)
    write_floats(sounds / f"{names[2]}.wav", values)
    (videos / f"{names[3]}.flv").write_bytes((videos / f"{names[3]}.flv").read_bytes()[:900])
    arguments = ("prepare", "cremad", *SMALL, "--source", source, "--split-dir", source / "lists", "--max-bad", "10%")
    result = drcli(*arguments, "--out", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "dataset.json").read_text())["source"]
    reasons = {clip["id"]: clip["reason"] for clip in found["skipped"]}
    assert reasons == {names[1]: "absurd rate", names[2]: "out of range", names[3]: "corrupt"}
    assert found["findings"] == {"silent sound": {names[0]: 1}}
    assert f"silent sound: 1 of 27 stored clips ({names[0]})" in " ".join(result.stderr.split())


def with_field(path: Path, place: int, value: bytes) -> None:
    """Replace bytes of a file."""
    content = bytearray(path.read_bytes())
    content[place : place + len(value)] = value
    path.write_bytes(bytes(content))


def write_floats(path: Path, samples: NDArray[np.float32]) -> None:
    """A WAV of 32-bit floating-point numbers at 16 kHz."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("pcm_f32le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
        frame.sample_rate = 16000
        output.mux(stream.encode(frame))


def test_a_dataset_without_lists_refuses_split_dir(refused: Refused, tmp_path: Path) -> None:
    message = refused("prepare", "digits", "--split-dir", tmp_path, "--out", tmp_path / "out", code=2)
    assert "dataset.prepare.split_dir" in message

"""Frame k of a clip is what is given for its time, whatever its container says of times and counts."""

from __future__ import annotations

from importlib import import_module
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from support.genuine import in_order
from support.media import cut, frame_number, make_packed, make_video, scramble

from data_prep.media import ClipError, read_frames
from data_prep.media.container import open_media, video_stream
from data_prep.media.decoding import Decoding, OutOfOrderError
from data_prep.media.flow import constant_flow
from data_prep.sources.ucf101_clips import Reader, frame_numbers

SIZE = (48, 64)
# Clips, and how many pictures a decoder hands out; what their headers say may differ.
GENUINE = {
    "media/mmaction2_test.avi": 164,
    "media/mmaction2_part_0.mp4": 32,
    "media/mmaction2_demo_spatiotemporal_det.mp4": 57,
    "media/decord_flipping_a_pancake.mkv": 310,
    "hmdb51/hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": 83,
    "ucf101/v_BaseballPitch_g01_c01.avi": 107,
    "ucf101/v_SoccerJuggling_g23_c01.avi": 240,
    "kinetics/R6llTwEh07w.mp4": 303,
    "kinetics/SOX5yA1l24A.mp4": 332,
    "vggsound/0f0Rq7e5yX8_000160.mp4": 302,
    "vggsound/M1pPtg6a_g8_000230.mp4": 300,
    "vggsound/MnEZwnRuQR8_000030.mp4": 300,
    "cremad/VideoFlash/1001_DFA_ANG_XX.flv": 67,
    "cremad/VideoFlash/1001_DFA_DIS_XX.flv": 70,
    "cremad/VideoFlash/1001_DFA_FEA_XX.flv": 65,
    "cremad/VideoFlash/1001_DFA_HAP_XX.flv": 56,
    "cremad/VideoFlash/1001_DFA_NEU_XX.flv": 61,
    "cremad/VideoFlash/1001_DFA_SAD_XX.flv": 60,
}
# Its last picture is shown a frame late: the file leaves the time of frame 31 empty.
LATE = {("media/mmaction2_part_0.mp4", 31): 32}
# These repeat pictures themselves.
REPEATED = {"media/decord_flipping_a_pancake.mkv": 4, "vggsound/0f0Rq7e5yX8_000160.mp4": 2} | {
    "vggsound/M1pPtg6a_g8_000230.mp4": 20
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if k % 3 else []) for k, name in enumerate(GENUINE)]
)
def test_frame_k_of_a_genuine_clip_is_given_for_its_time(shared: Path, name: str) -> None:
    path = shared / "data" / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    expected, rate = in_order(path, SIZE)
    times = [(LATE.get((name, k), k) + 0.5) / rate for k in range(len(expected))]
    found = read_frames(path, times, size=SIZE)
    wrong = [k for k in range(len(expected)) if not np.array_equal(found.pixels[k], expected[k])]
    assert (len(expected), wrong, found.bad_packets) == (GENUINE[name], [], 0)
    repeated = sum(np.array_equal(before, after) for before, after in pairwise(found.pixels))
    assert repeated == sum(np.array_equal(before, after) for before, after in pairwise(expected))
    if name not in REPEATED:
        assert repeated == 0


def test_the_flow_of_a_genuine_clip_with_packed_pictures_is_nowhere_constant(shared: Path) -> None:
    path = shared / "data" / "media" / "mmaction2_test.avi"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    taken = Reader(10, (64, 85), "dis").take("ApplyEyeMakeup", "v_ApplyEyeMakeup_g01_c01", path)
    assert constant_flow(taken.flow) == {}
    assert not (taken.rgb[:, None] == taken.rgb[None]).all(axis=(2, 3, 4))[~np.eye(10, dtype=bool)].any()


@pytest.mark.parametrize("lag", [False, True])
@pytest.mark.parametrize("name", ["a.avi", "a.mkv", "a.mp4"])
def test_packed_pictures_are_found_at_their_times(tmp_path: Path, name: str, lag: bool) -> None:
    path = make_packed(tmp_path / "packed.avi", count=25, lag=lag)
    if name != "a.avi":
        path = remux(path, tmp_path / name)
    with open_media(path) as container, pytest.raises(OutOfOrderError):
        list(Decoding(container, video_stream(container)).frames())
    whole = read_frames(path, lambda seconds: [(k + 0.5) / 25 for k in range(round(25 * seconds))], size=SIZE)
    assert [frame_number(picture) for picture in whole.pixels] == list(range(25))
    alone = [read_frames(path, [(k + 0.5) / 25], size=SIZE).pixels[0] for k in range(25)]
    assert [frame_number(picture) for picture in alone] == list(range(25))


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "1"}, {"bf": "3", "g": "20"}])
def test_reordered_pictures_in_avi_are_found_at_their_times(
    tmp_path: Path, codec: str, options: dict[str, str]
) -> None:
    path = make_video(tmp_path / "a.avi", codec=codec, seconds=1.2, options=options)
    found = read_frames(path, lambda seconds: [(k + 0.5) / 25 for k in range(round(25 * seconds))], size=SIZE)
    assert [frame_number(picture) for picture in found.pixels] == list(range(30))


def remux(path: Path, target: Path) -> Path:
    """The same packets in another container."""
    with av.open(str(path)) as source, av.open(str(target), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    return target


@pytest.mark.parametrize("lag", [False, True])
def test_the_next_frame_of_a_packed_clip_is_another_picture(tmp_path: Path, lag: bool) -> None:
    path = make_packed(tmp_path / "a.avi", count=25, lag=lag)
    reader = Reader(12, SIZE, "dis")
    shown, bad = reader._decoded(path)
    first = frame_numbers(25, 12)
    assert [frame_number(picture) for picture in shown] == [*first, *(number + 1 for number in first)]
    assert bad == 0


@pytest.mark.parametrize(("size", "value"), [(40, 0xFF), (60, 0x55)])
def test_pictures_that_damage_hits_in_a_packed_clip_are_refused(tmp_path: Path, size: int, value: int) -> None:
    path = make_packed(tmp_path / "a.avi", count=39, size=(96, 128))
    content = bytearray(path.read_bytes())
    chunks = [place for place in places(bytes(content), b"00dc") if place < content.index(b"idx1")]
    place = chunks[19] + 8 + 20  # inside picture 20, with which 19 is packed
    content[place : place + size] = bytes([value]) * size
    path.write_bytes(bytes(content))
    refused = {k for k in range(39) if shown(path, k) is None}
    assert refused == {19, 20}
    assert [shown(path, k) for k in (0, 18, 22, 38)] == [0, 18, 22, 38]


def shown(path: Path, number: int) -> int | None:
    """The number of the picture at the time of a frame; None where it is refused."""
    try:
        return frame_number(read_frames(path, [(number + 0.5) / 25], size=SIZE).pixels[0])
    except ClipError as error:
        if "did not decode" not in error.detail:
            raise
        return None


def places(content: bytes, name: bytes) -> list[int]:
    """Where a name begins."""
    return [place for place in range(len(content)) if content.startswith(name, place)]


def test_an_avi_that_lost_chunks_is_corrupt_since_the_times_of_the_others_are_unknown(tmp_path: Path) -> None:
    path = scramble(make_packed(tmp_path / "a.avi", count=39, size=(96, 128)), 0.8, 0.83)
    with pytest.raises(ClipError, match="4 of 39 chunks of pictures are not where they should be"):
        read_frames(path, [0.5 / 25], size=SIZE)


def test_a_packed_clip_cut_short_lacks_its_last_times(tmp_path: Path) -> None:
    path = cut(make_packed(tmp_path / "a.avi", count=99, size=(96, 128)), 0.5)
    assert frame_number(read_frames(path, [0.5 / 25], size=SIZE).pixels[0]) == 0
    with pytest.raises(ClipError, match="is missing, the video ends at"):
        read_frames(path, lambda seconds: [seconds - 0.01], size=SIZE)


@pytest.mark.parametrize("stated", [1, 10, 33, 2**31 - 1])
def test_frames_are_counted_whatever_an_avi_header_says(tmp_path: Path, stated: int) -> None:
    path = make_video(tmp_path / "a.avi", codec="mpeg4", tag="XVID", seconds=1.0)
    content = bytearray(path.read_bytes())
    for place in (content.index(b"avih") + 8 + 16, content.index(b"strh") + 8 + 32):
        content[place : place + 4] = stated.to_bytes(4, "little")
    path.write_bytes(bytes(content))
    found = read_frames(path, lambda seconds: [(k + 0.5) / 25 for k in range(round(25 * seconds))], size=SIZE)
    assert [frame_number(picture) for picture in found.pixels] == list(range(25))


def test_pictures_that_an_edit_list_leaves_out_do_not_count(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=1.2, options={"bf": "0"})  # 30 frames
    content = bytearray(path.read_bytes())
    place = content.index(b"elst") + 4 + 8  # after version and number of entries: duration, time in the track
    step = 512
    assert int.from_bytes(content[place + 4 : place + 8], "big") == 0
    content[place + 4 : place + 8] = (5 * step).to_bytes(4, "big")
    content[place : place + 4] = (1000).to_bytes(4, "big")  # milliseconds
    path.write_bytes(bytes(content))
    with av.open(str(path)) as container:
        assert (container.streams.video[0].frames, sum(1 for _ in container.decode(video=0))) == (30, 25)
    found = read_frames(path, lambda seconds: [(k + 0.5) / 25 for k in range(round(25 * seconds))], size=SIZE)
    assert [frame_number(picture) for picture in found.pixels] == list(range(5, 30))


@pytest.mark.parametrize("lag", [False, True])
def test_the_benchmark_of_pictures_counts_none_wrong(
    tmp_path: Path, lag: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2])
    pictures = import_module("benchmarks.pictures")
    path = make_packed(tmp_path / "a.avi", count=25, lag=lag)
    assert pictures.clips([tmp_path]) == [path]
    assert pictures.count(path) == (25, 0, 0, 0)


def test_constant_flow_is_counted_by_pairs() -> None:
    flow = np.full((4, 2, 3, 5), 128, np.uint8)
    flow[1, 0, 2, 4] = 129
    flow[3] = 127
    assert constant_flow(flow) == {"constant flow": 3}
    assert constant_flow(flow[1:2]) == {}

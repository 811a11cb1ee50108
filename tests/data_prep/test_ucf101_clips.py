from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from support.media import frame_number, make_video
from support.ucf101_tree import SIZE, make_flow_archive, moving_texture, video_name, write_avi

from data_prep.media import ClipError
from data_prep.media.flow import dequantise, quantise
from data_prep.sources.image_folders import find_flow, find_pictures, read_image
from data_prep.sources.ucf101_clips import Reader, fit_flow, frame_numbers


def test_positions_are_the_centres_of_equal_segments() -> None:
    assert frame_numbers(100, 10) == [5, 15, 25, 35, 45, 55, 65, 75, 85, 95]
    assert frame_numbers(29, 10) == [1, 4, 7, 10, 13, 15, 18, 21, 24, 27]
    assert frame_numbers(4, 3) == [0, 2, 2]  # 3 has no frame after it
    for count in (0, 1):
        with pytest.raises(ClipError, match="too short"):
            frame_numbers(count, 10)


@pytest.mark.parametrize("options", [{}, {"bf": "2", "g": "5"}])
def test_the_frames_at_the_positions_are_taken(tmp_path: Path, options: dict[str, str]) -> None:
    path = make_video(tmp_path / "a.avi", seconds=1.2, codec="mpeg4", tag="XVID", options=options)  # 30 frames
    taken = Reader(10, (48, 64), "dis").take("A", "a", path)
    assert [frame_number(picture) for picture in taken.rgb] == frame_numbers(30, 10)
    assert taken.bad_packets == 0


@pytest.mark.parametrize("motion", [(2, 0), (0, -1), (-1, 2)])
def test_flow_is_the_motion_to_the_next_frame_in_pixels(tmp_path: Path, motion: tuple[int, int]) -> None:
    path = write_avi(tmp_path / "a.avi", moving_texture(12, motion, size=(96, 128)))
    taken = Reader(4, (96, 128), "dis").take("A", "a", path)
    assert taken.flow.shape == (4, 2, 96, 128)
    assert taken.flow.dtype == np.uint8
    inside = dequantise(taken.flow)[:, :, 16:-16, 16:-16]
    np.testing.assert_allclose(np.median(inside, axis=(2, 3)), np.tile(motion, (4, 1)), atol=0.3)


def test_pictures_come_from_extracted_ones_as_from_the_clip(tmp_path: Path) -> None:
    frames = moving_texture(12, (1, 1))
    path = write_avi(tmp_path / "a.avi", frames)
    folder = tmp_path / "jpegs_256" / "a"
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, start=1):
        cv2.imwrite(str(folder / f"frame{number:06d}.jpg"), frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
    decoded = Reader(3, SIZE, "dis").take("A", "a", path)
    extracted = Reader(3, SIZE, "dis", pictures=find_pictures(tmp_path)).take("A", "a", None)
    difference = decoded.rgb.astype(int) - extracted.rgb
    assert np.abs(difference).mean() < 8  # MPEG-4 loses more than JPEG
    assert extracted.flow.shape == (3, 2, *SIZE)


def test_imported_flow_of_the_wanted_size_is_kept_byte_for_byte(tmp_path: Path) -> None:
    archive = make_flow_archive(tmp_path / "flow", classes=("YoYo",))
    video = video_name("YoYo", 8)
    path = write_avi(tmp_path / "a.avi", moving_texture(12, (1, 0)))
    taken = Reader(3, SIZE, "tvl1", flow=find_flow(archive)).take("YoYo", video, path)
    assert taken.rgb.shape == (3, 3, *SIZE)
    for position, number in enumerate(frame_numbers(12, 3)):
        image = read_image(archive / "v" / video / f"frame{number + 1:06d}.jpg", grey=True)
        np.testing.assert_array_equal(taken.flow[position, 1], image)


def test_imported_flow_of_another_size_counts_pixels_of_the_wanted_one() -> None:
    stored = quantise(np.array([8.0, -4.0], np.float32))
    u, v = (np.full((48, 64), value, np.uint8) for value in stored)
    fitted = dequantise(fit_flow(u, v, (24, 64)))
    assert fitted.shape == (2, 24, 64)
    np.testing.assert_allclose(fitted.mean(axis=(1, 2)), [8.0, -2.0], atol=0.1)
    with pytest.raises(ClipError, match=r"flow images of \(48, 64\) and \(24, 64\) pixels"):
        fit_flow(u, v[:24], (24, 64))


def test_directions_of_different_lengths_are_reported(tmp_path: Path) -> None:
    archive = make_flow_archive(tmp_path / "flow", classes=("YoYo",))
    video = video_name("YoYo", 8)
    (archive / "v" / video / "frame000011.jpg").unlink()
    path = write_avi(tmp_path / "a.avi", moving_texture(12, (1, 0)))
    with pytest.raises(ClipError, match="11 horizontal and 10 vertical flow images"):
        Reader(3, SIZE, "tvl1", flow=find_flow(archive)).take("YoYo", video, path)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_shortest_clips(tmp_path: Path, count: int) -> None:
    path = write_avi(tmp_path / "a.avi", moving_texture(count, (1, 0)))
    if count == 1:
        with pytest.raises(ClipError, match="1 frames, and flow needs two"):
            Reader(2, SIZE, "dis").take("A", "a", path)
    else:
        assert Reader(2, SIZE, "dis").take("A", "a", path).rgb.shape == (2, 3, *SIZE)


def test_a_genuine_clip_gives_pictures_and_flow(shared: Path) -> None:
    path = shared / "data" / "media" / "mmaction2_test.avi"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    taken = Reader(10, (64, 85), "dis").take("ApplyEyeMakeup", "v_ApplyEyeMakeup_g01_c01", path)
    assert taken.rgb.shape == (10, 3, 64, 85)
    assert taken.flow.shape == (10, 2, 64, 85)
    assert taken.bad_packets == 0
    assert 100 < np.median(taken.flow) < 155  # somebody sits before a fixed camera

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.ucf101_tree import make_flow_archive, video_name

from data_prep.media import ClipError
from data_prep.sources.image_folders import find_flow, find_pictures, jpeg_size, read_image, resize_image
from drcli.errors import DataError

VIDEO = video_name("YoYo", 8)


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def write(path: Path, image: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((8, 8), np.uint8) if image is None else image)
    return path


@pytest.mark.parametrize("place", [".", "tvl1_flow"])
def test_folders_of_directions_are_recognised(tmp_path: Path, place: str) -> None:
    make_flow_archive(tmp_path / place, count=4)
    (tmp_path / place / "u" / VIDEO / "frame000001.bin").write_bytes(b"bounds")
    (tmp_path / place / "v" / VIDEO / "TSP_flows").mkdir()
    for series, direction in zip(find_flow(tmp_path), "uv", strict=True):
        images = series.images("YoYo", VIDEO)
        assert names(images) == ["frame000001.jpg", "frame000002.jpg", "frame000003.jpg"]
        assert {path.parent.parent.name for path in images} == {direction}


@pytest.mark.parametrize("class_folder", ["", "YoYo"])
def test_folders_of_clips_are_recognised(tmp_path: Path, class_folder: str) -> None:
    make_flow_archive(tmp_path / class_folder, count=3, joined=True)
    write(tmp_path / class_folder / VIDEO / "img_00001.jpg")
    horizontal, vertical = find_flow(tmp_path)
    assert names(horizontal.images("YoYo", VIDEO)) == ["flow_x_00001.jpg", "flow_x_00002.jpg"]
    assert names(vertical.images("YoYo", VIDEO)) == ["flow_y_00001.jpg", "flow_y_00002.jpg"]
    assert names(find_pictures(tmp_path).images("YoYo", VIDEO)) == ["img_00001.jpg"]


def test_images_are_ordered_by_number_not_by_name(tmp_path: Path) -> None:
    for number in (1, 2, 10, *range(3, 10)):
        write(tmp_path / "clip" / f"img_{number}.jpg")
    assert names(find_pictures(tmp_path).images("A", "clip"))[-2:] == ["img_9.jpg", "img_10.jpg"]


@pytest.mark.parametrize("absent", ["u", "v"])
def test_half_an_archive_is_refused_with_the_command_that_joins_it(tmp_path: Path, absent: str) -> None:
    make_flow_archive(tmp_path, count=2)
    (tmp_path / absent).rename(tmp_path / "aside")
    with pytest.raises(DataError, match=rf"but no {absent};.*cat ucf101_tvl1_flow.zip.00\* > ucf101_tvl1_flow.zip"):
        find_flow(tmp_path)


def test_a_missing_folder_names_its_setting(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder; correct dataset.prepare.flow_dir"):
        find_flow(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"nowhere: no such folder; correct dataset.prepare.rgb_dir"):
        find_pictures(tmp_path / "nowhere")


def test_a_clip_without_its_images_is_reported(tmp_path: Path) -> None:
    series = find_pictures(tmp_path)
    with pytest.raises(ClipError, match="no folder"):
        series.images("YoYo", VIDEO)
    (tmp_path / VIDEO).mkdir()
    with pytest.raises(ClipError, match="no numbered JPEG files"):
        series.images("YoYo", VIDEO)
    write(tmp_path / VIDEO / "frame000001.jpg")
    write(tmp_path / VIDEO / "frame000003.jpg")
    with pytest.raises(ClipError, match="image 2 is missing") as caught:
        series.images("YoYo", VIDEO)
    assert caught.value.reason == "corrupt"


def test_pictures_are_read_as_red_green_blue(tmp_path: Path) -> None:
    path = write(tmp_path / "überall.jpg", np.full((8, 8, 3), (0, 0, 250), np.uint8))  # OpenCV writes blue first
    image = read_image(path)
    assert image.shape == (8, 8, 3)
    np.testing.assert_allclose(image[4, 4], [250, 0, 0], atol=6)
    assert read_image(path, grey=True).shape == (8, 8)


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff\xd9", None])
def test_a_damaged_picture_is_reported(tmp_path: Path, content: bytes | None) -> None:
    path = write(tmp_path / "a.jpg", np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(ClipError) as caught:
        read_image(path)
    assert caught.value.reason == "corrupt"
    with pytest.raises(ClipError, match="No such file"):
        read_image(tmp_path / "b.jpg")


def test_an_image_shrinks_by_averaging(tmp_path: Path) -> None:
    image = np.array([[0, 100], [100, 200]], np.uint8).repeat(2, axis=0)
    assert resize_image(image, (1, 1)).tolist() == [[100]]
    assert resize_image(image, (4, 2)) is image


def with_size(content: bytes, height: int, width: int) -> bytes:
    """A JPEG whose header states another size; its frame begins with ff c0, length, depth."""
    start = content.index(b"\xff\xc0") + 5
    return content[:start] + height.to_bytes(2) + width.to_bytes(2) + content[start + 4 :]


def test_a_small_picture_whose_header_claims_a_huge_size_is_not_decoded(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jpg", np.zeros((24, 32), np.uint8))
    assert jpeg_size(path.read_bytes()) == (24, 32)
    path.write_bytes(with_size(path.read_bytes(), 60_000, 50_000))
    with pytest.raises(ClipError, match="the header says 50000 x 60000") as caught:
        read_image(path)
    assert caught.value.reason == "absurd size"


def test_sizes_are_found_behind_other_segments(tmp_path: Path) -> None:
    content = write(tmp_path / "a.jpg", np.zeros((24, 32), np.uint8)).read_bytes()
    comment = b"\xff\xff\xfe\x00\x0a\xff\xc0\x00\x00\x00\x00\x00\x00"  # holds what looks like a frame
    assert jpeg_size(content[:2] + comment + content[2:]) == (24, 32)
    assert jpeg_size(b"\x89PNG\r\n\x1a\n") is None
    assert jpeg_size(b"\xff\xd8" + b"\xff" * 1000) is None


def test_another_format_under_the_name_of_a_jpeg_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png")
    path.rename(tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes() + b"\xff\xd9")
    with pytest.raises(ClipError, match="not a JPEG"):
        read_image(tmp_path / "a.jpg")


def test_a_pipe_in_place_of_a_picture_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(ClipError, match="is a pipe, not a file") as caught:
        read_image(tmp_path / "a.jpg")
    assert caught.value.reason == "unreadable"


def test_two_images_of_one_number_are_refused(tmp_path: Path) -> None:
    for name in ("img_1.jpg", "img_0001.JPG"):
        write(tmp_path / VIDEO / "aside.jpg").rename(tmp_path / VIDEO / name)
    with pytest.raises(ClipError, match=": same number"):
        find_pictures(tmp_path).images("YoYo", VIDEO)


def test_suffixes_may_be_in_capitals_and_hidden_files_do_not_count(tmp_path: Path) -> None:
    for name in ("frame000001.JPG", "frame000002.jpeg", "._frame000001.JPG", ".DS_Store"):
        write(tmp_path / VIDEO / "aside.jpg").rename(tmp_path / VIDEO / name)
    series = find_pictures(tmp_path)
    assert names(series.images("YoYo", VIDEO)) == ["frame000001.JPG", "frame000002.jpeg"]
    assert series.count("YoYo", VIDEO) == 2


@pytest.mark.parametrize("rest", [slice(500, None), slice(-2, None)], ids=["a hole", "an early end"])
def test_a_picture_whose_data_is_damaged_inside_is_reported_and_not_guessed(tmp_path: Path, rest: slice) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = write(tmp_path / "a.jpg", picture)
    content = path.read_bytes()
    assert read_image(path).shape == (64, 64, 3)
    half = len(content) // 2
    path.write_bytes(content[:half] + content[half:][rest])
    with pytest.raises(ClipError, match=r"a\.jpg: its data is damaged") as caught:
        read_image(path)
    assert caught.value.reason == "corrupt"


def test_the_genuine_pictures_are_read(shared: Path) -> None:
    paths = sorted((shared / "data/media/frames_flow").glob("*.jpg"))
    assert len(paths) == 15
    for path in paths:
        assert read_image(path).shape == (240, 320, 3)

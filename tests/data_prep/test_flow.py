from __future__ import annotations

import sys
from typing import get_args

import cv2
import numpy as np
import pytest

from data_prep.media import flow
from drcli.errors import UsageError


def texture() -> np.ndarray:
    """(160, 200, 3): smooth, irregular, so that every displacement can be seen."""
    noise = np.random.default_rng(0).uniform(0, 255, (160, 200, 3)).astype(np.float32)
    smooth: np.ndarray = cv2.GaussianBlur(noise, (0, 0), 3)
    pixels: np.ndarray = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    return pixels


def shifted(right: int, down: int) -> np.ndarray:
    """(96, 128, 3) cut from the texture so that its content appears moved."""
    return np.ascontiguousarray(texture()[20 - down : 116 - down, 20 - right : 148 - right])


@pytest.mark.parametrize("method", get_args(flow.Method))
@pytest.mark.parametrize(("right", "down"), [(0, 0), (2, 0), (0, -3), (-5, 4)])
def test_a_moved_texture_gives_its_displacement(method: flow.Method, right: int, down: int) -> None:
    found = flow.compute_flow(shifted(0, 0), shifted(right, down), method=method)
    assert found.shape == (2, 96, 128)
    assert found.dtype == np.float32
    inside = found[:, 12:-12, 12:-12]  # what enters at the border has no counterpart
    assert np.abs(inside[0] - right).max() < 0.3
    assert np.abs(inside[1] - down).max() < 0.3


@pytest.mark.parametrize("method", get_args(flow.Method))
def test_flow_does_not_depend_on_what_was_computed_before(method: flow.Method) -> None:
    first = flow.compute_flow(shifted(0, 0), shifted(3, 1), method=method)
    flow.compute_flow(shifted(9, 9)[:32, :43], shifted(0, 0)[:32, :43], method=method)
    np.testing.assert_array_equal(flow.compute_flow(shifted(0, 0), shifted(3, 1), method=method), first)


def test_quantising_clips_to_twenty_pixels() -> None:
    pixels = np.array([-30, -20, -10, 0, 0.08, 10, 20, 1000], dtype=np.float32)
    assert flow.quantise(pixels).tolist() == [0, 0, 64, 128, 128, 191, 255, 255]  # 255 (d + 20) / 40


def test_quantising_loses_less_than_half_a_step() -> None:
    pixels = np.linspace(-20, 20, 999, dtype=np.float32)
    assert np.abs(flow.dequantise(flow.quantise(pixels)) - pixels).max() <= 20 / 255 + 1e-5
    stored = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(flow.quantise(flow.dequantise(stored)), stored)


@pytest.mark.parametrize("method", get_args(flow.Method))
def test_mirrored_pictures_have_the_mirrored_flow_with_u_negated(method: flow.Method) -> None:
    before, after = shifted(0, 0), shifted(4, -2)
    stored = flow.quantise(flow.compute_flow(before, after, method=method)).astype(int)
    mirrored = flow.quantise(flow.compute_flow(before[:, ::-1], after[:, ::-1], method=method)).astype(int)
    by_rule = np.stack([255 - stored[0], stored[1]])[:, :, ::-1]
    assert np.abs(by_rule - mirrored)[:, 12:-12, 12:-12].max() <= 2  # 0.3 pixels


def test_a_resized_flow_counts_pixels_of_the_new_picture() -> None:
    constant = np.stack([np.full((40, 60), 6.0), np.full((40, 60), -4.0)]).astype(np.float32)
    resized = flow.resize_flow(constant, (20, 90))
    assert resized.shape == (2, 20, 90)
    np.testing.assert_allclose(resized[0], 9.0)
    np.testing.assert_allclose(resized[1], -2.0)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (None, r"cv2 is needed to prepare this dataset: pip install 'drcli\[media\]'"),
        (type(sys)("cv2"), r"OpenCV 4.0 lacks its contributed modules, and so TV-L1.*pip install 'drcli\[media\]'"),
    ],
)
def test_a_missing_or_bare_opencv_is_a_message(monkeypatch: pytest.MonkeyPatch, module: object, message: str) -> None:
    if module is not None:
        module.__version__ = "4.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cv2", module)
    flow.opencv.cache_clear()
    with pytest.raises(UsageError, match=message):
        flow.opencv()
    flow.opencv.cache_clear()

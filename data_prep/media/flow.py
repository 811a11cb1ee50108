"""Optical flow between two pictures, and the eight bits it is stored in.

Methods are TV-L1 (Zach, Pock & Bischof 2007, "A duality based approach for realtime TV-L1 optical
flow"), which the shared archives of UCF-101 hold, and DIS (Kroeger et al. 2016, "Fast optical flow
using dense inverse search"), some 70 times faster. Both are OpenCV's, with its default parameters.

A displacement (u, v) in pixels, u to the right and v downward, is clipped to [-20, 20] and stored as

    round(255 (d + 20) / 40),

the rule of gpu_flow and dense_flow: no motion is stored as 128, and lies between 127 and 128. A
picture that is mirrored left to right has the mirrored flow with u negated, which in stored values
is 255 - u; v is mirrored and keeps its values.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.media.container import extra
from drcli.errors import UsageError

Method = Literal["tvl1", "dis"]
Pixels = NDArray[np.uint8]
Flow = NDArray[np.float32]

BOUND = 20.0  # pixels; larger displacements are clipped
CONSTANT = "constant flow"


def compute_flow(previous: Pixels, following: Pixels, *, method: Method) -> Flow:
    """Where each pixel of a picture has gone in the one that follows.

    Args:
        previous: (H, W, 3) RGB.
        following: (H, W, 3) RGB, of the same size.
        method: "tvl1" or "dis".

    Returns:
        (2, H, W): u to the right and v downward, in pixels.

    Raises:
        UsageError: OpenCV with its contributed modules is not installed.
    """
    cv2 = opencv()
    grey = [cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY) for picture in (previous, following)]
    flow: Flow = _estimator(method).calc(*grey, None)
    return np.ascontiguousarray(flow.transpose(2, 0, 1), dtype=np.float32)


def quantise(flow: Flow) -> Pixels:
    """Displacements in pixels, of any shape, as they are stored: clipped to [-20, 20], 0 ... 255."""
    clipped = np.clip(flow.astype(np.float64), -BOUND, BOUND)
    return np.rint(255 * (clipped + BOUND) / (2 * BOUND)).astype(np.uint8)


def constant_flow(stored: Pixels) -> dict[str, int]:
    """How many fields of stored flow (P, 2, H, W) have one value throughout, as a finding of a clip.

    Two equal pictures have such flow: the video stands still there, or repeats a frame.
    """
    count = int((np.ptp(stored, axis=(2, 3)) == 0).all(axis=1).sum())
    return {CONSTANT: count} if count else {}


def dequantise(stored: Pixels) -> Flow:
    """Displacements in pixels of stored values: the inverse of `quantise`, to within 0.08 pixels."""
    flow: Flow = (stored.astype(np.float32) / 255 * (2 * BOUND) - BOUND).astype(np.float32)
    return flow


def resize_flow(flow: Flow, size: tuple[int, int]) -> Flow:
    """The same motion on a picture of another size: a pixel of displacement is one of the new picture.

    Args:
        flow: (2, H, W) in pixels.
        size: height and width wanted.
    """
    cv2 = opencv()
    height, width = size
    interpolation = cv2.INTER_AREA if height < flow.shape[1] else cv2.INTER_LINEAR
    resized = np.stack([cv2.resize(part, (width, height), interpolation=interpolation) for part in flow])
    scale = np.array([width / flow.shape[2], height / flow.shape[1]], dtype=np.float32)
    scaled: Flow = resized * scale[:, None, None]
    return scaled


@cache
def opencv() -> Any:
    """The module cv2, kept to one thread: processes share the machine, and sums keep their order.

    Raises:
        UsageError: it is not installed, or without its contributed modules.
    """
    cv2 = extra("cv2")
    if not hasattr(cv2, "optflow"):
        raise UsageError(
            f"OpenCV {cv2.__version__} lacks its contributed modules, and so TV-L1: "
            "pip uninstall the installed opencv packages, then pip install 'drcli[media]'"
        )
    cv2.setNumThreads(1)
    return cv2


def _estimator(method: Method) -> Any:
    """A new one for each pair: OpenCV's keep something from one pair to the next, which shows in the result."""
    cv2 = opencv()
    if method == "tvl1":
        return cv2.optflow.createOptFlow_DualTVL1()
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

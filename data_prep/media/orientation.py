"""Display matrices: how a player mirrors and turns the pictures of a clip before it shows them."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TOLERANCE = 0.01  # of an entry, after the axes were brought to length 1
_TURNS = {(1, 0): 0, (0, -1): 1, (-1, 0): 2, (0, 1): 3}


@dataclass(frozen=True)
class Orientation:
    """Mirroring left to right, then turning: the eight ways in which a picture can lie on its rectangle.

    Attributes:
        mirrored: whether the picture is mirrored first.
        turns: quarter turns counterclockwise, 0 ... 3.
    """

    mirrored: bool
    turns: int

    @staticmethod
    def from_matrix(data: bytes) -> Orientation:
        """The orientation of a display matrix.

        The matrix [a b u; c d v; x y w] puts the pixel (p, q), to the right and downward, at
        (a p + c q + x, b p + d q + y). Lengths of its axes are left out of account, since pictures are
        resized anyway.

        Args:
            data: nine 32-bit integers of the machine's byte order, as FFmpeg hands them out.

        Raises:
            ValueError: it is neither a turn by right angles nor one of a mirror image.
        """
        if len(data) != 36:
            raise ValueError(f"its display matrix has {len(data)} bytes instead of 36")
        a, b, u, c, d, v, *_ = struct.unpack("=9i", data)
        right, down = _axis(a, b), _axis(c, d)
        if u or v or right is None or down is None or right[0] * down[0] + right[1] * down[1]:
            entries = ", ".join(f"{value / 65536:.4g}" for value in (a, b, c, d))
            raise ValueError(f"its display matrix [{entries}] neither turns by right angles nor mirrors")
        mirrored = right[0] * down[1] - right[1] * down[0] < 0
        return Orientation(mirrored, _TURNS[(-right[0], -right[1]) if mirrored else right])

    def apply(self, picture: NDArray[Any]) -> NDArray[Any]:
        """A picture (C, H, W) as it is shown: (C, H, W), or (C, W, H) after an odd number of turns."""
        return np.rot90(picture[..., ::-1] if self.mirrored else picture, self.turns, axes=(-2, -1))


UPRIGHT = Orientation(False, 0)


def _axis(x: int, y: int) -> tuple[int, int] | None:
    """The direction of an axis if it is right, left, down or up; else None."""
    length = math.hypot(x, y)
    if not length:
        return None
    nearest = round(x / length), round(y / length)
    is_near = math.hypot(x / length - nearest[0], y / length - nearest[1]) < _TOLERANCE
    return nearest if is_near else None

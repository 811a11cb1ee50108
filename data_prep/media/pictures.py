"""How pictures and flow are stored, the same for all datasets of clips."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from drcli.data.format import Statistics

FrameSize = tuple[Annotated[int, Field(ge=16, le=4096)], Annotated[int, Field(ge=16, le=4096)]]
"""Height and width of stored pictures, in pixels."""

FRAME_SIZE: FrameSize = (256, 340)
"""The proportions are those of CREMA-D and UCF-101, 4 to 3; other pictures are squeezed to them."""

IMAGENET: Statistics = (
    (0.485 * 255, 0.456 * 255, 0.406 * 255),
    (0.229 * 255, 0.224 * 255, 0.225 * 255),
)
"""Mean and standard deviation of red, green and blue by which the literature normalises."""

FLOW: Statistics = ((127.5, 127.5), (0.226 * 255, 0.226 * 255))
"""No motion becomes 0; a standard deviation like that of pictures, as is usual for two-stream networks."""

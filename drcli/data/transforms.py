"""From stored arrays to inputs, whole batches at a time, on the device.

Every random choice is drawn per sample from a CPU generator that the caller seeds, so that a batch is
the same on every device; the arithmetic runs where the batch is. The noise of training alone is drawn on
the device, from a seed that the generator gives: it differs between a CPU and a GPU.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from drcli.data.rows import to_device

SCALE = (0.08, 1.0)  # share of the picture's area that a crop takes
RATIO = (3 / 4, 4 / 3)  # width over height of a crop


def middle_frames(stored: int, wanted: int) -> Tensor:
    """Return (wanted,) indices: the middle of each of `wanted` equal parts of `stored` frames."""
    return torch.arange(wanted) * stored // wanted + stored // wanted // 2


def random_frames(rows: int, stored: int, wanted: int, generator: torch.Generator) -> Tensor:
    """Return (rows, wanted) indices: for each row one frame at random from each of `wanted` equal parts."""
    starts = torch.arange(wanted + 1) * stored // wanted
    widths = (starts[1:] - starts[:-1]).clamp(min=1)
    offsets = torch.rand(rows, wanted, generator=generator) * widths
    return (starts[:-1] + offsets.long()).clamp(max=stored - 1)


def random_boxes(rows: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Return (rows, 4) crops (top, left, height, width) in pixels, as random resized crops are drawn.

    The share of the area is uniform in [0.08, 1], the logarithm of width over height uniform between
    those of 3/4 and 4/3; a crop that would leave the picture is cut to it.
    """
    share, ratio, down, right = torch.rand(4, rows, generator=generator, dtype=torch.float64)
    area = height * width * (SCALE[0] + share * (SCALE[1] - SCALE[0]))
    low, high = (math.log(bound) for bound in RATIO)
    proportion = torch.exp(low + ratio * (high - low))
    box_width = (area * proportion).sqrt().clamp(max=width)
    box_height = (area / proportion).sqrt().clamp(max=height)
    return torch.stack([down * (height - box_height), right * (width - box_width), box_height, box_width], dim=1)


def crop_and_resize(pictures: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Return each row's crop, resized to a square by bilinear interpolation.

    Args:
        pictures: (B, ..., H, W) float; all pictures of a row share its crop.
        boxes: (B, 4) top, left, height, width in pixels.
        size: side of the square in pixels.

    Returns:
        (B, ..., size, size).
    """
    height, width = pictures.shape[-2:]
    flat = pictures.reshape(len(pictures), -1, height, width)
    boxes = to_device(boxes.to(flat.dtype), flat.device)
    steps = (torch.arange(size, device=flat.device, dtype=flat.dtype) + 0.5) / size
    # grid_sample counts from -1 to 1 between the outer edges of the picture.
    y = (boxes[:, :1] + boxes[:, 2:3] * steps) / height * 2 - 1
    x = (boxes[:, 1:2] + boxes[:, 3:] * steps) / width * 2 - 1
    grid = torch.stack([x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)], dim=-1)
    out = functional.grid_sample(flat, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return out.reshape(*pictures.shape[:-2], size, size)


def resize(pictures: Tensor, size: int) -> Tensor:
    """Return (B, ..., size, size): the whole picture, its proportions not kept, smoothed before shrinking."""
    if pictures.shape[-2:] == (size, size):
        return pictures
    flat = pictures.reshape(len(pictures), -1, *pictures.shape[-2:])
    out = functional.interpolate(flat, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return out.reshape(*pictures.shape[:-2], size, size)


def mirror(inputs: Tensor, rows: Tensor, *, is_flow: bool) -> Tensor:
    """Return inputs with the chosen rows mirrored left to right.

    Args:
        inputs: (B, ..., C, H, W), normalised so that no motion is 0.
        rows: (B,) bool.
        is_flow: channel 0 is horizontal motion, which changes its sign in a mirror.
    """
    mirrored = inputs.flip(-1)
    if is_flow:
        signs = torch.ones(inputs.shape[-3], device=inputs.device)
        signs[0] = -1.0
        mirrored = mirrored * signs[:, None, None]
    chosen = to_device(rows, inputs.device).reshape(-1, *[1] * (inputs.dim() - 1))
    return torch.where(chosen, mirrored, inputs)


def add_noise(inputs: Tensor, noise: Tensor, snr_db: float, lengths: Tensor | None = None) -> Tensor:
    """Return inputs plus white noise at a signal-to-noise ratio, by each row's own power.

    Args:
        inputs: (B, ...).
        noise: (B, ...) standard normal numbers.
        snr_db: 10 log10(mean square of the row / mean square of its noise).
        lengths: (B,) valid steps of sequences (B, L, D), whose padding is 0 and stays so.
    """
    squares = inputs.square().flatten(1)
    power = squares.mean(dim=1) * 10 ** (-snr_db / 10)
    if lengths is not None:
        steps = torch.arange(inputs.shape[1], device=inputs.device) < lengths[:, None]
        noise = noise * steps[:, :, None]
        power = power * (inputs.shape[1] / lengths.clamp(min=1))
    return inputs + noise.to(inputs) * power.sqrt().reshape(-1, *[1] * (inputs.dim() - 1))

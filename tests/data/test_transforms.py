"""Transforms of whole batches: frames, crops, mirrors, noise."""

from __future__ import annotations

import pytest
import torch

from drcli.data import transforms


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("stored", "wanted", "expected"),
    [(10, 3, [1, 4, 7]), (10, 10, list(range(10))), (8, 2, [2, 6]), (5, 1, [2])],
)
def test_evaluation_takes_the_middle_of_each_part(stored: int, wanted: int, expected: list[int]) -> None:
    assert transforms.middle_frames(stored, wanted).tolist() == expected


def test_training_takes_one_frame_from_each_part_and_every_frame_sometimes() -> None:
    frames = transforms.random_frames(2000, 10, 3, seeded())
    assert frames.shape == (2000, 3)
    for column, part in zip(frames.T, ([0, 1, 2], [3, 4, 5], [6, 7, 8, 9]), strict=True):
        assert sorted(set(column.tolist())) == part


def test_boxes_lie_in_the_picture_and_have_the_shares_asked_for() -> None:
    top, left, height, width = transforms.random_boxes(5000, 60, 80, seeded()).T
    assert bool((top >= 0).all() and (left >= 0).all())
    assert float((top + height).max()) <= 60 + 1e-9
    assert float((left + width).max()) <= 80 + 1e-9
    share = height * width / (60 * 80)
    assert float(share.min()) > 0.05
    assert float(share.max()) <= 1 + 1e-9
    assert 0.45 < float(share.mean()) < 0.6


def test_the_whole_picture_as_a_crop_is_the_picture() -> None:
    pictures = torch.rand(2, 3, 1, 8, 8)
    whole = torch.tensor([[0.0, 0.0, 8.0, 8.0]]).expand(2, -1)
    torch.testing.assert_close(transforms.crop_and_resize(pictures, whole, 8), pictures)


def test_a_crop_shows_its_part_of_the_picture() -> None:
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    box = torch.tensor([[2.0, 4.0, 4.0, 4.0]])
    torch.testing.assert_close(transforms.crop_and_resize(ramp, box, 4)[0, 0, 0], torch.tensor([4.0, 5.0, 6.0, 7.0]))


def test_every_row_has_its_own_crop_and_its_frames_share_it() -> None:
    pictures = torch.rand(1, 1, 1, 16, 16).expand(2, 3, 1, 16, 16)
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [4.0, 4.0, 8.0, 8.0]])
    out = transforms.crop_and_resize(pictures, boxes, 8)
    assert torch.equal(out[:, 0], out[:, 2])
    assert not torch.equal(out[0], out[1])


def test_a_resized_picture_keeps_its_mean_and_takes_the_size() -> None:
    pictures = torch.rand(2, 4, 3, 12, 16)
    out = transforms.resize(pictures, 6)
    assert out.shape == (2, 4, 3, 6, 6)
    torch.testing.assert_close(out.mean(dim=(-1, -2)), pictures.mean(dim=(-1, -2)), atol=0.03, rtol=0)
    assert transforms.resize(out, 6) is out


def test_a_mirror_turns_pictures_round_and_horizontal_motion_negative() -> None:
    flow = torch.arange(16.0).reshape(2, 1, 2, 2, 2)
    rows = torch.tensor([True, False])
    out = transforms.mirror(flow, rows, is_flow=True)
    assert torch.equal(out[1], flow[1])
    assert torch.equal(out[0, 0, 0], -flow[0, 0, 0].flip(-1))
    assert torch.equal(out[0, 0, 1], flow[0, 0, 1].flip(-1))
    picture = transforms.mirror(flow, rows, is_flow=False)
    assert torch.equal(picture[0], flow[0].flip(-1))
    assert torch.equal(transforms.mirror(out, rows, is_flow=True), flow)


@pytest.mark.parametrize("snr_db", [-10.0, 0.0, 20.0])
def test_noise_has_the_power_asked_for_relative_to_each_row(snr_db: float) -> None:
    inputs = torch.randn(4, 1, 100, 100, generator=seeded()) * torch.tensor([1.0, 2.0, 0.5, 0.0]).reshape(4, 1, 1, 1)
    noise = torch.randn(inputs.shape, generator=seeded(1))
    added = transforms.add_noise(inputs, noise, snr_db) - inputs
    ratio = 10 * torch.log10(inputs[:3].square().mean(dim=(1, 2, 3)) / added[:3].square().mean(dim=(1, 2, 3)))
    torch.testing.assert_close(ratio, torch.full((3,), snr_db), atol=0.15, rtol=0)
    assert torch.equal(added[3], torch.zeros_like(added[3]))

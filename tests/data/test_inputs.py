"""From stored arrays to inputs: pictures, flow, sequences and noise, in training and in evaluation."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from drcli.data.batches import Batch, Batches
from drcli.data.format import ModalityInfo
from drcli.data.input import Corruption, InputSettings
from drcli.data.plan import InputPlan
from drcli.data.prepared import Split

CPU = torch.device("cpu")
ROWS = 6


def pictures(kind: str = "frames", channels: int = 3) -> tuple[torch.Tensor, ModalityInfo]:
    stored = torch.randint(0, 256, (ROWS, 5, channels, 12, 16), dtype=torch.uint8)
    info = ModalityInfo((5, channels, 12, 16), "uint8", (127.5,) * channels, (50.0,) * channels, kind)
    return stored, info


def split(name: str = "train", **arrays: torch.Tensor) -> Split:
    return Split(name, arrays, torch.arange(ROWS), torch.arange(ROWS), torch.ones(ROWS, dtype=torch.float64))


def batches(name: str = "train", corruption: Corruption | None = None, **settings: Any) -> Batches:
    stored, info = pictures()
    plan = InputPlan(info, InputSettings(**settings), corruption)
    return Batches(split(name, visual=stored), {"visual": plan}, CPU)


def trained(made: Batches, seed: int = 0) -> Batch:
    return made.take(torch.arange(ROWS), torch.Generator().manual_seed(seed))


def test_evaluation_shows_the_middle_frames_resized_and_normalised() -> None:
    made = batches(frames=2, size=12)
    inputs = made.take(torch.tensor([4])).inputs["visual"]
    assert inputs.shape == (1, 2, 3, 12, 12)
    assert made.plans["visual"].shape == (2, 3, 12, 12)
    plain = batches(frames=2)
    stored = plain.split.arrays["visual"][[4]][:, [1, 3]].float()
    torch.testing.assert_close(plain.take(torch.tensor([4])).inputs["visual"], (stored - 127.5) / 50)


def test_training_draws_frames_crops_and_flips_from_its_generator_alone() -> None:
    made = batches(frames=2, size=8, flip=True)
    state = torch.get_rng_state()
    first, again, other = trained(made, 1), trained(made, 1), trained(made, 2)
    assert torch.equal(first.inputs["visual"], again.inputs["visual"])
    assert not torch.equal(first.inputs["visual"], other.inputs["visual"])
    assert first.inputs["visual"].shape == (ROWS, 2, 3, 8, 8)
    assert torch.equal(torch.get_rng_state(), state)


def test_without_augmentation_a_modality_is_trained_on_what_it_is_evaluated_on() -> None:
    made = batches(frames=2, size=8, flip=True, augment=False)
    assert torch.equal(trained(made).inputs["visual"], made.take(torch.arange(ROWS)).inputs["visual"])


def test_what_is_random_in_other_modalities_does_not_depend_on_whether_one_is_augmented() -> None:
    stored, info = pictures()
    found = []
    for augment in (True, False):
        plans = {
            "visual": InputPlan(info, InputSettings(frames=2, size=8, flip=True, augment=augment)),
            "other": InputPlan(info, InputSettings(size=8, flip=True), Corruption(snr_db=0)),
        }
        found.append(trained(Batches(split(visual=stored, other=stored), plans, CPU)).inputs)
    assert torch.equal(found[0]["other"], found[1]["other"])
    assert not torch.equal(found[0]["visual"], found[1]["visual"])


def test_pictures_and_flow_are_mirrored_together() -> None:
    stored, info = pictures()
    moving, flow_info = pictures("flow", 2)
    settings = InputSettings(flip=True)
    plans = {"visual": InputPlan(info, settings), "flow": InputPlan(flow_info, settings)}
    made = Batches(split(visual=stored, flow=moving), plans, CPU)
    shown, plain = trained(made), made.take(torch.arange(ROWS))
    # All five frames are taken, in order, so that mirroring is the only difference.
    mirrored = [not torch.equal(shown.inputs["visual"][row], plain.inputs["visual"][row]) for row in range(ROWS)]
    assert 0 < sum(mirrored) < ROWS
    for row, turned in enumerate(mirrored):
        u, v = plain.inputs["flow"][row].unbind(dim=1)
        expected = torch.stack([-u.flip(-1), v.flip(-1)], dim=1) if turned else plain.inputs["flow"][row]
        assert torch.equal(shown.inputs["flow"][row], expected)


def test_noise_is_fixed_by_row_in_evaluation_and_new_in_training() -> None:
    made = batches(corruption=Corruption(snr_db=0.0))
    row = torch.tensor([2])
    alone, among = made.take(row), made.take(torch.arange(ROWS))
    assert torch.equal(alone.inputs["visual"][0], among.inputs["visual"][2])
    assert not torch.equal(trained(made, 1).inputs["visual"], trained(made, 2).inputs["visual"])
    clean = batches().take(row)
    assert alone.inputs["visual"].shape == clean.inputs["visual"].shape


def test_noise_stays_off_the_splits_that_are_not_named() -> None:
    torch.manual_seed(0)
    noise = Corruption(snr_db=0.0, splits=("test",))
    stored, info = pictures()
    for name, is_noisy in (("train", False), ("test", True)):
        made = Batches(split(name, visual=stored), {"visual": InputPlan(info, corruption=noise)}, CPU)
        clean = Batches(split(name, visual=stored), {"visual": InputPlan(info)}, CPU)
        same = torch.equal(made.take(torch.arange(2)).inputs["visual"], clean.take(torch.arange(2)).inputs["visual"])
        assert same is not is_noisy


def test_sequences_are_normalised_by_dimension_and_their_padding_is_zero() -> None:
    stored = torch.randn(ROWS, 4, 2)
    lengths = torch.tensor([4, 3, 2, 1, 0, 4])
    info = ModalityInfo((4, 2), "float32", (1.0, -1.0), (2.0, 4.0), "sequence")
    part = Split("train", {"text": stored}, torch.arange(ROWS), torch.arange(ROWS), torch.ones(ROWS), {"text": lengths})
    batch = Batches(part, {"text": InputPlan(info)}, CPU).take(torch.arange(ROWS))
    expected = (stored - torch.tensor([1.0, -1.0])) / torch.tensor([2.0, 4.0])
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(batch.inputs["text"][row, :length], expected[row, :length])
        assert not batch.inputs["text"][row, length:].any()
    assert torch.equal(batch.lengths["text"], lengths)


def test_vectors_are_standardised_by_dimension() -> None:
    stored = torch.randn(ROWS, 2)
    info = ModalityInfo((2,), "float32", (1.0, -1.0), (2.0, 4.0), "vector")
    part = Split("train", {"text": stored}, torch.arange(ROWS), torch.arange(ROWS), torch.ones(ROWS))
    batch = Batches(part, {"text": InputPlan(info)}, CPU).take(torch.arange(ROWS))
    expected = (stored - torch.tensor([1.0, -1.0])) / torch.tensor([2.0, 4.0])
    torch.testing.assert_close(batch.inputs["text"], expected)


@pytest.mark.parametrize("kind", ["frames", "flow"])
def test_stored_bytes_are_left_alone(kind: str) -> None:
    stored, info = pictures(kind, 3 if kind == "frames" else 2)
    before = stored.clone()
    made = Batches(split(visual=stored), {"visual": InputPlan(info, InputSettings(size=8, flip=True))}, CPU)
    trained(made)
    assert torch.equal(stored, before)


def test_stored_vectors_are_inputs_of_their_own_shape() -> None:
    info = ModalityInfo((7,), "float32", (0.0,), (2.0,))
    stored = torch.randn(ROWS, 7)
    made = Batches(split(text=stored), {"text": InputPlan(info)}, CPU)
    assert made.plans["text"].shape == (7,)
    torch.testing.assert_close(made.take(torch.arange(ROWS)).inputs["text"], stored / 2)

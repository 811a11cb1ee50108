"""The Relearner in a plain loop: what it pulls and by how much, what it leaves alone, and what it keeps."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.training import bits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from drcli.diagnosis import diagnose
from drcli.relearning import Relearner, RelearnSettings

ROWS, CLASSES, WIDTH = 24, 3, 5


def encoder(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, WIDTH))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.audio, self.visual = encoder(1), encoder(2)
        self.head = nn.Linear(2 * WIDTH, CLASSES)

    def forward(self, audio: Tensor, visual: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.cat([self.audio(audio), self.visual(visual)], dim=1))
        return logits


@pytest.fixture
def model() -> Model:
    return Model()


def encoders(model: Model) -> dict[str, nn.Module]:
    return {"audio": model.audio, "visual": model.visual}


def data(seed: int, rows: int = ROWS) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % CLASSES
    inputs = [torch.randn(rows, 4, generator=generator) + labels[:, None] for _ in range(2)]
    return TensorDataset(*inputs, labels)


def loader(seed: int) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(data(seed), batch_size=7)


TRAIN, VAL = loader(10), loader(11)


def features(model: Model, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    audio, visual, labels = data(seed).tensors
    model.eval()
    with torch.no_grad():
        found = {"audio": model.audio(audio), "visual": model.visual(visual)}
    model.train()
    return found, labels


def move(model: Model, steps: int = 5) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        for audio, visual, labels in loader(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(audio, visual), labels).backward()
            optimizer.step()


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_an_event_pulls_every_encoder_by_tanh_of_lambda_times_its_gap(model: Model) -> None:
    relearner = Relearner(encoders(model), every=1, lambda_=2.0, restarts=2)
    start = state(model)
    move(model)
    before = state(model)
    expected = diagnose(
        *features(model, 10),
        *features(model, 11),
        num_classes=CLASSES,
        settings=RelearnSettings(restarts=2),
        lambda_=2.0,
    )
    event = relearner.step(1, train=TRAIN, val=VAL)
    assert event is not None
    assert (event.epoch, event.number, event.left) == (1, 1, {})
    assert event.found == expected
    for name, tensor in model.named_parameters():
        m = name.partition(".")[0]
        a = math.tanh(2.0 * expected[m].gap) if m in expected else 0.0
        torch.testing.assert_close(tensor.detach(), a * start[name] + (1 - a) * before[name])
    assert any(one.strength > 0 for one in event.found.values())


@pytest.mark.parametrize("source", ["loader", "features", "callable", "mappings", "pairs", "run"])
def test_features_come_from_anywhere_and_are_the_same(source: str, model: Model) -> None:
    relearner = Relearner(encoders(model), every=1, restarts=2)
    sources: dict[str, Callable[[int], Any]] = {
        "loader": loader,
        "features": lambda seed: features(model, seed),
        "callable": lambda seed: lambda: features(model, seed),
        "mappings": lambda seed: [{"audio": a, "visual": v, "labels": y} for a, v, y in loader(seed)],
        "pairs": lambda seed: [({"visual": v, "audio": a}, y) for a, v, y in loader(seed)],
        "run": lambda seed: [(y, a, v) for a, v, y in loader(seed)],
    }
    if source == "run":

        def run(batch: Any) -> Tensor:
            labels, audio, visual = batch
            model(audio, visual)
            return torch.as_tensor(labels)

        relearner = Relearner(encoders(model), every=1, restarts=2, run=run)
    direct = Relearner(encoders(model), every=1, restarts=2).diagnose(features(model, 10), features(model, 11))
    assert relearner.diagnose(sources[source](10), sources[source](11)) == direct


@pytest.mark.parametrize("batches", ["positional", "keywords"])
def test_a_whole_model_is_run_and_its_encoders_are_listened_to(batches: str, model: Model) -> None:
    relearner = Relearner(encoders(model), every=1, restarts=2, model=model)
    given = TRAIN if batches == "positional" else [{"audio": a, "visual": v, "labels": y} for a, v, y in TRAIN]
    assert relearner.diagnose(given, VAL) == relearner.diagnose(features(model, 10), features(model, 11))


def test_modes_generators_gradients_and_everything_but_the_encoders_stay(model: Model) -> None:
    relearner = Relearner(encoders(model), every=1, restarts=2)
    move(model)
    model.audio[1].eval()
    modes, generator, rest = [layer.training for layer in model.modules()], torch.get_rng_state(), state(model.head)
    buffers = {name: tensor.clone() for name, tensor in model.named_buffers()}
    tensors = {name: id(tensor) for name, tensor in model.named_parameters()}
    assert relearner.step(1, train=TRAIN, val=VAL) is not None
    assert [layer.training for layer in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    assert bits(state(model.head)) == bits(rest)
    assert bits(dict(model.named_buffers())) == bits(buffers)
    assert {name: id(tensor) for name, tensor in model.named_parameters()} == tensors
    assert not model.audio[0]._forward_hooks
    assert not model.audio._forward_hooks


def test_frozen_parts_are_left_alone(model: Model) -> None:
    relearner = Relearner(encoders(model), every=1, strength=0.5)
    move(model)
    model.audio[0].requires_grad_(False)
    before = state(model.audio)
    relearner.step(1, train=TRAIN, val=VAL)
    changed = {name for name, tensor in model.audio.named_parameters() if not torch.equal(tensor, before[name])}
    assert changed == {"1.weight", "1.bias", "3.weight", "3.bias"}


def test_nothing_happens_when_no_event_is_due(model: Model) -> None:
    relearner = Relearner(encoders(model), every=2, times=1, epochs=6)
    unread: Any = None
    assert [relearner.step(epoch, train=unread, val=unread) for epoch in (0, 1, 3, 5)] == [None] * 4
    assert relearner.step(2, train=TRAIN, val=VAL) is not None
    assert relearner.step(4, train=unread, val=unread) is None


def test_the_state_survives_a_checkpoint(model: Model) -> None:
    relearner = Relearner(encoders(model), every=1, times=2, strength=0.5)
    move(model)
    relearner.step(1, train=TRAIN, val=VAL)
    saved = copy.deepcopy(relearner.state_dict())
    again = Model()
    again.load_state_dict(model.state_dict())
    resumed = Relearner(encoders(again), every=1, times=2, strength=0.5)  # built on the trained weights
    resumed.load_state_dict(saved)
    for one in (relearner, resumed):
        assert one.step(2, train=TRAIN, val=VAL) is not None
        assert one.step(3, train=TRAIN, val=VAL) is None
    assert bits(state(again)) == bits(state(model))


def test_another_models_state_is_refused(model: Model) -> None:
    relearner = Relearner(encoders(model))
    saved = copy.deepcopy(relearner.state_dict())
    saved["initial"]["audio"]["0.weight"] = torch.zeros(2, 2)
    with pytest.raises(ValueError, match=r"audio\.0\.weight has the shape \(2, 2\), not \(6, 4\)"):
        relearner.load_state_dict(saved)


def test_what_the_pull_left_is_measured_where_asked_for(model: Model) -> None:
    relearner = Relearner(encoders(model), every=1, strength=1.0, restarts=2)
    untrained = relearner.diagnose(TRAIN, VAL)
    move(model)
    event = relearner.step(1, train=TRAIN, val=VAL, again=True)
    assert event is not None
    assert {m: one.strength for m, one in event.found.items()} == {"audio": 1.0, "visual": 1.0}
    assert event.left == relearner.diagnose(TRAIN, VAL)
    assert event.left.keys() == untrained.keys()


@pytest.mark.parametrize(("kept", "left"), [("keep", 14), ("reset_encoder", 2), ("reset", 0)])
def test_optimizer_state(kept: str, left: int, model: Model) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    relearner = Relearner(encoders(model), every=1, strength=0.5, optimizer=optimizer, optimizer_state=kept)
    nn.functional.cross_entropy(model(*data(10).tensors[:2]), data(10).tensors[2]).backward()
    optimizer.step()
    relearner.step(1, train=TRAIN, val=VAL)
    assert len(optimizer.state) == left


def test_statistics_of_batch_normalisation_are_measured_again(model: Model) -> None:
    relearner = Relearner(encoders(model), every=1, strength=0.5, bn_buffers="recompute")
    move(model)
    one_batch = [data(10).tensors]
    relearner.step(1, train=one_batch, val=VAL)
    with torch.no_grad():
        inner = model.audio[0](data(10).tensors[0])
    torch.testing.assert_close(model.audio[1].running_mean, inner.mean(dim=0))
    with pytest.raises(ValueError, match="needs a loader"):
        Relearner(encoders(model), every=1, strength=0.5, bn_buffers="recompute").step(
            1, train=features(model, 10), val=VAL
        )


def test_it_works_on_a_compiled_model(model: Model) -> None:
    compiled: Any = torch.compile(model, backend="eager")
    compiled(*data(10).tensors[:2])
    relearner = Relearner(encoders(model), every=1, restarts=2, model=compiled)
    assert relearner.diagnose(TRAIN, VAL) == relearner.diagnose(features(model, 10), features(model, 11))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"every": 0}, r"^every: Input should be greater than 0, got 0$"),
        ({"strength": "gaps"}, r"^strength must be gap, .*, random, or greater than 0 and at most 1, got 'gaps'$"),
        ({"strength": 0.0}, r"^strength must be .* got 0\.0$"),
        ({"buffers": "blend"}, r"^buffers is no setting of re-learning; did you mean bn_buffers\?$"),
        ({"restart": 3, "times": -1}, r"restart is no setting of re-learning; did you mean restarts\?"),
        ({"colour": "red"}, r"^colour is no setting of re-learning$"),
        ({"optimizer_state": "reset"}, "needs optimizer="),
    ],
)
def test_settings_that_are_wrong_are_refused(arguments: dict[str, Any], said: str, model: Model) -> None:
    with pytest.raises(ValueError, match=said):
        Relearner(encoders(model), **arguments)


@pytest.mark.parametrize("encoders", [{}, nn.Linear(2, 2), [nn.Linear(2, 2)]])
def test_no_mapping_of_encoders_is_refused(encoders: Any) -> None:
    with pytest.raises(ValueError, match=r"a mapping with one encoder at least, such as \{'audio': module\}"):
        Relearner(encoders)


@pytest.mark.parametrize("given", [("loader", "features"), ("features", "loader")])
def test_features_that_were_given_are_not_measured_after_the_pull(given: tuple[str, str], model: Model) -> None:
    """They are those of the weights before it."""
    train, val = (
        loader(seed) if kind == "loader" else features(model, seed) for kind, seed in zip(given, (10, 11), strict=True)
    )
    event = Relearner(encoders(model), every=1, restarts=2).step(1, train=train, val=val, again=True)
    assert event is not None
    assert event.left == {}


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (torch.zeros(3, 4), "a batch must be"),
        ((torch.zeros(3, 4), torch.zeros(3)), "a batch has inputs 1"),
        (({"audio": torch.zeros(3, 4)}, torch.zeros(3)), "a batch has inputs audio"),
    ],
)
def test_batches_of_another_kind_are_refused(batch: Any, said: str, model: Model) -> None:
    with pytest.raises(ValueError, match=said):
        Relearner(encoders(model)).diagnose([batch], VAL)


def test_encoders_that_are_not_run_or_give_no_vectors_are_refused(model: Model) -> None:
    with pytest.raises(ValueError, match="the encoder of other was not run"):
        Relearner({"other": encoder()}, model=model).diagnose(TRAIN, VAL)
    with pytest.raises(ValueError, match=r"puts out \(7, 4, 1\), not \(7, D\)"):
        Relearner({"a": nn.Unflatten(1, (4, 1)), "b": nn.Identity()}).diagnose(TRAIN, VAL)
    with pytest.raises(ValueError, match="the loader is empty"):
        Relearner(encoders(model)).diagnose([], VAL)

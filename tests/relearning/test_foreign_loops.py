"""A Relearner in loops that do more than a plain one: several processes, autocast, compiled, accumulated, on a GPU."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from support.foreign import Model, data, loader, relearn_together, step
from support.training import CPU, bits
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
)

from drcli.diagnosis.sampling import stratified_rows
from drcli.engine.distributed import on_devices
from drcli.relearning import Relearner
from drcli.relearning.loaders import in_order, labels_of, share
from drcli.world import World

TRAIN, VAL = loader(10), loader(11)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture(scope="module")
def together() -> dict[int, dict[str, Any]]:
    return on_devices(2, CPU, relearn_together)


def trained(model: nn.Module, epochs: int = 3) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(epochs):
        for batch in TRAIN:
            step(model, optimizer, batch)


def relearner(model: Model, /, **settings: Any) -> Relearner:
    return Relearner(model.encoders(), every=1, restarts=2, **settings)


# Several processes


@pytest.mark.slow
def test_every_process_pulls_the_same(together: dict[int, dict[str, Any]]) -> None:
    ours, theirs = together[0], together[1]
    assert ours["event"] == theirs["event"]
    assert any(one.strength > 0 for one in ours["event"].found.values())
    weights = [name for name, _ in Model().named_parameters()]
    for when in ("before", "pulled", "after"):
        assert all(np.array_equal(ours[when][name], theirs[when][name]) for name in weights)


@pytest.mark.slow
def test_the_diagnosis_is_of_all_rows_each_once(together: dict[int, dict[str, Any]], model: Model) -> None:
    """25 rows on two processes: a DistributedSampler repeats one of them."""
    model.load_state_dict({name: torch.as_tensor(array) for name, array in together[0]["before"].items()})
    alone = relearner(model).diagnose(TRAIN, VAL)
    assert {one.num_train for one in alone.values()} == {25}
    for rank in (0, 1):
        assert together[rank]["found"] == {"encoders": alone, "model": alone, "run": alone}


@pytest.mark.slow
def test_a_diagnosis_that_fails_in_one_process_is_an_error_in_all(together: dict[int, dict[str, Any]]) -> None:
    assert [own["refused"] for own in together.values()] == ["features must be finite"] * 2


@pytest.mark.parametrize(("rows", "size"), [(25, 2), (7, 3), (4, 4), (2, 3)])
def test_shares_are_of_one_size_and_give_stored_order_when_put_together(rows: int, size: int) -> None:
    shares = [share(rows, World(rank, size)) for rank in range(size)]
    assert len({len(one) for one in shares}) == 1
    assert [row for one in shares for row in one][:rows] == list(range(rows))


# The pass over a loader


@pytest.mark.parametrize("kind", ["shuffle", "generator", "drop_last", "batch_sampler", "subset", "shuffled subset"])
def test_a_loader_is_passed_over_in_stored_order_and_whole(kind: str, model: Model) -> None:
    rows = data(10)
    first = TensorDataset(*(tensor[:14] for tensor in rows.tensors))
    loaders: dict[str, DataLoader[Any]] = {
        "shuffle": DataLoader(rows, 7, shuffle=True),
        "generator": DataLoader(rows, 7, shuffle=True, generator=torch.Generator()),
        "drop_last": DataLoader(rows, 7, drop_last=True),
        "batch_sampler": DataLoader(rows, batch_sampler=BatchSampler(RandomSampler(rows), 7, drop_last=True)),
        "subset": DataLoader(Subset(rows, range(14)), 7),
        "shuffled subset": DataLoader(Subset(rows, range(14)), 7, shuffle=True),
    }
    plain = DataLoader(first if "subset" in kind else rows, 7)
    assert relearner(model).diagnose(loaders[kind], VAL) == relearner(model).diagnose(plain, VAL)


def test_a_loader_with_an_order_of_its_own_is_left_alone() -> None:
    class Mine(SequentialSampler):
        pass

    rows = data(10)
    mine = DataLoader(rows, 7, sampler=Mine(rows))
    assert in_order(mine) is mine


class Counting(Dataset[tuple[Tensor, ...]]):
    """Rows that count how often they are read; `targets` tells their classes, or classes of another kind."""

    def __init__(self, seed: int, targets: list[int] | None = None) -> None:
        self.rows = data(seed)
        self.targets = self.rows.tensors[-1].tolist() if targets is None else targets
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        self.read.append(index)
        row: tuple[Tensor, ...] = self.rows[index]
        return row


def test_a_sample_runs_its_own_rows_alone(model: Model) -> None:
    """The diagnosis is that of the same rows after a pass over all; classes are counted before rows are drawn."""
    sets = Counting(10), Counting(11)
    train, val = (DataLoader(rows, 7, shuffle=True) for rows in sets)
    ours = relearner(model, sample=9)
    found = ours.diagnose(train, val)
    assert [rows.read for rows in sets] == [stratified_rows(data(10).tensors[-1], 9).tolist()] * 2
    assert found == ours.diagnose(list(TRAIN), list(VAL))  # no datasets: all rows are run
    assert {one.num_train for one in found.values()} == {9}


@pytest.mark.parametrize("targets", [list(range(25)), ["a"] * 25, [0] * 24, [0.5] * 25])
def test_targets_that_are_not_the_labels_cost_a_pass_over_all_rows(targets: Any, model: Model) -> None:
    ours = relearner(model, sample=9)
    found = ours.diagnose(DataLoader(Counting(10, targets), 7), VAL)
    assert found == ours.diagnose(list(TRAIN), list(VAL))


def test_a_subset_tells_the_labels_of_its_rows() -> None:
    told = labels_of(DataLoader(Subset(Counting(10), [3, 1, 5]), 2))
    assert told is not None
    assert told.tolist() == data(10).tensors[-1][[3, 1, 5]].tolist()
    assert labels_of(DataLoader(Subset(Unlabelled(), [3, 1, 5]), 2)) is None


class Unlabelled(Dataset[int]):
    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> int:
        return index


def global_states() -> tuple[Any, ...]:
    """The states of torch's, Python's and NumPy's generators."""
    legacy: Any = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state(), random.getstate(), legacy[1].tolist()


def test_a_pass_leaves_generators_heads_and_later_orders_alone(model: Model) -> None:
    """A model that draws in evaluation, a dataset that draws, and a loader that draws from a generator of its own."""

    class Noisy(TensorDataset):
        def __getitem__(self, index: int) -> tuple[Tensor, ...]:
            noise = torch.rand(()) + random.random() + np.random.random()  # noqa: NPY002
            return tuple(x[index] + (noise if x.ndim > 1 else 0) for x in self.tensors)

    own = torch.Generator().manual_seed(0)
    train = DataLoader(Noisy(*data(10).tensors), 7, shuffle=True, generator=own)
    ours = relearner(model, model=model, strength=0.5)
    before = copy.deepcopy(model.state_dict())
    states = global_states(), own.get_state()
    assert ours.step(1, train=train, val=VAL) is not None
    assert bits((global_states(), own.get_state())) == bits(states)
    assert bits({k: v for k, v in model.state_dict().items() if "head" in k}) == bits(
        {k: v for k, v in before.items() if "head" in k}
    )
    assert all(layer.training for layer in model.modules())


def test_features_of_numpy_and_float64_are_taken_as_they_are(model: Model) -> None:
    audio, visual, labels = data(10).tensors
    given = {"audio": audio.double().numpy(), "visual": visual.numpy()}, labels.numpy()
    ours: Any = relearner(model)
    tensors = {"audio": audio.double(), "visual": visual}, labels
    assert ours.diagnose(given, given) == ours.diagnose(tensors, tensors)
    model.double()
    rows = TensorDataset(audio.double(), visual.double(), labels)
    features, _ = ours._features(DataLoader(rows, 7))
    assert features["audio"].dtype == torch.float64


@pytest.mark.parametrize("labels", [torch.zeros(7, 3), torch.zeros(())])
def test_labels_that_are_not_one_class_per_row_are_refused(labels: Tensor, model: Model) -> None:
    batch = (torch.zeros(7, 4), torch.zeros(7, 4), labels)
    with pytest.raises(ValueError, match="labels must be one class per row"):
        relearner(model).diagnose([batch], VAL)


def test_encoders_with_weights_in_common_are_refused(model: Model) -> None:
    with pytest.raises(ValueError, match="the encoders of left and right have weights in common"):
        Relearner({"left": model.audio, "right": nn.Sequential(model.audio, nn.ReLU())})


def test_an_encoder_that_runs_twice_on_a_batch_is_refused(model: Model) -> None:
    """Its features would be those of the last run alone."""

    def run(batch: Any) -> Tensor:
        audio, visual, labels = batch
        model(audio, visual)
        model(audio + 1, visual)
        return torch.as_tensor(labels)

    with pytest.raises(ValueError, match="the encoder of audio ran 2 times on a batch; give step"):
        relearner(model, run=run).diagnose(TRAIN, VAL)


def test_features_and_labels_that_do_not_fit_are_refused(model: Model) -> None:
    rows = {"audio": torch.zeros(9, 2), "visual": torch.zeros(9, 2)}
    with pytest.raises(ValueError, match=r"train: 9 rows of features need as many labels, got \(9, 3\)"):
        relearner(model).diagnose((rows, torch.zeros(9, 3)), VAL)
    with pytest.raises(ValueError, match="modalities differ"):
        relearner(model).diagnose(({"audio": rows["audio"]}, torch.arange(9) % 3), VAL)


# Mixed precision, compilation, accumulation, frozen parts


def test_it_works_inside_autocast(model: Model) -> None:
    """Features in bfloat16 are diagnosed as float32; weights stay float32."""
    trained(model)
    plain = relearner(model).diagnose(TRAIN, VAL)
    seen: list[torch.dtype] = []
    model.audio.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    ours = relearner(model, model=model)
    with torch.autocast("cpu", torch.bfloat16):
        event = ours.step(1, train=TRAIN, val=VAL)
    assert event is not None
    assert set(seen) == {torch.bfloat16}
    for m, one in event.found.items():
        assert one.purity_train == pytest.approx(plain[m].purity_train, abs=0.1)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("compiled", ["model", "encoders"])
@pytest.mark.parametrize("run", [False, True])
def test_it_works_with_what_is_compiled(compiled: str, run: bool, model: Model) -> None:
    trained(model)
    plain, start = relearner(model).diagnose(TRAIN, VAL), copy.deepcopy(model)
    whole: Any = model
    if compiled == "model":
        whole = torch.compile(model, backend="eager")
    else:
        model.audio = torch.compile(model.audio, backend="eager")  # type: ignore[assignment]
    step(whole, torch.optim.SGD(model.parameters(), lr=0.0), next(iter(TRAIN)))

    def run_it(batch: Any) -> Tensor:
        whole(*batch[:-1])
        return torch.as_tensor(batch[-1])

    ours = Relearner(
        {"audio": model.audio, "visual": model.visual}, every=1, restarts=2, model=whole, run=run_it if run else None
    )
    assert ours.diagnose(TRAIN, VAL) == plain
    names = {name for name, _ in start.audio.named_parameters()}
    assert set(ours.state_dict()["initial"]["audio"]) == names  # with or without a wrapper


def test_a_pull_reaches_a_compiled_model(model: Model) -> None:
    compiled: Any = torch.compile(model.eval(), backend="eager")
    ours = relearner(model, strength=1.0)
    batch = data(10).tensors[:2]
    with torch.no_grad():
        start = compiled(*batch)
        for parameter in model.encoders()["audio"].parameters():
            parameter.add_(1.0)
        assert not torch.allclose(compiled(*batch), start)
        ours.step(1, train=TRAIN, val=VAL)
        assert torch.equal(compiled(*batch), start)


def test_gradients_that_are_being_accumulated_stay(model: Model) -> None:
    audio, visual, labels = data(10).tensors
    nn.functional.cross_entropy(model(audio, visual), labels).backward()
    gradients = {name: bits(parameter.grad) for name, parameter in model.named_parameters()}
    relearner(model, strength=0.5, model=model).step(1, train=TRAIN, val=VAL)
    assert {name: bits(parameter.grad) for name, parameter in model.named_parameters()} == gradients


def test_an_encoder_that_is_frozen_whole_keeps_every_bit_while_the_other_is_pulled(model: Model) -> None:
    ours = relearner(model, strength=0.5)
    trained(model)
    model.visual.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    ours.step(1, train=TRAIN, val=VAL)
    changed = {name.partition(".")[0] for name, x in model.state_dict().items() if not torch.equal(x, before[name])}
    assert changed == {"audio"}


# What it says


def test_an_event_is_a_line_that_says_when_nothing_lies_above_the_floor(model: Model) -> None:
    event = relearner(model, strength=0.5).step(1, train=TRAIN, val=VAL, again=True)
    assert event is not None
    assert str(event).startswith("epoch 1: re-learning 1: audio purity 0.")
    assert str(event).count("above the floor), strength 0.500, gap left 0.") == 2
    assert event.is_at_floor == all(one.is_at_floor for one in event.found.values())
    assert ("every gap is at the floor" in str(event)) == event.is_at_floor


@pytest.mark.parametrize(
    ("epochs", "said"),
    [(3, "no re-learning will happen"), (7, "only 2 of 3 re-learnings will happen"), (20, None), (None, None)],
)
def test_a_schedule_that_does_not_fit_is_said_once(
    epochs: int | None, said: str | None, model: Model, recwarn: pytest.WarningsRecorder
) -> None:
    ours = Relearner(model.encoders(), every=2, times=3, epochs=epochs)
    for _ in range(2):
        ours.step(0, train=TRAIN, val=VAL)
    assert [str(one.message).partition(" (")[0] for one in recwarn] == ([] if said is None else [said])


@pytest.mark.parametrize(("rule", "warned"), [("gap", 1), ("adjusted", 0), (0.5, 0)])
def test_class_shares_that_differ_are_said_once_where_they_make_a_gap(
    rule: Any, warned: int, model: Model, recwarn: pytest.WarningsRecorder
) -> None:
    """Validation lacks the class that makes a third of 60 training rows."""
    train = DataLoader(data(10, rows=60), 20)
    val = DataLoader(Subset(data(11, rows=60), [row for row in range(60) if row % 3]), 20)
    ours = relearner(model, strength=rule)
    for epoch in (1, 2):
        ours.step(epoch, train=train, val=val)
    said = [str(one.message) for one in recwarn]
    assert len(said) == warned
    assert all("total variation distance 0.33" in one and "strength='adjusted'" in one for one in said)


def test_a_state_that_does_not_fit_changes_nothing(model: Model) -> None:
    ours = relearner(model)
    saved = copy.deepcopy(ours.state_dict())
    saved["initial"]["audio"]["0.weight"] += 1
    del saved["initial"]["visual"]["0.bias"]
    before = bits(ours.state_dict())
    with pytest.raises(KeyError, match=r"0\.bias"):
        ours.load_state_dict({**saved, "events": 2})
    assert bits(ours.state_dict()) == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible here")
def test_encoders_on_a_gpu_are_diagnosed_and_pulled_there(model: Model) -> None:
    trained(model)
    plain = relearner(model).diagnose(TRAIN, VAL)
    model.cuda()
    ours = relearner(model, strength=0.5, model=model)
    start = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.25)
        torch.cuda.manual_seed(0)
        state = torch.cuda.get_rng_state()
        with torch.autocast("cuda", torch.bfloat16):
            event = ours.step(1, train=TRAIN, val=VAL)
    assert event is not None
    assert torch.equal(torch.cuda.get_rng_state(), state)
    for name, parameter in model.named_parameters():
        moved = 0.25 if name.startswith("head") else 0.125
        torch.testing.assert_close(parameter, start[name] + moved, rtol=1e-5, atol=1e-6)
    model.load_state_dict(start)
    found = relearner(model).diagnose(TRAIN, VAL)
    for m, one in found.items():
        assert one.purity_train == pytest.approx(plain[m].purity_train, abs=2 / len(data(10)))

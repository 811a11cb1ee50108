"""What every method promises, whatever it does; a new method is covered by a row in CASES.

Each promise is tried on small runs over "toy". A run that several tests look at is trained once (`runs`); the tests of
a method follow each other (tests/methods/conftest.py), so that of several workers one trains it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from support.shared_runs import SharedRuns, events, the_modality, train
from support.training import StopAfter, StoppedError, bits, log, make_trainer, weights

import drcli
from drcli import checkpoint
from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.names import METHODS
from drcli.optim import set_learning_rates
from drcli.recipe.conflicts import unfit_for_relearning
from drcli.recipe.load import recipe_from_dict
from drcli.recipe.schema import Recipe
from drcli.relearning.features import evaluating

MODALITIES = (("audio",), ("audio", "visual"), ("audio", "visual", "text"))
SGD = {"batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
TWO_EPOCHS = {**SGD, "epochs": 2}
FOUR_EPOCHS = {**SGD, "epochs": 4, "schedule": {"name": "cosine"}}


@dataclass(frozen=True)
class Case:
    """A method as the contract tries it.

    Attributes:
        settings: its block of the recipe, so chosen that it acts within four epochs.
        still: what it must not move, of "encoders" and "fusion"; all others must move.
        fusion: the fusion that it is tried on; neutral settings are joint training on the same.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    still: frozenset[str] = frozenset()
    fusion: str = "concat"

    def moves(self, group: str) -> bool:
        """Whether it must move a group of the model's parameters: a modality's encoder, or "fusion"."""
        return ("fusion" if group == "fusion" else "encoders") not in self.still


CASES = {
    "joint": Case(),
    "unimodal": Case(),
    "diagnose_relearn": Case({"every": 1, "times": 2, "lambda": 3.0, "restarts": 2}),
    "pmr": Case({"share": 0.3, "per_weight": 0.01, "per_epochs": 2, "ends": 2}),
    "agm": Case({"ends": 2}),
    "ogm": Case({"alpha": 0.5, "ends": 2}),
    "ogm_ge": Case({"alpha": 0.5, "ends": 2}),
    "multi_loss": Case(),
    "g_blending": Case({"super_epoch": 2}),
    "ensemble": Case(still=frozenset({"encoders", "fusion"})),
    "uni_pretrained": Case(),
    "greedy": Case({"epsilon": 0.0, "window": 2, "starts": 0}, fusion="mmtm"),
    "mmpareto": Case(),
    "mlb": Case(),
    "dgl": Case(),
    "arl": Case({"starts": 1}),
    "opm": Case({"starts": 1}),
    "inforeg": Case({"threshold": -100.0}),
    "tcmax": Case(),
    "mla": Case(still=frozenset({"fusion"})),
    "reconboost": Case({"alone": 1, "together": 1, "members": "all", "hidden": 8}, still=frozenset({"fusion"})),
    "lfm": Case({"start": 0.5, "rate": 0.05, "rows": 8}),
    "smv": Case({"warmup": 1}),
    "data_remixing": Case({"warmup": 1}),
    "aug": Case({"every": 1, "tau": 0.0, "most": 3, "hidden": 8}, still=frozenset({"fusion"})),
    "di_mml": Case({"contrast_from": 1, "temperature": 2.0}),
    "umt": Case(),
    "mslr": Case({"rates": {"audio": 0.7}}),
    "g2d": Case(),
    "cggm": Case({"ends": 2}),
    "modality_dropout": Case(),
    "qmf": Case(),
    "pdf": Case(),
    "iprm": Case(),
    "amss": Case({"ends": 2}),
    "mcr": Case({"lambda": 1.0, "weight": 0.1, "permutations": 2}),
    "cml": Case({"lambda": 2.0, "reduced": 0.5}),
    "mmcosine": Case({"bias": True, "scale": 3.0}),
}

RELEARN: Mapping[str, Any] = {"every": 1, "times": 2, "lambda": 3.0, "restarts": 1}
"""The block `relearn` of a method that is tried with it too."""


def takes_relearning(name: str) -> bool:
    """Whether a method is tried once more with the block `relearn`."""
    return not unfit_for_relearning(METHODS.load(name))


@dataclass(frozen=True)
class Subject:
    """What the contract is tried on: a method, alone or with re-learning on top.

    Attributes:
        name: the method.
        relearn: whether its block has RELEARN.
    """

    name: str
    relearn: bool = False

    def __str__(self) -> str:
        return f"{self.name}+relearn" if self.relearn else self.name

    @property
    def settings(self) -> dict[str, Any]:
        """Its block of the recipe."""
        return {**CASES[self.name].settings, **({"relearn": dict(RELEARN)} if self.relearn else {})}

    @property
    def neutral(self) -> dict[str, Any] | None:
        """The block under which it is `reference`, bit for bit; None where there is none."""
        if self.relearn:
            return {**self.settings, "relearn": {**RELEARN, "lambda": 0.0}}
        neutral = METHODS.load(self.name).neutral
        return None if neutral is None else {**self.settings, **neutral}

    @property
    def reference(self) -> tuple[str, dict[str, Any]]:
        """Method and block that it is compared with: joint training; with re-learning, the method alone."""
        return (self.name, dict(CASES[self.name].settings)) if self.relearn else ("joint", {})

    def allows(self, modalities: tuple[str, ...]) -> bool:
        """Whether its mathematics allows so many modalities."""
        low, high = METHODS.load(self.name).num_modalities
        return bool(low <= len(modalities) <= (high or 99))


ALONE = [Subject(name) for name in METHODS.names()]
SUBJECTS = [*ALONE, *(Subject(name, relearn=True) for name in METHODS.names() if takes_relearning(name))]
"""With re-learning on top, what it cannot change is not tried again: numbers of modalities, accumulation, precision."""

QUICK = {"joint", "ogm_ge", "pmr", "agm", "g_blending", "reconboost", "aug", "uni_pretrained"}
"""These are tried in every test run with any number of modalities, stopped in every epoch, in another order, and with
everything that hardly depends on the method; the others only by the slow tests."""

QUICK_RELEARN = {"joint", "ogm_ge", "pmr", "aug"}
"""These are tried in every test run with re-learning on top."""


def marks(subject: Subject, *, always: bool = True) -> list[pytest.MarkDecorator]:
    """Return whether a subject is for every test run, or slow; without `always` one that is not in QUICK is slow."""
    is_quick = subject.name in QUICK_RELEARN if subject.relearn else always or subject.name in QUICK
    return [] if is_quick else [pytest.mark.slow]


every_method = pytest.mark.parametrize("name", METHODS.names())


def of(subjects: Iterable[Subject], *, always: bool = True) -> pytest.MarkDecorator:
    """Some of the subjects; without `always`, what is not in QUICK is slow."""
    tried = [pytest.param(s, id=str(s), marks=marks(s, always=always)) for s in subjects]
    return pytest.mark.parametrize("subject", tried)


every_subject = of(SUBJECTS)


def allowed(
    subjects: Iterable[Subject], numbers: tuple[tuple[str, ...], ...], *, always: bool = True
) -> pytest.MarkDecorator:
    """Pairs of a subject and modalities that its mathematics allows; with re-learning on top, the first of these."""
    pairs = []
    for subject in subjects:
        fitting = [modalities for modalities in numbers if subject.allows(modalities)]
        tried = fitting[:1] if subject.relearn else fitting
        for ms in tried:
            marked = marks(subject, always=always and len(ms) == 2)
            pairs.append(pytest.param(subject, ms, id=f"{subject}-{len(ms)}", marks=marked))
    return pytest.mark.parametrize(("subject", "modalities"), pairs)


Make = Callable[..., Recipe]


@pytest.fixture
def recipe(toy_dict: Callable[..., dict[str, Any]]) -> Make:
    """Makes the recipe of a subject; `method` is another method and its block, on the subject's fusion."""

    def make(
        subject: Subject,
        modalities: tuple[str, ...] = MODALITIES[1],
        method: tuple[str, Mapping[str, Any]] | None = None,
        **blocks: Any,
    ) -> Recipe:
        name, settings = method or (subject.name, subject.settings)
        common = {
            "method": name,
            "methods": {name: settings},
            "fusion": CASES[subject.name].fusion,
            "training": FOUR_EPOCHS,
        }
        return recipe_from_dict({**toy_dict(modalities), **common, **blocks}, where="the test's recipe")

    return make


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> SharedRuns:
    return SharedRuns(tmp_path_factory.mktemp("runs"))


def begun(recipe: Recipe, folder: Path, **options: Any) -> Trainer:
    return make_trainer(recipe, folder, modality=the_modality(recipe), **options)


def test_every_method_has_a_case() -> None:
    assert set(CASES) == set(METHODS.names())


@allowed(ALONE, MODALITIES)
def test_trains_what_it_declares_and_nothing_else(
    subject: Subject, modalities: tuple[str, ...], recipe: Make, runs: SharedRuns
) -> None:
    found = runs(recipe(subject, modalities, training=TWO_EPOCHS))
    assert found.moved() == {
        group: [CASES[subject.name].moves(group)] * len(found.groups[group]) for group in found.groups
    }
    assert [line["epoch"] for line in found.metrics] == [0, 1][: found.num_epochs]
    assert METHODS.load(subject.name).moves


@every_subject
def test_training_does_not_open_the_test_split(subject: Subject, recipe: Make, runs: SharedRuns) -> None:
    """Neither through the dataset, nor past it by the names of its files."""
    made = recipe(subject)
    found = runs(made)
    assert sorted(found.opened) == ["train", "val"]
    assert [file for file in found.files if file.is_relative_to(Path(made.dataset.root) / "test")] == []
    assert any(file.is_relative_to(found.trainer.directory.folder) for file in found.files)  # it does listen


@every_subject
def test_state_survives_a_checkpoint(subject: Subject, recipe: Make, runs: SharedRuns) -> None:
    made = recipe(subject)
    trainer = runs(made).trainer
    written = trainer.state()
    again = begun(made, trainer.directory.folder)
    assert bits(again.state()) != bits(written)
    again.resume()
    again.ctx.epoch = trainer.ctx.epoch  # set by the next epoch, like the rate
    set_learning_rates(again.ctx.optimizer, again.ctx.training.schedule, again.ctx.epoch, again.ctx.epochs)
    assert bits(again.state()) == bits(written)
    assert bits(checkpoint.load(trainer.directory.last)) == {"checkpoint_version": 1, **bits(written)}


@of(ALONE)
def test_a_loaded_model_predicts_what_the_trained_one_does(subject: Subject, recipe: Make, runs: SharedRuns) -> None:
    """From the weights alone: whatever a prediction needs must be among them, not in the state of the method."""
    trainer = runs(recipe(subject)).trainer
    loaded = drcli.load(trainer.directory.last)
    batch = next(trainer.ctx.val.in_order(8))
    with torch.no_grad(), evaluating(trainer.assembly.model, trainer.assembly.extras):
        expected = trainer.assembly.method.predict(trainer.assembly.model, batch)
    assert bits(loaded.predict(batch.inputs, batch.lengths).logits) == bits(expected.logits)


@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("adamw", marks=pytest.mark.slow)])
@of(SUBJECTS, always=False)
def test_resumed_run_equals_an_uninterrupted_one(
    subject: Subject, optimizer: str, recipe: Make, runs: SharedRuns, tmp_path: Path
) -> None:
    """It is stopped in every epoch but the first, and resumed each time from what it was resumed to before."""
    made = recipe(subject, training={**FOUR_EPOCHS, "optimizer": {"name": optimizer, "lr": 0.05}})
    whole = runs(made)
    for epoch in range(1, whole.num_epochs):
        stopped = begun(made, tmp_path, listener=StopAfter(1))
        stopped.resume()
        assert stopped.next_epoch == epoch - 1
        with pytest.raises(StoppedError):
            stopped.train()
    last = begun(made, tmp_path)
    last.resume()
    assert last.next_epoch == whole.num_epochs - 1
    last.train()
    assert bits(weights(last)) == whole.bits
    assert log(tmp_path / "metrics.jsonl") == whole.metrics
    assert events(tmp_path) == whole.events
    for file in ("checkpoint.pt", "last.pt"):
        ours, theirs = (checkpoint.load(folder / file) for folder in (tmp_path, whole.trainer.directory.folder))
        assert bits({**ours, "seconds": 0}) == bits({**theirs, "seconds": 0})


@of(ALONE, always=False)
def test_the_same_run_gives_the_same_bits(subject: Subject, recipe: Make, runs: SharedRuns, tmp_path: Path) -> None:
    first, second = runs(recipe(subject)), train(recipe(subject), tmp_path)
    assert second.bits == first.bits
    assert second.metrics == first.metrics
    assert second.events == first.events


@of(ALONE, always=False)
def test_another_seed_gives_other_bits(subject: Subject, recipe: Make, runs: SharedRuns) -> None:
    short, other = (runs(recipe(subject, seeds=[seed], training=TWO_EPOCHS)) for seed in (0, 1))
    assert short.bits != other.bits


@every_method
def test_other_numbers_of_modalities_are_refused(name: str, recipe: Make) -> None:
    for modalities in MODALITIES:
        if not Subject(name).allows(modalities):
            with pytest.raises(RecipeError, match=rf"methods\.{name}.*takes .* modalities.*, the recipe has"):
                recipe(Subject(name), modalities)


@allowed([s for s in SUBJECTS if s.neutral is not None], MODALITIES[1:])
def test_neutral_settings_are_the_reference_bit_for_bit(
    subject: Subject, modalities: tuple[str, ...], recipe: Make, runs: SharedRuns
) -> None:
    """A method's are joint training; those of re-learning are the method alone."""
    ours = runs(recipe(subject, modalities, (subject.name, subject.neutral)))
    reference = runs(recipe(subject, modalities, subject.reference))
    assert ours.bits == reference.bits
    assert ours.evaluations == reference.evaluations


@of(s for s in SUBJECTS if s.relearn or METHODS.load(s.name).neutral)
def test_settings_that_are_not_neutral_are_not_the_reference(subject: Subject, recipe: Make, runs: SharedRuns) -> None:
    """Else the test above could not fail."""
    assert runs(recipe(subject)).bits != runs(recipe(subject, method=subject.reference)).bits


@allowed([s for s in SUBJECTS if not METHODS.load(s.name).per_modality], MODALITIES[1:], always=False)
def test_permuting_the_modalities_permutes_the_coefficients(
    subject: Subject, modalities: tuple[str, ...], recipe: Make, tmp_path: Path
) -> None:
    """From the same weights, the modalities named in another order: one epoch; with re-learning, one after it too."""
    fusion = CASES[subject.name].fusion.replace("concat", "sum")
    training = {**SGD, "epochs": 3 if subject.relearn else 1}
    trainers = [
        begun(recipe(subject, order, fusion=fusion, training=training), tmp_path / order[0])
        for order in (modalities, modalities[::-1])
    ]
    first, second = trainers
    second.assembly.model.load_state_dict(first.assembly.model.state_dict())
    second.assembly.extras.load_state_dict(first.assembly.extras.state_dict())
    for trainer in trainers:
        trainer.train()
    one, other = (log(trainer.directory.folder / "metrics.jsonl") for trainer in trainers)
    for ours, theirs in zip(one, other, strict=True):
        assert ours["train"].keys() == theirs["train"].keys()
        for scalar, value in ours["train"].items():
            assert theirs["train"][scalar] == pytest.approx(value, rel=1e-4, abs=1e-6), scalar
        assert theirs["val"]["loss"] == pytest.approx(ours["val"]["loss"], rel=1e-4)
    pulled = [
        {m: found["strength"] for event in events(trainer.directory.folder) for m, found in event["modalities"].items()}
        for trainer in trainers
    ]
    assert pulled[1] == pytest.approx(pulled[0], rel=1e-4, abs=1e-6)
    assert subject.relearn <= (len(pulled[0]) > 0)


@pytest.mark.parametrize("training", [{"accumulate": 3}, {"precision": "bf16"}], ids=str)
@of(ALONE, always=False)
def test_accumulated_gradients_and_bf16_train_too(
    subject: Subject, training: dict[str, Any], recipe: Make, runs: SharedRuns
) -> None:
    found = runs(recipe(subject, training={**TWO_EPOCHS, **training}))
    last = found.metrics[-1]
    assert math.isfinite(last["train"]["loss"])
    assert all(tensor.dtype in {torch.float32, torch.int64} for tensor in weights(found.trainer).values())
    assert (found.bits != found.initial) == (CASES[subject.name].still != {"encoders", "fusion"})
    plain = runs(recipe(subject, training=TWO_EPOCHS))
    assert plain.metrics[-1]["val"]["loss"] == pytest.approx(last["val"]["loss"], rel=0.5)


@pytest.mark.parametrize("name", [n for n in METHODS.names() if METHODS.load(n).neutral is None])
def test_a_method_without_neutral_settings_says_why(name: str) -> None:
    assert len(METHODS.load(name).neutral_reason.split()) > 3


@of(ALONE, always=False)
def test_a_diagnosis_that_changes_nothing_changes_nothing(subject: Subject, recipe: Make, runs: SharedRuns) -> None:
    """Neither a weight nor the order of the data that follows it."""
    plain = runs(recipe(subject))
    monitored = runs(recipe(subject, diagnosis={"monitor_every": 2, "restarts": 1}))
    monitors = [event["epoch"] for event in monitored.events if event["kind"] == "monitor"]
    assert monitors == list(range(0, plain.num_epochs, 2))
    assert [event for event in monitored.events if event["kind"] != "monitor"] == plain.events
    assert monitored.orders == plain.orders
    assert len({tuple(order) for order in plain.orders}) == len(plain.orders)
    assert monitored.bits == plain.bits
    assert monitored.metrics == plain.metrics

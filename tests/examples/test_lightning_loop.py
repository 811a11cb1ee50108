"""The callback for Lightning does what the plain loop does, resumes from any checkpoint, and leaves no other trace."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from support.examples import EXAMPLES, Parts, as_drcli_names, comparable, example
from support.training import bits, trained, weights
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("lightning") is None, reason="the package lightning is not installed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:`isinstance:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:Checkpoint directory"),
    pytest.mark.filterwarnings("ignore:GPU available but not used", "ignore:You defined a `validation_step`"),
]

QUIET = {
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}
RELEARN: dict[str, Any] = {"every": 1, "times": 2, "restarts": 2}


@pytest.fixture(scope="module")
def loop() -> Any:
    """The example; Lightning is imported here, and not where tests are collected."""
    return example("lightning_loop")


def small(loop: Any) -> Any:
    torch.manual_seed(0)
    return loop.TwoEncoders(nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(10, 3))


def rows(seed: int, *, shuffle: bool = False, count: int = 24) -> DataLoader[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    inputs = [torch.randn(count, 4, generator=generator) + labels[:, None] for _ in range(2)]
    return DataLoader(TensorDataset(*inputs, labels), batch_size=7, shuffle=shuffle)


def fit(loop: Any, module: Any, callback: Any, **arguments: Any) -> None:
    trainer = loop.Trainer(max_epochs=3, accelerator="cpu", callbacks=[callback], **QUIET, **arguments)
    trainer.fit(module, rows(0), rows(1))


@pytest.mark.slow
def test_it_ends_with_the_weights_of_drcli_train(
    loop: Any, toy_dict: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """And so with those of the plain loop, see test_plain_loop.py; a callback seeds the order of each epoch."""
    recipe = comparable(toy_dict())
    parts = Parts.of(recipe, tmp_path / "parts")

    class Reseed(loop.Callback):  # type: ignore[misc]
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            parts.seed(trainer.current_epoch + 1)  # before the loader's next pass begins

    parts.seed(0)
    module = loop.TwoEncoders(parts.audio, parts.visual, parts.head)
    callback = loop.train(module, parts.train, parts.val, epochs=4, callbacks=[Reseed()], **RELEARN)
    assert [(event.epoch, event.number) for event in callback.events] == [(1, 1), (2, 2)]
    assert any(one.strength > 0 for event in callback.events for one in event.found.values())
    assert bits(as_drcli_names(module.state_dict())) == bits(weights(trained(recipe, tmp_path / "run")))


@pytest.mark.parametrize("saved", ["on_validation_end", "on_train_epoch_end"])
def test_it_resumes_from_checkpoints_before_and_after_its_event(saved: str, loop: Any, tmp_path: Path) -> None:
    class Save(loop.Callback):  # type: ignore[misc]
        def save(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 1:
                trainer.save_checkpoint(tmp_path / "saved.ckpt")

    setattr(Save, saved, Save.save)
    whole = small(loop)
    settings = {**RELEARN, "strength": 0.5, "epochs": 4, "folder": tmp_path}
    loop.train(whole, rows(0), rows(1), callbacks=[Save()], **settings)
    resumed = small(loop)
    callback = loop.train(resumed, rows(0), rows(1), checkpoint=tmp_path / "saved.ckpt", **settings)
    happened = [(1, 1), (2, 2)] if saved == "on_validation_end" else [(2, 2)]
    assert [(event.epoch, event.number) for event in callback.events] == happened
    assert bits(resumed.state_dict()) == bits(whole.state_dict())


def test_an_event_that_pulls_nothing_changes_nothing(loop: Any) -> None:
    found = []
    for times in (0, 2):
        module = small(loop)
        with pytest.warns(UserWarning, match="no re-learning") if times == 0 else nullcontext():
            loop.train(module, rows(0, shuffle=True), rows(1), epochs=4, every=1, times=times, lambda_=0.0)
        found.append(bits(module.state_dict()))
    assert found[0] == found[1]


def test_gaps_and_strengths_are_logged(loop: Any) -> None:
    seen: dict[str, Tensor] = {}

    class Look(loop.Callback):  # type: ignore[misc]
        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            seen.update(trainer.callback_metrics)

    module = small(loop)
    callback = loop.train(module, rows(0), rows(1), epochs=3, every=1, times=1, callbacks=[Look()])
    (event,) = callback.events
    for m, one in event.found.items():
        logged = [float(seen[f"relearn/{m}/{name}"]) for name in ("gap", "gap_above_floor", "strength")]
        assert logged == pytest.approx([one.gap, one.gap_above_floor, one.strength])


def test_encoders_loaders_and_batches_may_be_of_any_kind(loop: Any) -> None:
    """Encoders by a function, rows given, the labels first: it is run by `run`."""
    module = small(loop)
    given = [(y, a, v) for a, v, y in rows(0)], [(y, a, v) for a, v, y in rows(1)]

    def run(module: Any, batch: Any) -> Tensor:
        labels, *inputs = batch
        module(*inputs)
        return torch.as_tensor(labels)

    callback = loop.RelearnCallback(
        lambda module: {"audio": module.audio}, train=given[0], val=given[1], run=run, every=1, times=1, lambda_=0.0
    )
    fit(loop, module, callback)
    (event,) = callback.events
    (other,) = loop.train(small(loop), rows(0), rows(1), epochs=3, every=1, times=1, lambda_=0.0).events
    assert event.found == {"audio": other.found["audio"]}


@pytest.mark.parametrize(("precision", "weights"), [("bf16-mixed", torch.float32), ("bf16-true", torch.bfloat16)])
def test_the_diagnosis_computes_in_the_precision_of_the_trainer(
    precision: str, weights: torch.dtype, loop: Any
) -> None:
    module, seen = small(loop), set()
    module.audio.register_forward_hook(lambda _module, _inputs, output: seen.add(output.dtype))
    callback = loop.RelearnCallback({"audio": "audio", "visual": "visual"}, every=1, times=1, strength=0.5)
    fit(loop, module, callback, precision=precision)
    assert len(callback.events) == 1
    assert seen == {torch.bfloat16}
    assert {parameter.dtype for parameter in module.parameters()} == {weights}


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"val_loader": None}, ValueError, "there is no validation loader"),
        ({"val_loader": [rows(1), rows(1)]}, ValueError, "the trainer has 2 loaders of val rows.*val="),
        ({"every": 0}, ValueError, "every"),
    ],
)
def test_what_cannot_be_diagnosed_is_refused(change: dict[str, Any], error: type, said: str, loop: Any) -> None:
    arguments = {"train_loader": rows(0), "val_loader": rows(1), "epochs": 3, "every": 1, "times": 1, **change}
    module = small(loop)
    module.validation_step = lambda batch, batch_idx, dataloader_idx=0: None
    with pytest.raises(error, match=said):
        loop.train(module, **arguments)


def test_an_encoder_that_is_not_there_is_refused(loop: Any) -> None:
    with pytest.raises(AttributeError, match="sound"):
        fit(loop, small(loop), loop.RelearnCallback({"audio": "sound"}))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:It is recommended to use")
def test_two_processes_pull_by_one_diagnosis_of_all_rows(loop: Any, tmp_path: Path) -> None:
    """25 rows, which Lightning deals to two processes as 13 and 13."""

    class Write(loop.Callback):  # type: ignore[misc]
        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            found = {"events": [str(event) for event in relearning.events], "weights": bits(pl_module.state_dict())}
            rows = {one.num_train for event in relearning.events for one in event.found.values()}
            (tmp_path / f"{trainer.global_rank}.txt").write_text(repr((rows, found)))

    relearning = loop.RelearnCallback({"audio": "audio", "visual": "visual"}, **RELEARN)
    trainer = loop.Trainer(
        max_epochs=4, accelerator="cpu", devices=2, strategy="ddp_fork", callbacks=[relearning, Write()], **QUIET
    )
    trainer.fit(small(loop), rows(0, shuffle=True, count=25), rows(1, count=25))
    ours, theirs = ((tmp_path / f"{rank}.txt").read_text() for rank in (0, 1))
    assert ours == theirs
    assert ours.startswith("({25}, ")
    assert "epoch 2: re-learning 2" in ours


@pytest.mark.parametrize("package", ["lightning", "pytorch_lightning", "transformers", "accelerate"])
def test_no_other_part_of_drcli_imports_the_packages_of_others(package: str) -> None:
    files = [path for path in (EXAMPLES.parents[1] / "drcli").rglob("*.py") if path.parent.name != "integrations"]
    line = re.compile(rf"^\s*(import|from) {package}\b", re.MULTILINE)
    assert len(files) > 50
    assert [path for path in files if line.search(path.read_text())] == []


def test_without_either_package_the_message_says_what_to_install(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lightning.pytorch", "lightning", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'drcli\[lightning\]'"):
        sys.modules["drcli.integrations.lightning"]._callback_class()

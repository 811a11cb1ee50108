"""Every setting of every block is described and, if it is a number, bounded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from drcli.commands.listing import REGISTRIES
from drcli.commands.show import markdown
from drcli.errors import RecipeError, UsageError
from drcli.recipe.explain import Registries, Section, everything, sections, select, within
from drcli.recipe.load import load_recipe
from drcli.recipe.schema import plain
from drcli.recipe.shape import Schema, Shape, shape_of
from drcli.recipe.shipped import find_recipe
from drcli.recipe.source import parse_value
from drcli.recipe.text import Key, dotted, spelled
from drcli.recipe.validate import validate_settings
from drcli.registry import Entry, Registry

ALL = Registries(**{kind: REGISTRIES[kind] for kind in ("datasets", "backbones", "fusions", "methods")})

UNBOUNDED: dict[str, str] = {}
"""Numbers without a smallest and a largest value, and why."""


@cache
def known() -> list[Section]:
    return list(sections(ALL, everything(ALL)))


def title(section: Section) -> str:
    return f"{section.path} {section.choice}".strip()


def numbers() -> Iterator[tuple[str, type[BaseModel], Key, Schema]]:
    for section in known():
        if section.model is not None:
            for key, schema in shape_of(section.model).numbers():
                yield f"{title(section)} {'.'.join(map(str, key))}", section.model, key, schema


def test_every_setting_has_a_description_in_one_line() -> None:
    missing = [
        section.dotted(setting)
        for section in known()
        for setting in section.settings
        if len(setting.description) < 8 or "\n" in setting.description or setting.description.endswith(".")
    ]
    assert missing == []
    assert sum(len(section.settings) for section in known()) > 100


def test_every_number_has_a_smallest_and_a_largest_value() -> None:
    open_ended = [name for name, _, _, schema in numbers() if not closed(schema)]
    assert open_ended == list(UNBOUNDED)


def closed(schema: Schema) -> bool:
    return "enum" in schema or all(map(math.isfinite, low_and_high(schema)))


def low_and_high(schema: Schema) -> tuple[float, float]:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -math.inf))
    return low, schema.get("maximum", schema.get("exclusiveMaximum", math.inf))


def test_a_number_beyond_its_range_is_refused_in_one_line_with_key_value_and_range() -> None:
    for name, model, key, schema in numbers():
        if "enum" in schema:
            continue
        low, high = low_and_high(schema)
        words = Shape.of(schema).range()
        assert words, name
        for value in (max(2 * high, 1) + 1, 1e300, low - 1):
            wrong = int(min(value, 2**66)) if schema["type"] == "integer" else value
            with pytest.raises(RecipeError) as caught:
                validate_settings(model, {**required(model), **nested(key, wrong, low)}, where="settings")
            start, end = f"  {dotted(key)} = {spelled(wrong)}   must be ", f"must be {words}"
            lines = str(caught.value).splitlines()
            assert [line for line in lines if line.startswith(start) and line.endswith(end)], name


def required(model: type[BaseModel]) -> dict[str, Any]:
    """What a model's block must hold."""
    values: dict[str, Any] = {"lr": 0.1, "every": 1, "epochs": 1, "name": "x", "method": "x", "snr_db": 0}
    values |= {"low": 0, "high": 1, "model": "resnet18", "path": "my_package.encoders:Audio"}
    schema = model.model_json_schema(by_alias=True)
    return {name: values[name] for name in schema.get("required", ())}


def nested(key: Key, value: Any, other: float) -> dict[str, Any]:
    """A block with a value at a key; a list of two has an allowed item beside it."""
    name, *inside = key
    for part in inside:
        pair = name in {"betas", "frame_size"}
        items = [other] * 2 if pair else [other]
        value = {part: value} if isinstance(part, str) else [*items[:part], value, *items[part + 1 :]]
    return {str(name): value}


def test_the_documentation_holds_what_the_code_says() -> None:
    path = Path(__file__).parents[2] / "docs" / "recipe.md"
    assert path.read_text(encoding="utf-8") == markdown(known()), (
        "docs/recipe.md is old: python -m drcli.commands.show > docs/recipe.md"
    )


def test_defaults_are_those_that_a_block_without_keys_gets() -> None:
    for section in known():
        if section.model is None or required(section.model):
            continue
        stored = {key: value for key, value in plain(section.model()).items() if key != "name"}
        defaults = {setting.name: setting.default for setting in section.settings}
        assert {key: parse_value(defaults[key]) for key in stored} == stored, title(section)


def test_what_has_no_default_is_said_to_be_required() -> None:
    own = {title(section): section for section in known()}
    assert {setting.name: setting.default for setting in own["training.optimizer name: sgd"].settings} == {
        "lr": "required",
        "momentum": "0.9",
        "weight_decay": "0.0001",
        "nesterov": "false",
    }


def of_digits() -> list[Section]:
    recipe = load_recipe(find_recipe("digits"))
    return list(sections(ALL, within(recipe, ALL)))


def named(key: str) -> dict[str, list[str]]:
    return {title(section): [setting.name for setting in section.settings] for section in select(of_digits(), key)}


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("seeds", {"": ["seeds"]}),
        ("training.optimizer.nesterov", {"training.optimizer name: sgd": ["nesterov"]}),
        (
            "training.optimizer.betas",
            {"training.optimizer name: adam": ["betas"], "training.optimizer name: adamw": ["betas"]},
        ),
        ("methods.diagnose_relearn.lambda", {"methods.diagnose_relearn method: diagnose_relearn": ["lambda"]}),
        ("methods.uni_frozen.encoders", {"methods.uni_frozen method: uni_pretrained": ["encoders"]}),
        ("modalities.audio.width", {"modalities.audio backbone: resnet_small": ["width"]}),
        ("modalities.audio.backbone", {"modalities.audio": ["backbone"]}),
        ("dataset.prepare.draws", {"dataset.prepare dataset.name: digits": ["draws"]}),
        ("corrupt.visual.snr_db", {"corrupt.visual": ["snr_db"]}),
        ("fusion.gate_scale", {"fusion name: mmtm": ["gate_scale"]}),
    ],
)
def test_a_key_finds_its_setting(key: str, found: dict[str, list[str]]) -> None:
    assert named(key) == found


def test_a_block_finds_all_that_is_in_it() -> None:
    assert list(named("training.schedule")) == [
        "training.schedule",
        "training.schedule name: constant",
        "training.schedule name: step",
        "training.schedule name: linear",
        "training.schedule name: cosine",
    ]
    assert len(named("training")) == 10


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "training.optimizer.lrr",
            (
                "--explain training.optimizer.lrr: unknown key; training.optimizer has: name, lr, momentum, "
                "weight_decay, nesterov, betas, eps. Did you mean training.optimizer.lr?"
            ),
        ),
        (
            "modalities.audoi.width",
            (
                "--explain modalities.audoi.width: unknown key; modalities has: audio, visual. "
                "Did you mean modalities.audio.width?"
            ),
        ),
        (
            "zzz",
            (
                "--explain zzz: unknown key; a recipe has: name, task, loss, method, selection, monitor, seeds, log, "
                "dataset, modalities, corrupt, fusion, methods, training, diagnosis, search."
            ),
        ),
    ],
)
def test_an_unknown_key_is_refused_with_its_neighbours_and_the_nearest_spelling(key: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        select(of_digits(), key)
    assert str(caught.value) == message


def test_classes_that_do_not_load_or_have_no_settings_do_not_stop_the_rest() -> None:
    class Bare:
        pass

    class Table(Registry):
        def load(self, name: str) -> Any:
            if name == "broken":
                raise UsageError("fusion 'broken' does not load: no such module")
            return Bare

    entries = {"broken": Entry("", "of somebody else"), "bare": Entry("", "without settings")}
    theirs = Registries(ALL.datasets, ALL.backbones, Table("fusion", entries, group="drcli.none"), ALL.methods)
    found = {title(section): section for section in sections(theirs, everything(theirs))}
    assert found["fusion name: broken"].summary == "fusion 'broken' does not load: no such module"
    assert found["fusion name: bare"].settings == ()
    assert "diagnosis" in found


def test_bars_and_angle_brackets_do_not_break_the_documentation() -> None:
    text = markdown(known())
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {row.replace("\\|", "").count("|") for row in rows} == {6}
    assert "abs: \\|train - validation\\|" in text
    assert "data/&lt;name>" in text

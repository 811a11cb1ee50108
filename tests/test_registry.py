"""Names and the classes behind them."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from drcli.errors import UsageError
from drcli.registry import Entry, Registry, known


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Two names of ours, and three of other packages: a good one, one that does not import, and a clash."""
    theirs = [
        EntryPoint("theirs", "drcli.models.backbone:Backbone", "drcli.things"),
        EntryPoint("broken", "no_such_package.module:Thing", "drcli.things"),
        EntryPoint("ours", "collections:Counter", "drcli.things"),
    ]
    monkeypatch.setattr("drcli.registry.installed", lambda: EntryPoints(theirs))
    entries = {"ours": Entry("fractions:Fraction", "a fraction"), "other": Entry("no_module:Nothing", "nothing")}
    return Registry("thing", entries, group="drcli.things")


def test_our_names_come_first_and_win(registry: Registry) -> None:
    from fractions import Fraction

    assert registry.names() == ["ours", "other", "theirs", "broken"]
    assert registry.load("ours") is Fraction
    assert registry.summary("ours") == "a fraction"


def test_year_and_modalities_are_told_where_an_entry_has_them() -> None:
    entries = {"new": Entry("a:B", "new", 2025, "2+"), "old": Entry("a:C", "old")}
    registry = Registry("thing", entries, group="drcli.nothing")
    assert [registry.columns(name) for name in ("new", "old", "of another package")] == [
        ("2025", "2+"),
        ("", ""),
        ("", ""),
    ]


def test_other_packages_join_through_entry_points(registry: Registry) -> None:
    from drcli.models.backbone import Backbone

    assert registry.load("theirs") is Backbone
    assert registry.summary("theirs") == "from drcli.models.backbone:Backbone"


def test_an_unknown_name_is_refused_with_the_nearest(registry: Registry) -> None:
    with pytest.raises(UsageError) as caught:
        registry.load("thiers")
    assert str(caught.value) == ("unknown thing 'thiers'; known: ours, other, theirs, broken. Did you mean theirs?")
    assert caught.value.exit_code == 2


def test_a_package_that_does_not_import_is_a_message_that_names_it(registry: Registry) -> None:
    with pytest.raises(UsageError, match=r"thing 'broken' \(from no_such_package.module:Thing\) does not load: No"):
        registry.load("broken")


def test_names_are_listed_without_importing_what_stands_behind_them(registry: Registry) -> None:
    sys.modules.pop("no_module", None)
    assert [registry.summary(name) for name in registry.names()][1] == "nothing"


def test_without_a_near_name_nothing_is_guessed() -> None:
    assert known("zzz", ["audio", "visual"]) == "known: audio, visual."
    assert known("visul", ["audio", "visual"]) == "known: audio, visual. Did you mean visual?"


class Mine:
    """A class of a notebook."""


def test_a_name_is_registered_until_the_block_ends(registry: Registry) -> None:
    with registry.registered("mine", Mine, "my own"):
        assert registry.names() == ["ours", "other", "mine", "theirs", "broken"]
        assert registry.load("mine") is Mine
        assert registry.summary("mine") == "my own"
    assert registry.names() == ["ours", "other", "theirs", "broken"]
    with pytest.raises(UsageError, match="unknown thing 'mine'"):
        registry.load("mine")


def test_a_registered_class_may_be_named_by_its_module_and_replace_another(registry: Registry) -> None:
    from collections import Counter
    from fractions import Fraction

    with registry.registered("ours", "collections:Counter"):
        assert registry.load("ours") is Counter
    assert registry.load("ours") is Fraction


def test_a_registered_name_goes_even_where_the_block_fails(registry: Registry) -> None:
    with pytest.raises(ZeroDivisionError), registry.registered("mine", Mine):
        raise ZeroDivisionError
    assert "mine" not in registry.names()

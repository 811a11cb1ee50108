"""Events reach every listener, in order."""

from __future__ import annotations

from typing import get_args

from drcli.watch import events
from drcli.watch.events import Event, Listener, Listeners, Note, RowsDone


class Ear(Listener):
    def __init__(self, number: int, heard: list[tuple[int, object]]) -> None:
        self.number, self.heard = number, heard

    def on(self, event: Event) -> None:
        self.heard.append((self.number, event))

    def close(self) -> None:
        self.heard.append((self.number, "closed"))


def test_listeners_hear_everything_in_order() -> None:
    heard: list[tuple[int, object]] = []
    both = Listeners(Ear(1, heard), Ear(2, heard), Listener())
    both.on(RowsDone(3))
    both.on(Note("text"))
    both.close()
    expected = [RowsDone(3), Note("text"), "closed"]
    assert heard == [(number, event) for event in expected for number in (1, 2)]


def test_events_cannot_be_changed() -> None:
    kinds = get_args(events.Event)
    assert len(kinds) == 7
    assert all(kind.__dataclass_params__.frozen for kind in kinds)

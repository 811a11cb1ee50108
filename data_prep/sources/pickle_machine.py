"""The machine that the instructions of a pickle work on: a stack and a memo.

It makes text, bytes, numbers, lists, tuples, dicts and sets, and calls nothing but the functions of
`pickle_calls`, which make arrays. Nothing is imported, no attribute is set, no instance of any other class
is made. What it makes is bounded: objects, nesting, and how often a value may be repeated. A list or a dict
cannot be changed once it is in another, so that nothing holds itself.

Long bytes stay in the file, which is mapped into memory: arrays are made of them where they lie. They are copied where
they are put into anything but the state of an array.
"""

from __future__ import annotations

from collections.abc import Iterable
from mmap import mmap
from typing import Any

import numpy as np

from data_prep.sources.pickle_calls import Global, keys
from data_prep.sources.pickle_values import SCALARS, Payload, PlainDtype, RefusedError, Unset, copied

MOST_OBJECTS = 10**6
"""Containers, and entries of the memo; a pickle of arrays has some ten for a segment."""
MOST_NESTED = 50
MOST_ITEMS = 10**7
"""Items of all containers, each counted as often as it is reached from the outermost."""
LONG = 2**16
"""Bytes from which on they are not copied out of the file."""

_CONTAINERS = (list, dict, tuple, set, frozenset)


class _Facts:
    """What is known of a container: itself, how deep it nests, how many items it has in all."""

    __slots__ = ("depth", "is_sealed", "items", "value")

    def __init__(self, value: Any) -> None:
        self.value, self.depth, self.items, self.is_sealed = value, 1, 0, False


class Machine:
    """One pickle.

    Args:
        content: the file, mapped so that writing changes memory alone.
    """

    def __init__(self, content: mmap) -> None:
        self._content, self._view = content, memoryview(content)
        self._place, self._size = 0, len(content)
        self._budget = 4 * self._size + 2**16  # bytes that arrays and encoded text may take together
        self._copied = 0  # items of lists that were made into sets and dicts
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._unset: dict[int, list[int]] = {}  # entries of the memo, by the array without its state
        self._facts: dict[int, _Facts] = {}

    def result(self) -> Any:
        """The only value that is left, at the end of the file."""
        (value,) = self._stack
        if self._place < self._size:
            raise ValueError(f"{self._size - self._place} bytes after its end")
        return self._used(value)

    # What follows an instruction in the file

    def take(self, count: int) -> bytes:
        """The next bytes of the file."""
        return self._content[self._passed(count) : self._place]

    def payload(self, width: int, *, is_text: bool = False) -> Any:
        """Bytes whose number, of `width` bytes, comes before them; long ones as a `Payload`.

        Args:
            width: bytes of that number.
            is_text: whether they are text, byte by byte (Latin-1), as Python 2 has it.
        """
        count = int.from_bytes(self.take(width), "little")
        payload = Payload(self._view[self._passed(count) : self._place], is_text)
        return payload if count >= LONG else payload.copy()

    def counted(self, width: int) -> bytes:
        """Bytes whose number, of `width` bytes, comes before them."""
        return self.take(int.from_bytes(self.take(width), "little"))

    def line(self) -> bytes:
        """The next line, without its end."""
        end = self._content.find(b"\n", self._place)
        if end < 0:
            raise EOFError("a line without its end")
        return self.take(end + 1 - self._place)[:-1]

    def _passed(self, count: int) -> int:
        """Go on by that many bytes; returns where they begin."""
        start, left = self._place, self._size - self._place
        if count > left:
            raise EOFError(f"{count} bytes wanted, {left} are left")
        self._place += count
        return start

    # The stack

    def pop(self) -> Any:
        """The value on top, which must be above the last mark."""
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise LookupError("a value is missing")
        return self._stack.pop()

    def pop_to_mark(self) -> list[Any]:
        """The values above the last mark."""
        start = self._marks.pop()
        above = self._stack[start:]
        del self._stack[start:]
        return above

    def top(self, kinds: tuple[type, ...]) -> Any:
        """The value on top, of one of some types; it stays."""
        value = self.pop()
        if type(value) not in kinds:
            raise TypeError(f"{type(value).__name__} in place of {kinds[0].__name__}")
        self._stack.append(value)
        return value

    def push(self, value: Any) -> None:
        """Put a value that holds no others on top."""
        self._stack.append(value)

    def put(self, container: Any, items: Iterable[Any] = ()) -> None:
        """Put a new container on top, with the items that it holds."""
        if len(self._facts) >= MOST_OBJECTS:
            raise RefusedError(f"more than {MOST_OBJECTS:,} containers")
        self._facts[id(container)] = _Facts(container)
        self._note(container, items)
        self._stack.append(container)

    def mark(self) -> None:
        """Begin a group of values."""
        self._marks.append(len(self._stack))

    def drop_mark(self) -> None:
        """Drop the values above the last mark."""
        self.pop_to_mark()

    def again(self) -> None:
        """Put the value on top there once more."""
        self._stack.append(self._used(self.top((*_CONTAINERS, *SCALARS, Payload, np.ndarray, Global))))

    # The memo

    def remember(self, index: int | None) -> None:
        """Note the value on top in the memo; None takes the next number."""
        if len(self._memo) >= MOST_OBJECTS:
            raise RefusedError(f"more than {MOST_OBJECTS:,} entries of the memo")
        value = self.pop()
        self._stack.append(value)
        place = len(self._memo) if index is None else index
        self._memo[place] = value
        if type(value) is Unset:
            self._unset.setdefault(id(value), []).append(place)

    def recall(self, index: int) -> None:
        """Put a value of the memo on top."""
        value = self._memo[index]
        self._stack.append(value if type(value) is Payload else self._used(value))

    def _used(self, value: Any) -> Any:
        """A value that is used for something else than an array's state: no array without one, no part of the file."""
        if type(value) is Unset:
            raise ValueError("an array without its elements")
        return copied(value)

    # Containers

    def _note(self, container: Any, items: Iterable[Any]) -> None:
        """Count new items of a container; the containers among them cannot be changed any more."""
        facts = self._facts[id(container)]
        if facts.is_sealed:
            raise RefusedError("a container that is changed after it was put into another")
        for item in items:
            facts.items += 1
            held = self._facts.get(id(item)) if isinstance(item, _CONTAINERS) else None
            if held is facts:
                raise RefusedError("a container that holds itself")
            if held is not None:
                held.is_sealed = True
                facts.depth, facts.items = max(facts.depth, held.depth + 1), facts.items + held.items
        if facts.depth > MOST_NESTED or facts.items > MOST_ITEMS:
            raise RefusedError(f"containers nested {facts.depth} deep with {facts.items:,} items")

    def append(self, items: list[Any]) -> None:
        """Add items to the list on top."""
        target, items = self.top((list,)), [self._used(item) for item in items]
        self._note(target, items)
        target.extend(items)

    def add(self) -> None:
        """Add the values above the last mark to the set below."""
        items = [self._used(item) for item in self.pop_to_mark()]
        target = self.top((set,))
        self._note(target, items)
        target.update(keys(items))

    def set_items(self, items: list[Any]) -> None:
        """Add keys and values, in turn, to the dict on top."""
        target, items = self.top((dict,)), [self._used(item) for item in items]
        self._note(target, items)
        target.update(zip(keys(items[::2]), items[1::2], strict=True))

    def new_tuple(self, items: list[Any]) -> None:
        """Make a tuple; that of the state of an array, which has its dtype, keeps parts of the file."""
        if not any(type(item) is PlainDtype for item in items):
            items = [self._used(item) for item in items]
        self.put(tuple(items), items)

    def last(self, count: int) -> list[Any]:
        """That many values from the top, in their order."""
        return [self.pop() for _ in range(count)][::-1]

    def new_dict(self) -> None:
        """Make a dict of the keys and values above the last mark."""
        items = self.pop_to_mark()
        self.put({})
        self.set_items(items)

    def new_list(self) -> None:
        """Make a list of the values above the last mark."""
        items = [self._used(item) for item in self.pop_to_mark()]
        self.put(items, items)

    def new_frozenset(self) -> None:
        """Make a frozen set of the values above the last mark."""
        items = [self._used(item) for item in self.pop_to_mark()]
        self.put(frozenset(keys(items)), items)

    # Names, calls and states

    def refer(self, module: Any, name: Any) -> None:
        """Put a name on top."""
        self._stack.append(Global(str(module), str(name)))

    def instance(self, module: str, name: str) -> None:
        """Call a name with the values above the last mark."""
        self._call(Global(module, name), tuple(self.pop_to_mark()))

    def object(self) -> None:
        """Call the first of the values above the last mark with the others."""
        function, *arguments = self.pop_to_mark()
        self._call(function, tuple(arguments))

    def call(self) -> None:
        """Call the name below the top with the tuple on top."""
        arguments, function = self.pop(), self.pop()
        self._call(function, arguments)

    def _call(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, Global) or type(arguments) is not tuple:
            raise TypeError(f"a call of {type(function).__name__} with {type(arguments).__name__}")
        self._copied += sum(len(argument) for argument in arguments if type(argument) in {list, dict})
        if self._copied > self._size:
            raise RefusedError("copies of more items than the file has bytes")
        value = function(*arguments)
        self._pay(value)
        if isinstance(value, _CONTAINERS):
            self.put(value, value.values() if isinstance(value, dict) else value)
        else:
            self._stack.append(value)

    def build(self) -> None:
        """Give the array or dtype below the top its state."""
        state, target = self.pop(), self.pop()
        if type(target) is PlainDtype:
            target.set_state(state)
            self._stack.append(target)
        elif type(target) is Unset:
            array = target.filled(state)
            self._pay(array)
            self._stack.append(array)
            places = self._unset.pop(id(target), ())
            self._memo.update({place: array for place in places if self._memo[place] is target})
        else:
            raise RefusedError(f"a state for a {type(target).__name__}")

    def _pay(self, value: Any) -> None:
        """Count the bytes of an array or of encoded text."""
        self._budget -= getattr(value, "nbytes", 0) + (len(value) if isinstance(value, bytes) else 0)
        if self._budget < 0:
            raise RefusedError("arrays that are larger than the file, because they repeat parts of it")

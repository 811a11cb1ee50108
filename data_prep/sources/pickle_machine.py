"""The machine that the instructions of a pickle work on: a stack and a memo.

It makes text, bytes, numbers, lists, tuples, dicts and sets, and calls nothing but the functions of
`pickle_calls`, which make arrays. Nothing is imported, no attribute is set, no instance of any other class
is made. What it makes is bounded: objects, nesting, and how often a value may be repeated. A list or a dict
cannot be changed once it is in another, so that nothing holds itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, BinaryIO

from data_prep.sources.pickle_calls import Global, keys
from data_prep.sources.pickle_values import SCALARS, Array, PlainDtype, RefusedError

MOST_OBJECTS = 10**6
"""Containers, and entries of the memo; a pickle of arrays has some ten for a segment."""
MOST_NESTED = 50
MOST_ITEMS = 10**7
"""Items of all containers, each counted as often as it is reached from the outermost."""

_CONTAINERS = (list, dict, tuple, set, frozenset)


class _Facts:
    """What is known of a container: itself, how deep it nests, how many items it has in all."""

    __slots__ = ("depth", "is_sealed", "items", "value")

    def __init__(self, value: Any) -> None:
        self.value, self.depth, self.items, self.is_sealed = value, 1, 0, False


class Machine:
    """One pickle.

    Args:
        stream: at the pickle's beginning.
        size: bytes that the stream has.
    """

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._left = self._size = size
        self._budget = 4 * size + 2**16  # bytes that arrays and encoded text may take together
        self._copied = 0  # items of lists that were made into sets and dicts
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._facts: dict[int, _Facts] = {}

    def result(self) -> Any:
        """The only value that is left, at the end of the file."""
        (value,) = self._stack
        if self._left:
            raise ValueError(f"{self._left} bytes after its end")
        return value

    # What follows an instruction in the file

    def take(self, count: int) -> bytes:
        """The next bytes of the file."""
        if count > self._left:
            raise EOFError(f"{count} bytes wanted, {self._left} are left")
        content = self._stream.read(count)
        if len(content) != count:
            raise EOFError("the file became shorter")
        self._left -= count
        return content

    def counted(self, width: int) -> bytes:
        """Bytes whose number, of `width` bytes, comes before them."""
        return self.take(int.from_bytes(self.take(width), "little"))

    def line(self) -> bytes:
        """The next line, without its end."""
        content = self._stream.readline(self._left)
        if not content.endswith(b"\n"):
            raise EOFError("a line without its end")
        self._left -= len(content)
        return content[:-1]

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
        self._stack.append(self.top((*_CONTAINERS, *SCALARS, Array, Global)))

    # The memo

    def remember(self, index: int | None) -> None:
        """Note the value on top in the memo; None takes the next number."""
        if len(self._memo) >= MOST_OBJECTS:
            raise RefusedError(f"more than {MOST_OBJECTS:,} entries of the memo")
        value = self.pop()
        self._stack.append(value)
        self._memo[len(self._memo) if index is None else index] = value

    def recall(self, index: int) -> None:
        """Put a value of the memo on top."""
        self._stack.append(self._memo[index])

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
        target = self.top((list,))
        self._note(target, items)
        target.extend(items)

    def add(self) -> None:
        """Add the values above the last mark to the set below."""
        items = self.pop_to_mark()
        target = self.top((set,))
        self._note(target, items)
        target.update(keys(items))

    def set_items(self, items: list[Any]) -> None:
        """Add keys and values, in turn, to the dict on top."""
        target = self.top((dict,))
        self._note(target, items)
        target.update(zip(keys(items[::2]), items[1::2], strict=True))

    def new_tuple(self, items: list[Any]) -> None:
        """Make a tuple."""
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
        items = self.pop_to_mark()
        self.put(items, items)

    def new_frozenset(self) -> None:
        """Make a frozen set of the values above the last mark."""
        items = self.pop_to_mark()
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
        if type(target) not in {Array, PlainDtype}:
            raise RefusedError(f"a state for a {type(target).__name__}")
        target.set_state(state)
        self._pay(target)
        self._stack.append(target)

    def _pay(self, value: Any) -> None:
        """Count the bytes of an array or of encoded text."""
        self._budget -= getattr(value, "nbytes", 0) + (len(value) if isinstance(value, bytes) else 0)
        if self._budget < 0:
            raise RefusedError("arrays that are larger than the file, because they repeat parts of it")

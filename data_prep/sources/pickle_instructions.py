"""The instructions of pickles, protocols 0 to 5, and the loop that runs them."""

from __future__ import annotations

import codecs
import struct
import warnings
from collections.abc import Callable, Mapping
from mmap import mmap
from typing import Any

from data_prep.sources.pickle_machine import Machine
from data_prep.sources.pickle_values import RefusedError, plain_text

MOST_INSTRUCTIONS = 10**7


def run(content: mmap) -> Any:
    """The value that a pickle makes; its large arrays lie in the file.

    Args:
        content: the file, mapped so that writing changes memory alone.

    Raises:
        RefusedError: it asks for something that is neither an array nor a plain container.
        Exception: it is damaged: whatever the instruction raises.
    """
    machine = Machine(content)
    for _ in range(MOST_INSTRUCTIONS):
        code = machine.take(1)[0]
        if code == _STOP:
            return machine.result()
        if code in _LITERALS:
            machine.push(_LITERALS[code](machine))
        elif code in _ACTIONS:
            _ACTIONS[code](machine)
        else:
            raise ValueError(f"no instruction {code:#04x}")
    raise RefusedError(f"more than {MOST_INSTRUCTIONS:,} instructions")


def _text_line(machine: Machine) -> str:
    return machine.line().decode("utf-8")


def _integer_line(machine: Machine) -> int | bool:
    line = machine.line()
    return line == b"01" if line in {b"00", b"01"} else _integer(line)


def _integer(line: bytes) -> int:
    if len(line) > 40:
        raise ValueError(f"number of {len(line)} digits")
    return int(line)


def _string_line(machine: Machine) -> str:
    """Text of Python 2 in quotes, its bytes as Latin-1."""
    line = machine.line().strip()
    if len(line) < 2 or line[:1] not in b"'\"" or line[-1:] != line[:1]:
        raise ValueError("text without its quotes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a backslash before a letter that has no meaning after it
        return codecs.escape_decode(line[1:-1])[0].decode("latin1")


def _long(machine: Machine, width: int) -> int:
    content = machine.counted(width)
    if len(content) > 16:
        raise ValueError(f"number of {len(content)} bytes")
    return int.from_bytes(content, "little", signed=True)


def _check_protocol(number: int) -> None:
    if number > 5:
        raise ValueError(f"protocol {number}")


def _refuse(what: str) -> None:
    raise RefusedError(what)


_STOP = ord(".")

_LITERALS: Mapping[int, Callable[[Machine], Any]] = {
    code[0]: function
    for code, function in {
        b"N": lambda _: None,
        b"\x88": lambda _: True,
        b"\x89": lambda _: False,
        b"I": _integer_line,
        b"L": lambda machine: _integer(machine.line().removesuffix(b"L")),
        b"J": lambda machine: int.from_bytes(machine.take(4), "little", signed=True),
        b"K": lambda machine: machine.take(1)[0],
        b"M": lambda machine: int.from_bytes(machine.take(2), "little"),
        b"\x8a": lambda machine: _long(machine, 1),
        b"\x8b": lambda machine: _long(machine, 4),
        b"F": lambda machine: float(machine.line()),
        b"G": lambda machine: struct.unpack(">d", machine.take(8))[0],
        b"S": _string_line,
        b"T": lambda machine: machine.payload(4, is_text=True),
        b"U": lambda machine: machine.payload(1, is_text=True),
        b"V": lambda machine: machine.line().decode("raw-unicode-escape"),
        b"X": lambda machine: machine.counted(4).decode("utf-8", "surrogatepass"),
        b"\x8c": lambda machine: machine.counted(1).decode("utf-8", "surrogatepass"),
        b"\x8d": lambda machine: machine.counted(8).decode("utf-8", "surrogatepass"),
        b"B": lambda machine: machine.payload(4),
        b"C": lambda machine: machine.payload(1),
        b"\x8e": lambda machine: machine.payload(8),
        b"\x96": lambda machine: machine.payload(8),  # a bytearray, which nothing changes here
    }.items()
}
"""Instructions that put one value on the stack."""

_ACTIONS: Mapping[int, Callable[[Machine], Any]] = {
    code[0]: function
    for code, function in {
        b"\x80": lambda machine: _check_protocol(machine.take(1)[0]),
        b"\x95": lambda machine: machine.take(8),  # length of a frame
        b"(": Machine.mark,
        b"0": lambda machine: machine.pop(),
        b"1": Machine.drop_mark,
        b"2": Machine.again,
        b"p": lambda machine: machine.remember(_integer(machine.line())),
        b"q": lambda machine: machine.remember(machine.take(1)[0]),
        b"r": lambda machine: machine.remember(int.from_bytes(machine.take(4), "little")),
        b"\x94": lambda machine: machine.remember(None),
        b"g": lambda machine: machine.recall(_integer(machine.line())),
        b"h": lambda machine: machine.recall(machine.take(1)[0]),
        b"j": lambda machine: machine.recall(int.from_bytes(machine.take(4), "little")),
        b"]": lambda machine: machine.put([]),
        b"}": lambda machine: machine.put({}),
        b")": lambda machine: machine.new_tuple([]),
        b"\x8f": lambda machine: machine.put(set()),
        b"l": Machine.new_list,
        b"d": Machine.new_dict,
        b"t": lambda machine: machine.new_tuple(machine.pop_to_mark()),
        b"\x85": lambda machine: machine.new_tuple(machine.last(1)),
        b"\x86": lambda machine: machine.new_tuple(machine.last(2)),
        b"\x87": lambda machine: machine.new_tuple(machine.last(3)),
        b"\x91": Machine.new_frozenset,
        b"a": lambda machine: machine.append(machine.last(1)),
        b"e": lambda machine: machine.append(machine.pop_to_mark()),
        b"s": lambda machine: machine.set_items(machine.last(2)),
        b"u": lambda machine: machine.set_items(machine.pop_to_mark()),
        b"\x90": Machine.add,
        b"c": lambda machine: machine.refer(_text_line(machine), _text_line(machine)),
        b"\x93": lambda machine: machine.refer(*machine.last(2)),
        b"i": lambda machine: machine.instance(_text_line(machine), _text_line(machine)),
        b"o": Machine.object,
        b"R": Machine.call,
        b"\x81": Machine.call,
        b"b": Machine.build,
        b"P": lambda machine: _refuse(f"the outside object {plain_text(_text_line(machine))!r}"),
        b"Q": lambda machine: _refuse(f"an outside object named by a {type(machine.pop()).__name__}"),
        b"\x82": lambda _: _refuse("a registered extension"),
        b"\x83": lambda _: _refuse("a registered extension"),
        b"\x84": lambda _: _refuse("a registered extension"),
        b"\x92": lambda _: _refuse("an object with keyword arguments"),
        b"\x97": lambda _: _refuse("a buffer outside the file"),
        b"\x98": lambda _: _refuse("a buffer outside the file"),
    }.items()
}
"""All other instructions but the last, `_STOP`."""

from __future__ import annotations

import os
import pickle
import tracemalloc
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.sources import pickle_instructions, pickle_machine
from data_prep.sources.restricted_pickle import load_pickle
from drcli.errors import DataError

ARRAYS = {
    "floats": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "bytes": np.array([b"a", b"bc"]),
    "text": np.array(["a", "\u00e9"]),
    "objects": np.array(["a", 1, None], dtype=object),
    "empty": np.zeros((0, 3), dtype=np.int64),
}
PLAIN = {
    "list": [1, 2.5, True, None, "text", "\u00e9", b"bytes \xff", b""],
    "tuple": ((), (1,), (1, 2, 3, 4)),
    "sets": [{1, 2}, frozenset({3})],
    "dicts": [OrderedDict(a=1), defaultdict(list, b=[2])],
    "complex": 1 + 2j,
}

# As Python 2 and numpy 1 write np.array([1.0, -2.0]) under the key "train", the bytes as text.
PYTHON_2 = (
    b"\x80\x02}q\x00U\x05trainq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85q\x04"
    b"U\x01bq\x05\x87q\x06Rq\x07(K\x01K\x02\x85q\x08cnumpy\ndtype\nq\tU\x02f8q\nK\x00K\x01\x87q\x0bRq\x0c(K\x03"
    b"U\x01<q\rNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb\x89U\x10"
    + np.array([1.0, -2.0], dtype="<f8").tobytes()
    + b"q\x0ftq\x10bs."
)


class Calls:
    """Pickles to a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def write(folder: Path, content: bytes) -> Path:
    path = folder / "mosi_data.pkl"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_containers_come_back_from_every_protocol(tmp_path: Path, protocol: int) -> None:
    path = write(tmp_path, pickle.dumps({**ARRAYS, **PLAIN, "scalar": np.float32(2.5)}, protocol=protocol))
    loaded = load_pickle(path)
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
    assert {name: loaded[name] for name in PLAIN} == PLAIN
    assert loaded["scalar"] == np.float32(2.5)
    assert isinstance(loaded["scalar"], np.float32)


def test_both_spellings_of_numpys_modules_are_known(tmp_path: Path) -> None:
    content = pickle.dumps(ARRAYS["floats"], protocol=2)
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    assert new in content
    for spelling in (content, content.replace(new, old)):
        np.testing.assert_array_equal(load_pickle(write(tmp_path, spelling)), ARRAYS["floats"])


def test_pickles_of_python_2_are_read(tmp_path: Path) -> None:
    loaded = load_pickle(write(tmp_path, PYTHON_2))
    assert loaded["train"].tolist() == [1.0, -2.0]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_pickle_is_named_and_not_run(tmp_path: Path, protocol: int) -> None:
    written = tmp_path / "by_the_pickle"
    path = write(tmp_path, pickle.dumps({"train": Calls(os.mkdir, str(written))}, protocol=protocol))
    with pytest.raises(
        DataError, match=r"this pickle asks for \w+\.mkdir, which is not part of a numpy array"
    ) as caught:
        load_pickle(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert not written.exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", r"os\.system"),
        (b"c__builtin__\neval\n(S'1'\ntR.", r"__builtin__\.eval"),
        (b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.", r"builtins\.getattr"),
        (b"cnumpy\nload\n(S'x.npy'\ntR.", r"numpy\.load"),
        (b"cnumpy.core.multiarray\nfromfile\n.", r"numpy\.core\.multiarray\.fromfile"),
        (b"(S'true'\nios\nsystem\n.", r"os\.system"),
        (b"c_codecs\nencode\n(Vx\nVrot13\ntR.", "the codec 'rot13'"),
        (b"Psomewhere\n.", "the outside object 'somewhere'"),
    ],
)
def test_every_other_name_is_refused(tmp_path: Path, content: bytes, named: str) -> None:
    with pytest.raises(DataError, match=f"asks for {named}, "):
        load_pickle(write(tmp_path, content))


def test_a_dotted_name_does_not_reach_into_an_allowed_one(tmp_path: Path) -> None:
    name = b"ndarray.tofile"
    content = b"\x80\x04\x8c\x05numpy\x8c" + bytes([len(name)]) + name + b"\x93."
    with pytest.raises(DataError, match=r"asks for numpy\.ndarray\.tofile"):
        load_pickle(write(tmp_path, content))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"version https://git-lfs.github.com/spec/v1\nsize 1\n",
        b"<html>404</html>",
        b"hello",
        b"\x89HDF\r\n\x1a\n",
        b"PK\x03\x04",
        b"\x80\x09.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # bytes of 2^63 - 1
        b"cnumpy\nndarray\n((I99999999999999\ntI1\nitR.",
    ],
)
def test_what_is_no_pickle_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"cannot be read as a pickle .* Download it again"):
        load_pickle(write(tmp_path, content))


def test_a_pickle_cut_anywhere_is_refused(tmp_path: Path) -> None:
    content = pickle.dumps(ARRAYS, protocol=4)
    for length in range(0, len(content), 7):
        with pytest.raises(DataError, match="truncated"):
            load_pickle(write(tmp_path, content[:length]))


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"


def array_state(dtype: bytes, dtype_state: bytes, *, count: int = 2, data: bytes = b"S'12345678'\n") -> bytes:
    """A pickle, in text, of an array of `count` elements; every part may be wrong."""
    return RECONSTRUCT + b"(I1\n(I%d\ntcnumpy\ndtype\n(S'%s'\nI0\nI1\ntR%sI00\n%stb." % (
        count,
        dtype,
        dtype_state,
        data,
    )


SIMPLE = b"(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"


def test_the_text_of_an_array_is_read(tmp_path: Path) -> None:
    loaded = load_pickle(write(tmp_path, array_state(b"i4", SIMPLE)))
    assert loaded.tolist() == np.frombuffer(b"12345678", "<i4").tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (array_state(b"i4", SIMPLE, count=3), "8 bytes for 3 elements of int32"),
        (array_state(b"i4", SIMPLE, count=-2), r"array of shape \(-2,\)"),
        (array_state(b"O", SIMPLE), r"array of shape \(2,\) without its elements"),
        (array_state(b"O", SIMPLE, data=b"(lI1\na"), r"array of shape \(2,\) without its elements"),
        (array_state(b"U1", SIMPLE), "text of <U1 with -1 bytes per element"),
        (array_state(b"U1", SIMPLE.replace(b"-1", b"4")), "text with characters that Unicode does not have"),
        (array_state(b"i4", SIMPLE.replace(b"I3", b"I9")), "dtype with no state of a dtype"),
        (array_state(b"i4", SIMPLE).replace(b"R(I1", b"R(I7"), "to no state of an array"),
        (array_state(b"i4,O", SIMPLE), "asks for an array of 'i4,O'"),
        (array_state(b"M8", SIMPLE), "asks for an array of 'M8'"),
        (array_state(b"V8", b"(I3\nS'|'\nN(S'a'\nt(dI8\nI1\nI27\ntb"), "asks for an array of 'V8'"),
        (array_state(b"S4", b"(I3\nS'|'\nN(S'a'\nt(dI8\nI1\nI27\ntb"), "asks for an array of records"),
    ],
)
def test_an_array_takes_no_state_that_numpy_would_not_write(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_pickle(write(tmp_path, content))


def test_flags_that_make_numbers_pointers_have_no_effect(tmp_path: Path) -> None:
    pointers = b"(I3\nS'<'\nNNNI8\nI8\nI63\ntb"
    loaded = load_pickle(write(tmp_path, array_state(b"i8", pointers, count=1)))
    assert (loaded.dtype, loaded.dtype.hasobject) == (np.int64, False)


def test_random_damage_gives_a_message_or_an_object(tmp_path: Path) -> None:
    content, generator = pickle.dumps(ARRAYS, protocol=2), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[int(generator.integers(len(content)))] = int(generator.integers(256))
        try:
            load_pickle(write(tmp_path, bytes(damaged)))
        except DataError:
            refused += 1
    assert refused > 100


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.pkl: cannot be read"):
        load_pickle(tmp_path / "gone.pkl")


def memory(function: Any) -> int:
    """The largest number of bytes that Python and numpy held at a time while a function ran."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def put(index: int) -> bytes:
    return b"r" + index.to_bytes(4, "little")


def get(index: int) -> bytes:
    return b"j" + index.to_bytes(4, "little")


DEEP_TUPLE = b"\x80\x02)" + b"\x85" * 10_000
SHARED_TUPLES = b"\x80\x02K\x01\x85" + b"".join(put(i) + get(i) * 9 + b"(" + get(i) * 10 + b"t" for i in range(12))
NAME = b"cnumpy.core.multiarray\n_reconstruct\n"
MEGABYTE = b"\x80\x03B" + (10**6).to_bytes(4, "little") + b"x" * 10**6 + b"q\x00"

HOSTILE = {
    "a memo index of 2^31": (b"\x80\x02N" + put(2**31) + b"0" + get(2**31 - 1) + b".", "cannot be read as a pickle"),
    "a memo of many entries": (b"\x80\x04N" + b"\x94" * 20_001 + b".", "more than 20,000 entries of the memo"),
    "tuples nested 10,000 deep": (DEEP_TUPLE + b".", "containers nested 51 deep"),
    "lists nested 10,000 deep": (b"\x80\x02" + b"]" * 10_000 + b"a" * 9_999 + b".", "containers nested 51 deep"),
    "dicts nested 10,000 deep": (
        b"\x80\x02" + b"}K\x01" * 10_000 + b"}" + b"s" * 10_000 + b".",
        "containers nested 51 deep",
    ),
    "a list that holds itself": (b"\x80\x02]q\x00h\x00a.", "a container that holds itself"),
    "lists that hold each other": (b"\x80\x02]q\x00]q\x01h\x00ah\x00h\x01a0.", "changed after it was put into another"),
    "ten to the twelve items": (SHARED_TUPLES + b".", "containers nested .* items"),
    "a tuple of tuples as a key": (b"\x80\x02}K\x01\x85\x85K\x01s.", "a key of type tuple that holds others"),
    "a frozen set as a key": (b"\x80\x04}(K\x01\x91K\x01s.", "a key of type frozenset that holds others"),
    "bytes of 2^62": (
        b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b".",
        "4611686018427387904 bytes wanted",
    ),
    "text of 2^31": (b"\x80\x04X" + (2**31).to_bytes(4, "little") + b".", "2147483648 bytes wanted, 1 are left"),
    "a call of bytes(2^31)": (b"c__builtin__\nbytes\n(I2147483648\ntR.", "asks for the codec 'utf-8'"),
    "a call of list": (MEGABYTE + b"0cbuiltins\nlist\nh\x00\x85R.", r"asks for a call of builtins\.list"),
    "a number of a million digits": (b"I" + b"9" * 1_000_000 + b"\n.", "number of 1000000 digits"),
    "a number of a million bytes": (
        b"\x80\x02\x8b" + (10**6).to_bytes(4, "little") + b"\x7f" * 10**6 + b".",
        "number of",
    ),
    "many lists": (b"\x80\x02(" + b"]" * 20_001 + b"l.", "more than 20,000 containers"),
    "many instructions": (b"\x80\x02" + b"N0" * 40_000 + b"N.", "more than 80,000 instructions"),
    "many sets of one list": (
        b"\x80\x02](" + b"K\x01" * 1000 + b"eq\x000" + b"c__builtin__\nset\nh\x00\x85R0" * 100 + b"h\x00.",
        "copies of more items than the file has bytes",
    ),
    "text encoded again and again": (
        b"\x80\x02X" + (10**6).to_bytes(4, "little") + b"x" * 10**6 + b"q\x000"
        b"c_codecs\nencode\nq\x01h\x00X\x06\x00\x00\x00latin1\x86q\x02R0" + b"h\x01h\x02R0" * 10 + b"N.",
        "larger than the file",
    ),
    "a state for a function": (NAME + b"(lb.", "a state for a Global"),
    "a changed name": (NAME + b"N}S'__defaults__'\nNs\x86b.", "a state for a Global"),
    "two negative sizes": (
        RECONSTRUCT + b"(I1\n(I-2\nI-1\ntcnumpy\ndtype\n(S'i4'\ntRI00\nS'12345678'\ntb.",
        r"shape \(-2",
    ),
    "a huge shape without values": (
        RECONSTRUCT + b"(I1\n(I0\nL4611686018427387904L\ntcnumpy\ndtype\n(S'i4'\ntRI00\nS''\ntb.",
        "array of 2 axes and 0 elements",
    ),
    "a shape of empty text": (
        RECONSTRUCT + b"(I1\n(I1000000000\ntcnumpy\ndtype\n(S'S0'\ntRI00\nS''\ntb.",
        "0 bytes for 1000000000 elements",
    ),
    "an array of arrays": (
        RECONSTRUCT + b"(I1\n(I1\ntcnumpy\ndtype\n(S'O'\ntRI00\n(" + array_state(b"i4", SIMPLE)[:-1] + b"ltb.",
        "an array of arrays or containers",
    ),
    "two pickles in one file": (b"\x80\x02N.\x80\x02N.", "4 bytes after its end"),
    "an odd codec": (b"c_codecs\nencode\n(Vx\nVpunycode\ntR.", "the codec 'punycode'"),
    "a codec that is no text": (b"c_codecs\nencode\n(Vx\nI1\ntR.", "the codec '1'"),
    "a name no terminal can show": (b"\x80\x04\x8c\x03\xed\xa0\x80\x8c\x01\n\x93.", r"asks for \\ud800\.\\n, which"),
    "no mark": (b"\x80\x02t.", "cannot be read as a pickle"),
    "nothing below the mark": (b"\x80\x02K\x01(a.", "a value is missing"),
}


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_pickle_is_refused_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    path = write(tmp_path, content)
    monkeypatch.setattr(pickle_machine, "MOST_OBJECTS", 20_000)  # the real limits take seconds to reach
    monkeypatch.setattr(pickle_instructions, "MOST_INSTRUCTIONS", 80_000)

    def refused() -> None:
        with pytest.raises(DataError, match=message) as caught:
            load_pickle(path)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1000

    if len(content) < 10_000:
        assert memory(refused) < 20 * 2**20
    else:
        refused()


@pytest.mark.parametrize("codec", ["latin1", "latin-1", "ascii", "utf8", "utf-8"])
def test_plain_codecs_are_known(tmp_path: Path, codec: str) -> None:
    content = b"c_codecs\nencode\n(Vabc\nV" + codec.encode() + b"\ntR."
    assert load_pickle(write(tmp_path, content)) == b"abc"


def test_what_a_pickle_may_call_is_the_same_after_an_attempt_to_change_it(tmp_path: Path) -> None:
    for name in (b"_codecs\nencode\n", b"numpy\ndtype\n", b"collections\nOrderedDict\n", b"builtins\nset\n"):
        with pytest.raises(DataError, match="a state for a Global"):
            load_pickle(write(tmp_path, b"c" + name + b"}S'name'\nI1\nsb."))
    for protocol in (2, 5):
        loaded = load_pickle(write(tmp_path, pickle.dumps(ARRAYS["floats"], protocol=protocol)))
        np.testing.assert_array_equal(loaded, ARRAYS["floats"])


def test_text_of_python_2_keeps_every_byte_without_a_warning(tmp_path: Path) -> None:
    assert load_pickle(write(tmp_path, rb"S'\x00\xff\'\d" + b"\xe9'\n.")) == "\x00\xff'\\d\xe9"


def test_a_value_that_is_in_two_places_is_one(tmp_path: Path) -> None:
    shared = [1, 2]
    loaded = load_pickle(write(tmp_path, pickle.dumps({"a": shared, "b": shared}, protocol=4)))
    assert loaded == {"a": [1, 2], "b": [1, 2]}
    assert loaded["a"] is loaded["b"]


def test_a_pickle_that_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mosi_data.pkl")
    with pytest.raises(DataError, match=r"mosi_data\.pkl: is a pipe, not a file"):
        load_pickle(tmp_path / "mosi_data.pkl")

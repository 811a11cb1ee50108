from __future__ import annotations

import os
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
        DataError, match=r"this pickle asks for \w+\.mkdir, which is no part of a numpy array"
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
        (array_state(b"i4", SIMPLE, count=-2), "8 bytes for -2 elements of int32"),
        (array_state(b"O", SIMPLE), r"array of shape \(2,\) without its elements"),
        (array_state(b"O", SIMPLE, data=b"(lI1\na"), r"array of shape \(2,\) without its elements"),
        (array_state(b"U1", SIMPLE), "text with characters that there are none of"),
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

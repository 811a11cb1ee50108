"""Large arrays of a pickle lie in its file: what reading them takes, and what else long bytes may be."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from data_prep.sources.pickle_machine import LONG
from data_prep.sources.restricted_pickle import load_pickle
from drcli.errors import DataError

NUMBERS = np.random.default_rng(0).standard_normal((2000, 10, 100), dtype=np.float32)  # 8 MB


def python_2(array: np.ndarray) -> bytes:
    """An array as Python 2 and numpy 1 pickle it: its bytes are a string."""
    sizes = b"".join(b"J" + size.to_bytes(4, "little") for size in array.shape)
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85q\x02U\x01bq\x03\x87q\x04R"
        b"q\x05(K\x01(" + sizes + b"tq\x06cnumpy\ndtype\nq\x07U\x02f4q\x08K\x00K\x01\x87q\x09Rq\x0a(K\x03U\x01<q\x0bNNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0cb\x89T" + array.nbytes.to_bytes(4, "little") + array.tobytes()
    ) + b"q\x0dtq\x0eb."


def write(folder: Path, content: bytes) -> Path:
    path = folder / "mosi_data.pkl"
    path.write_bytes(content)
    return path


CONTENTS = {f"protocol {protocol}": pickle.dumps(NUMBERS, protocol=protocol) for protocol in (3, 4, 5)}


@pytest.mark.parametrize("content", [*CONTENTS.values(), python_2(NUMBERS)], ids=[*CONTENTS, "Python 2"])
def test_a_large_array_takes_no_memory_and_may_be_written_to_without_changing_the_file(
    tmp_path: Path, content: bytes
) -> None:
    path = write(tmp_path, content)
    tracemalloc.start()
    found = load_pickle(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < NUMBERS.nbytes // 20
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, NUMBERS)
    found[3] = 7
    assert (found[3] == 7).all()
    assert path.read_bytes() == content


def test_every_type_of_element_and_order_is_read_where_it_lies(tmp_path: Path) -> None:
    length = LONG // 2
    arrays = {
        "fortran": np.asfortranarray(np.arange(2 * length, dtype=np.int16).reshape(2, length)),
        "double": np.arange(length, dtype=np.float64),
        "swapped": np.arange(length, dtype=">f4"),
        "names": np.full(length, "a\u00e9"),
        "bytes": np.full(length, b"abc"),
        "flags": np.arange(length * 2) % 2 == 0,
    }
    for protocol in (2, 4, 5):
        found = load_pickle(write(tmp_path, pickle.dumps(arrays, protocol=protocol)))
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype.isnative


def test_an_array_in_two_places_is_one(tmp_path: Path) -> None:
    found = load_pickle(write(tmp_path, pickle.dumps([NUMBERS, {"again": NUMBERS}], protocol=4)))
    assert found[0] is found[1]["again"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_long_bytes_and_text_outside_arrays_are_bytes_and_text(tmp_path: Path, protocol: int) -> None:
    data, text = bytes(range(256)) * (LONG // 256), "\u00e9" * LONG
    values = [data, (data, text), {"k": data}, {text}, frozenset([data])]
    assert load_pickle(write(tmp_path, pickle.dumps(values, protocol=protocol))) == values
    assert load_pickle(write(tmp_path, pickle.dumps(data, protocol=protocol))) == data


def test_long_strings_of_python_2_are_text(tmp_path: Path) -> None:
    string = b"T" + LONG.to_bytes(4, "little") + b"\xe9" * LONG
    found = load_pickle(write(tmp_path, b"\x80\x02]q\x00(" + string + b"q\x01h\x01" + string + b"2e."))
    assert found == ["\u00e9" * LONG] * 4


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"


@pytest.mark.parametrize(
    "content",
    [RECONSTRUCT + b".", b"(" + RECONSTRUCT + b"l.", RECONSTRUCT + b"q\x00h\x00.", RECONSTRUCT + b"2.", b"]"],
    ids=["alone", "in a list", "from the memo", "twice", "nothing"],
)
def test_an_array_without_its_elements_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"cannot be read as a pickle"):
        load_pickle(write(tmp_path, content))


def test_an_entry_of_the_memo_that_was_replaced_before_the_state_stays(tmp_path: Path) -> None:
    state = b"(I1\n(I1\ntcnumpy\ndtype\n(S'i4'\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'1234'\ntb"
    content = b"\x80\x02(" + RECONSTRUCT + b"q\x00" + b"K\x05q\x000" + state + b"h\x00l."
    array, number = load_pickle(write(tmp_path, content))
    assert (array.tolist(), number) == (np.frombuffer(b"1234", "<i4").tolist(), 5)

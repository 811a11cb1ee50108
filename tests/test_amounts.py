from __future__ import annotations

import pytest

from drcli.amounts import counted, in_bytes


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 epochs"), (1, "1 epoch"), (2, "2 epochs"), (12_000, "12,000 epochs")]
)
def test_one_of_a_thing_has_no_s(count: int, words: str) -> None:
    assert counted(count, "epoch") == words


def test_a_noun_may_have_a_plural_of_its_own() -> None:
    assert [counted(n, "modality", "modalities") for n in (1, 3)] == ["1 modality", "3 modalities"]


@pytest.mark.parametrize(
    ("count", "words"),
    [
        *((0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (2_560_000, "2.6 MB")),
        *((999_949, "999.9 kB"), (999_950, "1.0 MB"), (573 * 10**9, "573.0 GB"), (3 * 10**12, "3.0 TB")),
    ],
)
def test_bytes_have_the_unit_that_suits_them(count: int, words: str) -> None:
    assert in_bytes(count) == words

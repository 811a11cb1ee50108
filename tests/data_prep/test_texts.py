from __future__ import annotations

import hashlib

import numpy as np
import pytest

from data_prep.texts.hashing import id_of, token_ids, words_of
from data_prep.texts.reading import Reading
from data_prep.texts.tfidf import tfidf
from drcli.errors import DataError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Peanut-Butter froyo!", ["peanut", "-", "butter", "froyo", "!"]),
        ("It's Grandma’s", ["it's", "grandma’s"]),
        ("#fun http://t.co/a1", ["#", "fun", "http", ":", "/", "/", "t", ".", "co", "/", "a1"]),
        ("早上好 world", ["早", "上", "好", "world"]),
        ("ﬁne Ａ", ["fine", "a"]),
        ("snake_case  \n", ["snake_case"]),
        ("", []),
    ],
)
def test_words_of_a_text(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_the_id_of_a_word_is_its_digest_and_no_word_has_the_paddings() -> None:
    digest = hashlib.blake2b(b"froyo", digest_size=8).digest()
    assert id_of("froyo", 30000) == 1 + int.from_bytes(digest, "little") % 29999
    assert {id_of(str(n), 5) for n in range(100)} == {1, 2, 3, 4}


def test_texts_are_cut_and_padded() -> None:
    ids, lengths, cut = token_ids(["a b a", "", "c"], vocabulary=1000, length=2)
    a, b, c = (id_of(word, 1000) for word in "abc")
    assert ids.dtype == np.int32
    assert (ids.tolist(), lengths, cut) == ([[a, b], [0, 0], [c, 0]], [2, 0, 1], 1)


@pytest.mark.parametrize(
    ("content", "text", "encoding", "replaced"),
    [
        (b"plain", "plain", "utf-8", 0),
        ("Grüße…".encode(), "Grüße…", "utf-8", 0),
        ("so…".encode("gb18030"), "so…", "gb18030", 0),
        ("\ufeffmarked".encode(), "marked", "utf-8-sig", 0),
        ("wide…".encode("utf-16"), "wide…", "utf-16", 0),
        (b"odd \xff\xff end", "odd \ufffd\ufffd end", "none", 2),
        (b"\xff\xfea", "\ufffd", "none", 1),
    ],
)
def test_every_encoding_is_read_or_what_was_replaced_is_counted(
    content: bytes, text: str, encoding: str, replaced: int
) -> None:
    reading, lines = Reading(), list[str]()
    assert reading.decode(content, "7.txt") == text
    assert reading.source() == {"encodings": {encoding: 1}, "replaced": {"7.txt": replaced} if replaced else {}}
    reading.report(lines.append)
    assert [line.split(" character")[0] for line in lines] == (
        [f"1 text, 7.txt first, with {replaced}"] if replaced else []
    )


def test_a_clean_text_is_one_line_without_entities() -> None:
    assert Reading().clean(" Grandma&#8217;s&nbsp;pie\r\n\tis\x00 &raquo; cafe\u0301 ") == "Grandma’s pie is » café"


@pytest.mark.slow
def test_tfidf_is_fitted_on_train_alone() -> None:
    texts = {"train": ["red pie", "red cake", "blue pie", "blue cake"], "test": ["red pie", "green green", ""]}
    found = tfidf(texts, 2)
    other = tfidf({**texts, "test": ["blue moon"] * 50}, 2)
    np.testing.assert_array_equal(found["train"], other["train"])
    np.testing.assert_array_equal(found["test"][0], found["train"][0])
    assert not found["test"][1:].any()


@pytest.mark.slow
def test_too_many_numbers_for_the_texts_are_refused() -> None:
    with pytest.raises(DataError, match=r"tfidf_dims = 9: 4 training texts with 2 words and pairs allow 1 at most"):
        tfidf({"train": ["pie", "pie", "cake", "cake"]}, 9)
    with pytest.raises(DataError, match="the training texts have no words that count"):
        tfidf({"train": ["pie", "cake"]}, 1)

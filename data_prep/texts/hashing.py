"""Token ids without a vocabulary: a word's id is a digest of it, so that no download and no fitting is needed.

Words that share an id cannot be told apart; of W words of a collection, about W^2 / (2 V) pairs do, V being the
number of ids. The ids of a text depend on nothing but the text.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PAD = 0
"""The id that fills the padding; no word has it."""

_IDEOGRAPH = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_TOKEN = re.compile(
    rf"[{_IDEOGRAPH}]|[^\W{_IDEOGRAPH}]+(?:['\N{{RIGHT SINGLE QUOTATION MARK}}][^\W{_IDEOGRAPH}]+)*|[^\w\s]"
)


def words_of(text: str) -> list[str]:
    """The tokens of a text: words in lower case, and characters of Chinese, Japanese, Korean and punctuation.

    Apostrophes within a word belong to it. Characters that look alike in compatibility forms are one (NFKC).
    """
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).lower())


def id_of(word: str, vocabulary: int) -> int:
    """Return the id of a word, 1 ... vocabulary - 1: the first 8 bytes of its BLAKE2b digest, modulo their number."""
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return 1 + int.from_bytes(digest, "little") % (vocabulary - 1)


def token_ids(texts: Sequence[str], *, vocabulary: int, length: int) -> tuple[NDArray[np.int32], list[int], int]:
    """Ids of texts, cut at a length.

    Args:
        texts: N texts.
        vocabulary: number of ids, 2 or more; 0 is the padding's.
        length: tokens L of a row.

    Returns:
        (N, L) ids, padded at the end; N numbers of valid ones; how many texts were cut.
    """
    ids = np.full((len(texts), length), PAD, np.int32)
    lengths, cut = [], 0
    known: dict[str, int] = {}
    for row, text in enumerate(texts):
        words = words_of(text)
        cut += len(words) > length
        kept = words[:length]
        for place, word in enumerate(kept):
            if word not in known:
                known[word] = id_of(word, vocabulary)
            ids[row, place] = known[word]
        lengths.append(len(kept))
    return ids, lengths, cut

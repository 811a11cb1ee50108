"""Text as TF-IDF, reduced by a truncated singular value decomposition; both fitted on training texts alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from drcli.errors import DataError

MIN_COUNT = 2
"""Texts that a word must be in to count."""

_WORD = r"(?u)\b\w+\b"  # of one letter too


def tfidf(texts: Mapping[str, Sequence[str]], dims: int, *, what: str = "texts") -> dict[str, NDArray[np.float32]]:
    """Vectors of texts, by split.

        weight of word w in text t: (1 + ln count(w, t)) (1 + ln((1 + n) / (1 + n_w)))

    with n_w of the n training texts holding w, words and pairs of words, each in `MIN_COUNT` texts at least. Rows are
    scaled to length 1 and projected on the first `dims` right singular vectors of the training rows.

    Args:
        texts: by split, "train" among them.
        dims: number of singular vectors.
        what: what the texts are called in messages.

    Returns:
        (N, dims) by split; a text without words that count is 0.

    Raises:
        DataError: the training texts have fewer words, or there are fewer texts.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(ngram_range=(1, 2), min_df=MIN_COUNT, sublinear_tf=True, token_pattern=_WORD)
    try:
        train = words.fit_transform(texts["train"])
    except ValueError as error:  # "empty vocabulary", or none left by min_df
        raise DataError(f"the training {what} have no words that count ({error})") from error
    if dims >= min(train.shape):
        raise DataError(
            f"dataset.prepare.tfidf_dims = {dims}: {train.shape[0]} training {what} with {train.shape[1]} words "
            f"and pairs allow {min(train.shape) - 1} at most; lower it"
        )
    reduction = TruncatedSVD(dims, algorithm="arpack", random_state=0).fit(train)
    # The solver's last digits depend on the number of threads.
    return {
        split: reduction.transform(words.transform(part)).round(6).astype(np.float32) for split, part in texts.items()
    }

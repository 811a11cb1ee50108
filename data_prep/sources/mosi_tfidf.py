"""Text as TF-IDF, reduced by a truncated singular value decomposition; both fitted on training transcripts alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from data_prep.sources.mosi_segments import Contents, Segment
from drcli.errors import DataError

_WORD = r"(?u)\b\w+\b"  # of one letter too

MIN_COUNT = 2
"""Transcripts that a word must be in to count."""


def with_tfidf(contents: Contents, dims: int) -> Contents:
    """Return the contents with text of `dims` numbers in place of the text that is there.

        weight of word w in transcript t: (1 + ln count(w, t)) (1 + ln((1 + n) / (1 + n_w)))

    with n_w of the n training transcripts holding w, words and pairs of words, each in `MIN_COUNT` transcripts at
    least. Rows are scaled to length 1 and projected on the first `dims` right singular vectors of the training rows.

    Args:
        contents: segments whose `words` are known.
        dims: number of singular vectors.

    Raises:
        DataError: the training transcripts have fewer words, or there are fewer transcripts.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(ngram_range=(1, 2), min_df=MIN_COUNT, sublinear_tf=True, token_pattern=_WORD)
    try:
        train = words.fit_transform(_transcripts(contents.splits["train"]))
    except ValueError as error:  # "empty vocabulary", or none left by min_df
        raise DataError(f"the training transcripts have no words that count ({error})") from error
    if dims >= min(train.shape):
        raise DataError(
            f"dataset.prepare.tfidf_dims = {dims}: {train.shape[0]} training transcripts with {train.shape[1]} words "
            f"and pairs allow {min(train.shape) - 1} at most; lower it"
        )
    reduction = TruncatedSVD(dims, algorithm="arpack", random_state=0).fit(train)
    # The solver's last digits depend on the number of threads.
    reduced = {
        split: reduction.transform(words.transform(_transcripts(segments))).round(6).astype(np.float32)
        for split, segments in contents.splits.items()
    }
    return replace(contents, splits=_with_text(contents.splits, reduced))


def _transcripts(segments: Sequence[Segment]) -> list[str]:
    return [segment.words or "" for segment in segments]


def _with_text(splits: Mapping[str, Sequence[Segment]], text: Mapping[str, np.ndarray]) -> dict[str, list[Segment]]:
    return {
        split: [
            replace(segment, streams={**segment.streams, "text": text[split][i : i + 1]})
            for i, segment in enumerate(segments)
        ]
        for split, segments in splits.items()
    }

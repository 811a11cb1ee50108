"""CMU-MOSI's text as TF-IDF of its transcripts, in place of the vectors that come with the features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from data_prep.sources.mosi_segments import Contents, Segment
from data_prep.texts.tfidf import tfidf


def with_tfidf(contents: Contents, dims: int) -> Contents:
    """Return the contents with text of `dims` numbers, as `tfidf` fits them, in place of the text that is there.

    Args:
        contents: segments whose `words` are known.
        dims: number of singular vectors.

    Raises:
        DataError: the training transcripts have fewer words, or there are fewer transcripts.
    """
    texts = {split: [segment.words or "" for segment in part] for split, part in contents.splits.items()}
    return replace(contents, splits=_with_text(contents.splits, tfidf(texts, dims, what="transcripts")))


def _with_text(splits: Mapping[str, Sequence[Segment]], text: Mapping[str, np.ndarray]) -> dict[str, list[Segment]]:
    return {
        split: [
            replace(segment, streams={**segment.streams, "text": text[split][i : i + 1]})
            for i, segment in enumerate(segments)
        ]
        for split, segments in splits.items()
    }

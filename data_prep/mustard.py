"""mustard: whether a line of a television series is sarcastic (Castro et al. 2019), from MultiBench's `sarcasm.pkl`.

690 lines in all, so that seeds differ by several points: report the spread. Words are vectors of GloVe (300), sound
of COVAREP (81) and face of OpenFace (371), aligned by word.
"""

from __future__ import annotations

from typing import ClassVar

from data_prep.segment_pickles import YesNoPickles


class Mustard(YesNoPickles):
    """Lines, modalities `text`, `audio` and `visual`, each a sequence (L, D) with its length."""

    name = "mustard"
    title = "MUStARD"
    files: ClassVar = {"sarcasm.pkl": False}

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in index order."""
        return ("sincere", "sarcastic")

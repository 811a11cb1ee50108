"""Texts of a download to numbers: decoding, token ids, TF-IDF; nothing is downloaded for it."""

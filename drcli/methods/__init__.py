"""Training methods, one per file; `base.py` is joint training and says what a method may change."""

"""Re-learning inside the loops of other packages, one file per package; none is imported unless its file is."""

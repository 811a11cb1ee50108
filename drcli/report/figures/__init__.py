"""Figures over runs, after the paper's: one a file, each with `figure(runs) -> matplotlib Figure`."""

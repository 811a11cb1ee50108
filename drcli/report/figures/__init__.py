"""Figures over runs, after the paper's: one a file, each with `figure(runs) -> matplotlib Figure`.

What they share: `class_map` draws representations by class, `wording` says what was drawn.
"""

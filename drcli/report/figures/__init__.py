"""One figure per file: `data` takes what is drawn from runs, `draw` draws it on axes or a figure in a theme.

The page, `drcli reproduce` and `drcli diagnose --figure` draw with the same functions.
"""

"""The paper's tables and figures: each a small YAML of runs, trained where missing, then drawn."""

"""The only training loop of drcli, and what surrounds it: assembling, saving, evaluating, grids."""

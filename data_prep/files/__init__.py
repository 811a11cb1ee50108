"""Finds and opens the files of a download: the lowest layer, which imports no other part of `data_prep`."""

"""Reads what was downloaded: lists, labels, pickles, folders; one file per format."""

"""The runs on disk and in tables: records, directories, comparison. Imports no torch."""

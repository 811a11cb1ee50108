"""The report of runs as one HTML page that needs no network: one file a section, `page` puts them together."""

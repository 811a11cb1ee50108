"""The report of runs as one HTML page that needs no network; `page` puts its sections together."""

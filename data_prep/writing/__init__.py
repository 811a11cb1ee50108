"""From clips to the prepared dataset: splits, workers, resuming, arrays, provenance."""

"""Mathematics that methods share."""

"""What may be wrong with the data that a family learns from."""

"""What models are made of: no losses, no data."""

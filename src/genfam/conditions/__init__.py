"""What every family may be given beside noise."""

"""The store: which run a configuration is, its record, and what of it is published."""

"""Hydra launcher `processes`: each run in a process of its own, a few at a time."""

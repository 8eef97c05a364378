"""The command line and the tuner."""

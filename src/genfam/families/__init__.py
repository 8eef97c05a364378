"""How to learn a source: base.py, codec.py, and one file per family."""

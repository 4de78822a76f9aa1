"""Compiled loops over the training text: `copies` and `words`."""

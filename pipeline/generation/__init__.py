"""Sampling rules and the engine that writes text; ids inside, text at the rim, no torch."""

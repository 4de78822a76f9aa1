"""Compiled loops of the n-gram model."""

"""Sampling rules and the fast generation engine."""

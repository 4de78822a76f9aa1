"""Perplexity and what explains it."""

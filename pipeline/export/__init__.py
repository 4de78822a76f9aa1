"""Writes models as files that other people and programs can use."""

"""Locates a source's files, on this machine or elsewhere, and reads their bytes; knows nothing about text."""

"""Turns a file's bytes into text or the columns of a table; knows nothing about documents."""

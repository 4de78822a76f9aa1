"""Compiled inner loops over UTF-8 text: bytes in, bytes or counts out; rows are given by offsets, as in Arrow.

All text is valid UTF-8, uint8 [bytes]. Row i of n is data[offsets[i] : offsets[i + 1]], offsets int64 [n + 1].
"""

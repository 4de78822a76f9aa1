"""The stages source and ingest: finding and opening files, from bytes to text or columns."""

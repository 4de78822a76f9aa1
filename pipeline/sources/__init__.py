"""The stages source and ingest: find and open files, decode text, read tables."""

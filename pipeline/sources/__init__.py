"""The stages source and ingest: find and open files (places/), turn bytes into text or columns (formats/)."""

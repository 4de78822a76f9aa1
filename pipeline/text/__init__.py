"""The documents table and its shards, and compiled loops over UTF-8 that several stages use."""

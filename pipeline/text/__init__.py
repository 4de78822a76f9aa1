"""The documents table and its files, and compiled loops over UTF-8 that several stages use."""

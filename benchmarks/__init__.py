"""The comparisons that the README quotes: each is one command, `python -m benchmarks.NAME`."""

"""The stage split: which text trains and which evaluates, buckets, and encoding as ids."""

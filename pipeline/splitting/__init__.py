"""The stage split: assigns text to training and evaluation, chooses buckets, and encodes the text as ids."""

"""What training reads: the dictionary, ids, samples, splits and batches."""

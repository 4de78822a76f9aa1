"""What training reads: dictionary, ids, samples, splits, batches."""

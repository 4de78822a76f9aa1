"""What training reads (the dictionary, ids, samples, splits and batches), and how `split` builds it."""

"""The dictionary, the bucketed splits, the batches."""

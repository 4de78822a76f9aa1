"""The stage train: the training loop, optimisers, learning-rate schedules, and resuming from checkpoints."""

"""The stage train: the loop, optimisers, schedules, checkpoints and resume."""

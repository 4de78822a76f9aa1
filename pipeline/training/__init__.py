"""The loop, optimisers and schedules."""

"""Models and what produced them: compare, trace and verify them, sync with MLflow, free disk space, sum up a run."""

"""From a registered model back to what produced it: trace, verify, sync with MLflow, and free disk space."""

"""MLflow runs, the stages' records, the registry and its gate."""

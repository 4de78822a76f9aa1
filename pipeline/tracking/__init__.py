"""Sends what the stages did to MLflow: runs, records, the model registry and its gate."""

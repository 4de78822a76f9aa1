"""MLflow runs, lineage, the registry and its gate; the only room with effects on the outside."""

"""params.yaml as frozen, validated types, and its only reader; dvc.lock as facts."""

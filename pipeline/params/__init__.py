"""Reads and validates params.yaml as frozen types; reads dvc.lock."""

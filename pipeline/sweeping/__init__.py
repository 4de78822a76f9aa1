"""Hyperparameter search: Optuna proposes, DVC experiments answer. The only room that loads Optuna."""

"""The pyfunc model that MLflow serves."""

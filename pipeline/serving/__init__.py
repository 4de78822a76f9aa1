"""The streaming HTTP server with its playground page, and the model that MLflow serves."""

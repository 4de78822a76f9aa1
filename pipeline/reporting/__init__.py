"""The report: what the pipeline's small files say of a model, or of several, as one HTML page."""

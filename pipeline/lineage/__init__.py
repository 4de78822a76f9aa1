"""From a model back to what made it, what MLflow lacks, and what nothing needs any more."""

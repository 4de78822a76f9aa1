"""From a model back to what produced it: trace, verify, sync, disk space."""

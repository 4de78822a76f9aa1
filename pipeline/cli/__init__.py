"""The `charlm` command: everything that is not a DVC stage."""

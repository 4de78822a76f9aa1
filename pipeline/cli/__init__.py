"""The charlm command: what is not a DVC stage."""

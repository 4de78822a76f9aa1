"""The network, and its saved form apart (readable without torch)."""

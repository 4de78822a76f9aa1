"""The network, its saved form (readable without torch), and the n-gram model."""
